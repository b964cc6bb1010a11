"""Sweeps of real, tiny runs through ``python -m jepa.run``: resumed to the bit, pruned, checked, run again alone."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest
from sweep_app import fake_run
from sweep_helpers import finish, kill_hard, start, wait_for

from jepa.run import command_line
from jepa.store import locks

TINY = [
    "dataset.size=48",
    "dataset.batch_size=8",
    "dataset.num_steps=4",
    "model.encoder.width_factor=1",
    "model.encoder.embedding_size=16",
    "trainer.epochs=4",
    "trainer.warmup_epochs=1",
    "trainer.log_every_steps=2",
    "checkpoint.every_epochs=1",
    "probe.fit_sequences=48",
    "probe.judge_sequences=40",
    "plots=false",
]
GRID = ["--multirun", "model=vicreg", "seed=0,1", *TINY, "sweep.name=grid"]
JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
CLOCKS = ("train_seconds", "sequences_per_second")


def metrics(folder: Path) -> dict[str, dict[str, Any]]:
    """By job hash, the metrics of every result that no clock has a part in."""
    found = {}
    for path in sorted(folder.glob("*/result.json")):
        result = json.loads(path.read_text())
        assert result["status"] == "finished" and result["config_hash"] == path.parent.name
        found[path.parent.name] = {key: value for key, value in result["metrics"].items() if key not in CLOCKS}
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a grid to which nothing has happened."""
    folder = tmp_path_factory.mktemp("undisturbed")
    ended = finish(start([*GRID, *JOBLIB], folder, app=["-m", "jepa.run"]), timeout_s=300)
    assert ended.code == 0, ended
    return folder / "outputs" / "grid"


def test_a_grid_of_real_runs_killed_and_continued_gives_the_same_bits(in_tmp: Path, undisturbed: Path) -> None:
    folder = in_tmp / "outputs" / "grid"
    process = start([*GRID, *JOBLIB], in_tmp, app=["-m", "jepa.run"])
    wait_for(lambda: list(folder.glob("*/checkpoints/last.pt")), timeout_s=200)
    kill_hard(process)
    ended = finish(start([*GRID, *JOBLIB], in_tmp, app=["-m", "jepa.run"]), timeout_s=300)
    assert ended.code == 0, ended
    assert metrics(folder) == metrics(undisturbed)


@pytest.mark.parametrize("launcher", ["basic", "joblib", "packed"])
def test_rerun_keeps_the_earlier_run_whole_and_the_claim_where_it_is(launcher: str, in_tmp: Path) -> None:
    arguments = ["--multirun", "model=vicreg", "seed=0", *TINY, "sweep.name=grid", f"hydra/launcher={launcher}"]
    assert command_line(arguments) == 0
    [first] = in_tmp.glob("outputs/grid/*/result.json")
    told = first.read_text()
    again = finish(start([*arguments, "rerun=true"], in_tmp, app=["-m", "jepa.run"]), timeout_s=300)
    assert again.code == 0 and again.out.count("finished ") == 1, again
    kept = first.parent.with_name(first.parent.name + ".1")
    assert set(in_tmp.glob("outputs/grid/*/config.yaml")) == {first.parent / "config.yaml", kept / "config.yaml"}
    assert (kept / "result.json").read_text() == told and (kept / "checkpoints" / "last.pt").is_file()
    assert not (kept / ".lease").exists() and locks.last_holder(first.parent)["left"]
    assert first.read_text() != told


def test_a_jobs_own_command_gives_the_same_numbers(
    in_tmp: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sorted(undisturbed.glob("*/result.json"))[0]
    words = shlex.split(json.loads(path.read_text())["command"])
    assert words[:3] == ["python", "-m", "jepa.run"] and not any("sweep" in word for word in words)
    assert command_line([*words[3:], "folder=alone", "progress=none"]) == 0
    result = json.loads(Path("alone/result.json").read_text())
    assert result["config_hash"] == path.parent.name
    alone = {key: value for key, value in result["metrics"].items() if key not in CLOCKS}
    assert alone == metrics(undisturbed)[path.parent.name]


def test_every_job_is_checked_before_the_first_one_starts(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["--multirun", "seed=0,1", *TINY, "model.sim_coeff=-1,25"]) == 2
    error = capsys.readouterr().err
    assert "model.sim_coeff" in error and len(error.strip().splitlines()) == 1
    assert not os.path.exists("outputs")


def test_a_pruned_run_leaves_a_result_that_says_so(in_tmp: Path) -> None:
    arguments = [*TINY, "model=vicreg", "trainer.probe_every_epochs=1", "sweep.n_trials=4", "sweep.name=search"]
    pruner = ["sweep.pruner=successive_halving", "+sweep.pruner_options={min_resource:1,reduction_factor:2}"]
    assert command_line(["+sweep=search", *arguments, *pruner, "optimizer.base_lr=0.01,0.1,1"]) == 0
    found = [json.loads(path.read_text()) for path in in_tmp.glob("outputs/search/*/result.json")]
    pruned = [result for result in found if result["status"] == "pruned"]
    assert pruned and all(0 < result["epochs_trained"] < result["epochs_total"] for result in pruned)
    assert all(result["metrics"]["prediction_rmse_px"] > 0 for result in pruned)
    assert any(result["status"] == "finished" for result in found)


def test_stock_sweepers_work_as_their_own_documentation_says(in_tmp: Path) -> None:
    epochs = ["trainer.epochs=1", "trainer.warmup_epochs=0"]
    basic = ["hydra/sweeper=basic", "seed=0,1", "hydra.sweep.dir=basic"]
    assert command_line(["--multirun", *basic, *epochs], fake_run) == 0
    assert len(list(in_tmp.glob("basic/*/result.json"))) == 2
    optuna = [
        "hydra/sweeper=optuna",
        "hydra/sweeper/sampler=random",
        "hydra.sweeper.n_trials=3",
        "hydra.sweeper.n_jobs=1",
    ]
    space = "optimizer.base_lr=tag(log, interval(0.01, 1))"
    assert command_line(["--multirun", *optuna, space, "hydra.sweep.dir=optuna", *epochs], fake_run) == 0
    assert len(list(in_tmp.glob("optuna/*/result.json"))) == 3
    assert Path("optuna/optimization_results.yaml").is_file()
    refused = ["--multirun", *basic, "hydra.sweep.dir=refused", "trainer.epochs=1,-1", "trainer.warmup_epochs=0"]
    assert command_line(refused, fake_run) == 2 and not Path("refused").exists()
