"""A search followed by final runs of its best trial: what runs, with which values, and after a kill."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from sweep_helpers import finish, kill_hard, results, run, start, starts, wait_held

from jepa.results.cli import main

EPOCHS = ["trainer.epochs=4", "trainer.warmup_epochs=0"]
PROTOCOL = ["+sweep=protocol", "model=vicreg", *EPOCHS, "sweep.name=protocol", "sweep.n_trials=4"]
JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]


def configurations(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text())["config"] for path in sorted(folder.glob("*/result.json"))]


def test_the_best_trial_is_run_again_with_new_seeds_on_the_test_stream(in_tmp: Path) -> None:
    done = run([*PROTOCOL, "dataset.static_noise=1.25"])
    assert done.code == 0 and "7 of 7 done" in done.out, done
    folder = in_tmp / "outputs" / "protocol"
    found = configurations(folder)
    trials = [config for config in found if config["probe"]["judge_stream"] == "validation"]
    finals = [config for config in found if config["probe"]["judge_stream"] == "test"]
    assert len(trials) == 4 and {config["seed"] for config in trials} == {0}
    assert sorted(config["seed"] for config in finals) == [1, 2, 3]
    best = min(trials, key=lambda config: abs(math.log10(config["optimizer"]["base_lr"]) + 1))
    for config in finals:
        for section in ("model", "optimizer", "dataset", "trainer"):
            assert config[section] == best[section], section
    entries = json.loads((folder / "sweep.json").read_text())["jobs"]
    assert sorted(entry["trial"] for entry in entries.values() if "trial" in entry) == [0, 1, 2, 3]
    [parent] = {entry["final_of"] for entry in entries.values() if "final_of" in entry}
    assert entries[parent]["trial"] in range(4)
    assert run([*PROTOCOL, "dataset.static_noise=1.25"]).code == 0
    assert all(begun == [0] for begun in starts(folder).values()), "a second command runs nothing"


def test_a_protocol_killed_in_trials_and_in_final_runs_equals_an_undisturbed_one(in_tmp: Path) -> None:
    assert run([*PROTOCOL, "sweep.name=undisturbed"]).code == 0
    folder = in_tmp / "outputs" / "protocol"
    for total in (4, 18):  # epochs of all jobs together: among the trials; after their 16, in the final runs
        process = start([*PROTOCOL, *JOBLIB], in_tmp, FAKE_HOLD=str(total))
        wait_held(folder, total, jobs=2)
        kill_hard(process)
    ended = finish(start([*PROTOCOL, *JOBLIB], in_tmp))
    assert ended.code == 0 and "7 of 7 done" in ended.out, ended
    assert results(folder) == results(in_tmp / "outputs" / "undisturbed")


def test_final_runs_are_a_grid_and_may_change_the_data_set(in_tmp: Path) -> None:
    """As a benchmark does: a search on one condition, then every condition with every seed."""
    grid = ["sweep.final.axes.seed=[5,6]", "+sweep.final.axes.dataset.static_noise=[0,0.5,2]", "dataset.static_noise=1"]
    done = run([*PROTOCOL, *grid])
    assert done.code == 0 and "10 of 10 done" in done.out, done
    found = [c for c in configurations(in_tmp / "outputs" / "protocol") if c["probe"]["judge_stream"] == "test"]
    points = sorted((config["seed"], config["dataset"]["static_noise"]) for config in found)
    assert points == [(seed, noise) for seed in (5, 6) for noise in (0.0, 0.5, 2.0)]
    assert len({config["optimizer"]["base_lr"] for config in found}) == 1


@pytest.mark.parametrize(("margin", "kept"), [(0.999, True), (0.0, False)])
def test_the_presets_own_values_stay_unless_a_trial_is_better_by_the_margin(
    in_tmp: Path, capsys: pytest.CaptureFixture[str], margin: float, kept: bool
) -> None:
    told = [f"sweep.preset_margin={margin}", "sweep.try_preset=true", "optimizer.base_lr=interval(0.01,2)"]
    done = run([*PROTOCOL, *told, "sweep.n_trials=6"])
    assert done.code == 0 and ("less than 99.9 % better (sweep.preset_margin)" in done.out) == kept, done
    found = configurations(in_tmp / "outputs" / "protocol")
    trials = [c["optimizer"]["base_lr"] for c in found if c["probe"]["judge_stream"] == "validation"]
    best = min(trials, key=lambda rate: abs(math.log10(rate) + 1))
    assert len(trials) == 6 and best != 1.4, "conf/optimizer/lars.yaml holds 1.4"
    finals = {c["optimizer"]["base_lr"] for c in found if c["probe"]["judge_stream"] == "test"}
    assert finals == {1.4 if kept else best}
    assert main([str(in_tmp / "outputs" / "protocol"), "--json", str(in_tmp / "rows.json")]) == 0
    assert f"base_lr={finals.pop():.4g} (" in (in_tmp / "rows.json").read_text(), "the report names the same winner"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sweep.preset_margin=0.05"], ["sweep.preset_margin=0.05", "sweep.try_preset=true"]),
        (["sweep.preset_margin=1"], ["sweep.preset_margin=1", "less than 1"]),
        (["sweep.final.axes={seed:[0,1]}"], ["sweep.final", "seed=0", "seeds of their own"]),
        (["+sweep.final.axis={seed:[1]}"], ["sweep.final", "'axis'", "'axes'"]),
        (["+sweep.final.overrides.optimizer.base_lr=1"], ["sweep.final", "optimizer.base_lr", "dimension"]),
        (["+sweep.final.overrides.probe.judge_strem=test"], ["probe.judge_stream"]),
        (["sweep.final.axes={seed:[]}"], ["seed"]),
        (["sweep.n_trials=null"], ["sweep.final", "sweep.n_trials"]),
    ],
)
def test_bad_final_runs_are_refused_before_anything_runs(in_tmp: Path, arguments: list[str], words: list[str]) -> None:
    refused = run([*PROTOCOL, *arguments])
    assert refused.code == 2 and len(refused.err.strip().splitlines()) == 1, refused
    assert all(word in refused.err for word in words), refused
    assert not list(in_tmp.glob("outputs/*"))


def test_every_cell_is_a_search_of_its_own(in_tmp: Path) -> None:
    done = run([*PROTOCOL[:1], "model=vicreg,idm", "dataset.static_noise=0,1.25", *EPOCHS, "sweep.n_trials=1"])
    assert done.code == 0, done
    names = sorted(path.name for path in (in_tmp / "outputs").iterdir())
    cells = [(model, noise) for model in ("vicreg", "idm") for noise in (0, 1.25)]
    assert names == sorted(f"protocol-{model}-static_noise_{noise}-epochs_4" for model, noise in cells)
    assert all(len(list((in_tmp / "outputs" / name).glob("*/result.json"))) == 4 for name in names)
