"""hydra/launcher=auto on machines that differ."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sweep_helpers import results, run

from jepa.sweep import auto, devices
from jepa.training import processor

ARGUMENTS = ["--multirun", "hydra/launcher=auto", "seed=0,1"]


@pytest.fixture(autouse=True)
def plain_cpu(monkeypatch: pytest.MonkeyPatch, in_tmp: Path) -> None:
    monkeypatch.setattr(devices, "visible_gpus", lambda: [])
    monkeypatch.setattr(devices, "cores", lambda: 4)
    monkeypatch.setattr(processor, "has_bf16", lambda: False)
    monkeypatch.setattr(auto.importlib.util, "find_spec", lambda name: object())


def test_nothing_is_chosen_unless_asked_for() -> None:
    assert auto.choose(["--multirun", "seed=0,1"]) == (["--multirun", "seed=0,1"], None)


def test_a_cpu_of_several_cores_gets_processes() -> None:
    arguments, note = auto.choose(ARGUMENTS)
    assert arguments == [
        "--multirun",
        "seed=0,1",
        "hydra/launcher=joblib",
        "trainer.compile=auto",
        "sweep.auto=['hydra/launcher=joblib','trainer.compile=auto']",
    ]
    assert note == "hydra/launcher=auto: hydra/launcher=joblib trainer.compile=auto"


def test_without_joblib_or_on_one_core_jobs_run_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto.importlib.util, "find_spec", lambda name: None)
    assert "hydra/launcher=basic" in auto.choose(ARGUMENTS)[0]
    monkeypatch.undo()
    monkeypatch.setattr(devices, "visible_gpus", lambda: [])
    monkeypatch.setattr(devices, "cores", lambda: 1)
    assert "hydra/launcher=basic" in auto.choose(ARGUMENTS)[0]


def test_bf16_where_the_cpu_has_it_and_nobody_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "has_bf16", lambda: True)
    assert "precision=bf16" in auto.choose(ARGUMENTS)[0]
    assert "precision=bf16" not in auto.choose([*ARGUMENTS, "precision=fp32"])[0]


def test_what_a_sweep_file_says_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "has_bf16", lambda: True)
    assert "precision=bf16" not in auto.choose([*ARGUMENTS, "+sweep=precision"])[0]  # one of its axes
    assert "precision=bf16" in auto.choose([*ARGUMENTS, "+sweep=quick"])[0]


def test_compilation_is_left_as_it_was_given() -> None:
    arguments, _ = auto.choose([*ARGUMENTS, "trainer.compile=false"])
    assert arguments[2:-1] == ["trainer.compile=false", "hydra/launcher=joblib"]


def test_gpus_get_packs_one_process_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "visible_gpus", lambda: ["0", "1"])
    assert auto.choose(ARGUMENTS)[0][-5:-1] == [
        "hydra/launcher=packed",
        "hydra.launcher.num_workers=2",
        "precision=bf16",
        "trainer.cuda_graph=true",
    ]
    assert "trainer.cuda_graph=true" not in auto.choose([*ARGUMENTS, "trainer.cuda_graph=false"])[0]
    on_cpu = auto.choose([*ARGUMENTS, "device=cpu"])[0]
    assert "hydra/launcher=joblib" in on_cpu and "trainer.cuda_graph=true" not in on_cpu


def test_a_sweep_begun_on_a_gpu_goes_on_without_one(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "visible_gpus", lambda: ["0"])
    begun = ["--multirun", "seed=0,1", "hydra/launcher=auto", *EPOCHS]
    chosen = auto.choose(begun)[0][-1].partition("=")[2]
    assert "trainer.cuda_graph=true" in chosen
    monkeypatch.setattr(devices, "visible_gpus", lambda: [])
    assert run([*begun[:-3], *EPOCHS, "hydra/launcher=packed", "precision=bf16", f"sweep.auto={chosen}"]).code == 0
    again = run(begun)
    assert again.code == 0 and "as when the sweep began" in again.out and "cuda_graph" not in again.out, again


EPOCHS = ["trainer.epochs=1", "trainer.warmup_epochs=0"]


@pytest.mark.parametrize(
    "arguments",
    [["--multirun", "seed=0,1"], ["+sweep=search", "model=vicreg,idm", "sweep.n_trials=1"]],
    ids=["grid", "searches"],
)
def test_a_sweep_goes_on_with_the_choice_it_was_begun_with(
    arguments: list[str], in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*arguments, *EPOCHS, "hydra/launcher=auto"]
    monkeypatch.setattr(devices, "cores", lambda: 1)
    monkeypatch.setattr(processor, "has_bf16", lambda: True)
    first = run(arguments)
    assert first.code == 0 and "hydra/launcher=auto: hydra/launcher=basic precision=bf16" in first.out, first
    folders = sorted(in_tmp.glob("outputs/*"))
    before = {folder: results(folder) for folder in folders}
    kept = [json.loads((folder / "sweep.json").read_text()) for folder in folders]
    assert all(state["auto"] == ["hydra/launcher=basic", "precision=bf16", "trainer.compile=auto"] for state in kept)
    assert all("sweep.auto" not in state["command"] for state in kept)

    monkeypatch.setattr(processor, "has_bf16", lambda: False)  # the next machine
    monkeypatch.setattr(devices, "cores", lambda: 4)
    again = run(arguments)
    assert again.code == 0 and "hydra/launcher=basic precision=bf16" in again.out, again
    assert "as when the sweep began" in again.out, again
    assert sorted(in_tmp.glob("outputs/*")) == folders and {key: results(key) for key in folders} == before
    assert "precision=bf16" not in auto.choose([*arguments, "precision=fp32"])[0], "what is asked for stands"
