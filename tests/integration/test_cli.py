"""The command line: what a run leaves, what the same command does again, what is refused, and with which exit code."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import jepa
from jepa import provenance
from jepa.run import command_line

TINY = [
    "dataset.size=32",
    "dataset.batch_size=8",
    "dataset.num_steps=4",
    "model.encoder.width_factor=1",
    "model.encoder.embedding_size=16",
    "trainer.epochs=2",
    "trainer.warmup_epochs=1",
    "trainer.log_every_steps=2",
    "probe.fit_sequences=32",
    "probe.judge_sequences=32",
    "progress=lines",
    "plots=false",
]
LEFT = {"config.yaml", "overrides.yaml", "run.log", "metrics.jsonl", "checkpoints", "plots", "probe.pt", "result.json"}


def jepa_run(*arguments: str) -> int:
    return command_line([*TINY, *arguments])


def result(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


def _write_result(folder: Path, **changes: Any) -> None:
    (folder / "result.json").write_text(json.dumps({**result(folder), **changes}))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder`` with what it holds."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def test_a_run_leaves_a_result_that_says_where_it_comes_from(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["dataset.noise=0.5", "seed=3", "plots=true"]
    assert jepa_run(*asked) == 0
    [folder] = (in_tmp / "outputs" / "runs").iterdir()
    assert folder.name.startswith("vicreg-")
    assert {path.name for path in folder.iterdir() if path.name[0] != "."} == LEFT
    found = result(folder)
    assert found["status"] == "finished" and found["error"] is None and found["seed"] == 3
    assert found["objective"] == found["metrics"]["prediction_rmse_px"] > 0
    assert found["config_hash"] == folder.name.removeprefix("vicreg-")
    assert found["config"]["dataset"]["noise"] == 0.5
    assert found["choices"]["model"] == "vicreg"
    assert found["command"] == " ".join(["python -m jepa.run", *TINY, *asked])
    assert {"jepa", "torch", "python"} == set(found["versions"])
    assert found["code"] == provenance.code()
    assert found["started"] <= found["finished"]
    assert len(found["metrics"]["prediction_rmse_px_per_step"]) == 4
    shown = capsys.readouterr().out
    assert "verdict" in shown and "always the centre" in shown


def test_the_same_command_again_shows_the_result_and_touches_nothing(
    in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert jepa_run("folder=here") == 0
    before = contents(in_tmp / "here")
    capsys.readouterr()
    assert jepa_run("folder=here", "device=cpu", "logger=wandb") == 0
    assert contents(in_tmp / "here") == before
    shown = capsys.readouterr().out
    assert "here holds the finished result" in shown
    assert f"{result(in_tmp / 'here')['metrics']['prediction_rmse_px']:.2f}" in shown
    assert "other code" not in shown
    _write_result(in_tmp / "here", code={"commit": None, "dirty": False, "fingerprint": "0" * 12})
    assert jepa_run("folder=here") == 0
    assert "made by other code (fingerprint 000000000000); rerun=true runs it again" in capsys.readouterr().out


def test_rerun_moves_the_earlier_run_aside(in_tmp: Path) -> None:
    assert jepa_run("folder=here") == 0
    before = contents(in_tmp / "here")
    assert jepa_run("folder=here", "rerun=true") == 0
    moved = contents(in_tmp / "here.1")
    assert json.loads(moved.pop("moved_aside.json"))["from"] == "here" and moved == before
    assert result(in_tmp / "here")["objective"] == result(in_tmp / "here.1")["objective"]
    assert jepa_run("folder=here", "rerun=true", "seed=1") == 0
    assert result(in_tmp / "here")["seed"] == 1 and result(in_tmp / "here.2")["seed"] == 0


def test_a_folder_that_holds_another_configuration_is_refused(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert jepa_run("folder=here") == 0
    before = contents(in_tmp / "here")
    assert jepa_run("folder=here", "dataset.noise=2", "seed=1") == 2
    error = capsys.readouterr().err
    assert "dataset.noise=0 there, 2 here" in error and "seed=0 there, 1 here" in error
    assert error.count("\n") == 1
    assert contents(in_tmp / "here") == before


def test_a_folder_at_work_is_left_alone(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fcntl = pytest.importorskip("fcntl")
    (in_tmp / "here").mkdir()
    with open(in_tmp / "here" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert jepa_run("folder=here") == 2
    assert "another process is at work" in capsys.readouterr().err
    assert contents(in_tmp / "here") == {}


def test_resume_false_and_true_insist(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert jepa_run("folder=here", "resume=true") == 2
    assert "holds no checkpoint" in capsys.readouterr().err
    assert not (in_tmp / "here").exists()
    assert jepa_run("folder=here") == 0
    (in_tmp / "here" / "result.json").unlink()  # as if it had been killed just before its end
    assert jepa_run("folder=here", "resume=false") == 2
    assert "holds an unfinished run" in capsys.readouterr().err
    assert jepa_run("folder=here", "resume=true") == 0


def test_a_failed_run_ends_with_1_and_is_tried_again(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    diverging = ["model=supervised", "optimizer.base_lr=1e30", "folder=here"]
    assert jepa_run(*diverging) == 1
    error = capsys.readouterr().err
    assert "not finite" in error and "run.log" in error and error.count("\n") == 1
    assert result(in_tmp / "here")["status"] == "failed"
    assert jepa_run(*diverging) == 1
    assert json.loads((in_tmp / "here" / "result.json.1").read_text())["status"] == "failed"


def test_a_crash_is_one_line_and_a_traceback_in_the_log(
    in_tmp: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr("jepa.training.trainer.Trainer.advance", crash)
    assert jepa_run("folder=here") == 1
    assert capsys.readouterr().err == "error: the run failed: RuntimeError: out of; memory; see here/run.log\n"
    assert "Traceback" in (in_tmp / "here" / "run.log").read_text()
    assert result(in_tmp / "here")["status"] == "failed"
    assert result(in_tmp / "here")["reason"] == "error"


def test_the_objective_is_the_metric_asked_for(in_tmp: Path) -> None:
    from jepa.config.compose import compose, register
    from jepa.run import run

    register()
    first = run(compose([*TINY, "folder=here", "objective=encoder_rmse_px"], with_hydra=True))
    assert first == result(in_tmp / "here")["metrics"]["encoder_rmse_px"]
    again = run(compose([*TINY, "folder=here", "objective=prediction_rmse_px"], with_hydra=True))
    assert again == result(in_tmp / "here")["metrics"]["prediction_rmse_px"]
    assert math.isfinite(again)


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["model=vicregg"],
        ["dataset.nois=1"],
        ["+dataset.nois=1"],
        ["dataset.noise=much"],
        ["seed=-1"],
        ["device=cuda:99"],
        ["init_from=gone.pt"],
        ["init_from=/usr"],
        ["init_from=/etc/hostname"],
        [f"init_from={'x' * 300}"],
        ["objective=loss/nosuch"],
        ["objective=loss/prediction", "model=simclr"],
        ["objective=loss/total", "model=identity"],
        ["objective=head_rmse_px"],
        ["objective=prediction_rmse_px_per_dot"],
        ["+on_probe._target_=jepa.sweep.pruning.NoSuch"],
        ["+on_probe._target_=jepa.sweep.pruning.TrialReporter"],
        ["+on_probe.epoch=3"],
        ["dataset.batch_size=1"],
        ["dataset.batch_size=1", "model=simclr"],
        ["model/predictor=rnn_burnin", "model.predictor.burn_in=9"],
        ["dataset.channels=3"],
        ["optimizer.schedule.warmup_epochs=9"],
        ["--multirun", "seed=0,1", "dataset.noise=0,much"],
        ["--multirun", "seed=0,1", "dataset.nois=0,1"],
        ["--multirun", "model=vicreg,simclrr"],
        ["--multirun", "model=vicreg,simclr", "objective=loss/variance"],
        ["--multirun", "seed=0,1", "init_from=/etc/hostname"],
        ["--multirun", "dataset.batch_size=1,2"],
        ["--multirun", "hydra/sweeper=basic", "seed=0,1", "dataset.noise=0,much"],
        ["--multirun", "hydra/sweeper=basic", "seed=0,1", "dataset.nois=0,1"],
        ["--multirun", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "dataset.nois=interval(0,1)"],
        ["--multirun", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "dataset.noise=interval(-1,1)"],
        ["+sweep=search", "sweep.pruner=median", "trainer.probe_every_epochs=1", "objective=train_seconds"],
        ["+sweep=nothing_of_that_name"],
    ],
    ids=" ".join,
)
def test_nothing_is_made_for_a_bad_configuration(
    arguments: list[str], in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert jepa_run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1, captured.err
    assert "error: " in captured.err and "Traceback" not in captured.err
    assert list(in_tmp.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_refused(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (in_tmp / "file").write_text("mine")
    assert jepa_run("folder=file/run") == 2
    assert jepa_run("folder=file") == 2
    assert jepa_run("folder=/proc/run") == 2
    assert capsys.readouterr().err.count("\n") == 3
    assert contents(in_tmp) == {"file": b"mine"}


def test_files_of_a_run_without_its_configuration_are_not_overwritten(in_tmp: Path) -> None:
    (in_tmp / "here").mkdir()
    (in_tmp / "here" / "metrics.jsonl").write_text("mine")
    assert jepa_run("folder=here") == 2
    assert contents(in_tmp / "here") == {"metrics.jsonl": b"mine"}


# --- many ----------------------------------------------------------------------------------------------------------


def test_hydras_own_sweeper_puts_jobs_into_folders_named_by_their_hash(in_tmp: Path) -> None:
    assert jepa_run("--multirun", "hydra/sweeper=basic", "seed=0,1", "progress=none") == 0
    folders = [path for path in (in_tmp / "outputs" / "multirun").iterdir() if path.is_dir()]
    assert sorted(result(folder)["seed"] for folder in folders) == [0, 1]
    assert all(result(folder)["config_hash"] == folder.name for folder in folders)
    assert all(Path(result(folder)["config"]["folder"]).resolve() == folder for folder in folders)


# --- other processes -----------------------------------------------------------------------------------------------


def process(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "jepa.run", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        **options,
    )


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_the_same_command_continues(stop: signal.Signals, in_tmp: Path) -> None:
    long = [*TINY, "dataset.size=800", "trainer.epochs=40", "folder=here"]
    running = process(*long)
    deadline = time.monotonic() + 60
    while not (in_tmp / "here" / "metrics.jsonl").exists() or not (in_tmp / "here" / "metrics.jsonl").read_text():
        assert running.poll() is None and time.monotonic() < deadline, running.communicate()
        time.sleep(0.1)
    running.send_signal(stop)
    _, error = running.communicate(timeout=60)
    assert running.returncode == 130, error
    assert "Traceback" not in error
    assert (in_tmp / "here" / "checkpoints" / "last.pt").exists()
    assert not (in_tmp / "here" / "result.json").exists()


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"], ["--info", "defaults-tree"], ["--cfg", "hydra"]])
def test_help_and_configuration_are_shown_without_torch(arguments: list[str]) -> None:
    code = (
        "import sys; from jepa.run import command_line; code = command_line(sys.argv[1:]);"
        "sys.exit(code or ', '.join({'torch', 'wandb', 'matplotlib', 'optuna'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "jepa" in done.stdout


def test_help_names_groups_examples_and_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["--help"]) == 0
    text = capsys.readouterr().out
    for expected in (
        "model: ema, identity, idm, ldad, pldm, random, rssm",
        "--multirun",
        "sim_coeff",
        "--shell-completion",
        "Exit code",
    ):
        assert expected in text


def test_the_version_is_this_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["--version"]) == 0
    assert capsys.readouterr().out.startswith(f"jepa {jepa.__version__}, torch ")
