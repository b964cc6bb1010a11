"""Kills: of a job, of a joblib worker, of the sweep itself, twice in a row; then all is as in an undisturbed sweep."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from sweep_helpers import finish, kill_hard, results, run, start, starts, wait_for, wait_held, workers

from jepa.store import locks

EPOCHS = ["trainer.epochs=6", "trainer.warmup_epochs=0"]
GRID = ["--multirun", "seed=range(4)", *EPOCHS, "sweep.name=grid"]
JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
Results = dict[str, dict[str, object]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The results of the grid when nothing happens to it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert run(GRID).code == 0
    finally:
        os.chdir(before)
    return results(folder / "outputs" / "grid")


def running_pids(folder: Path) -> list[int]:
    """The processes at work in the jobs' folders."""
    found = [locks.holder(path) for path in folder.glob("*") if path.is_dir() and not path.name.startswith(".")]
    return [record["pid"] for record in found if record]


@pytest.mark.parametrize(("launcher", "at_once"), [([], 1), (JOBLIB, 2)], ids=["basic", "joblib"])
def test_the_parent_killed_twice_in_the_middle_of_a_grid(
    in_tmp: Path, undisturbed: Results, launcher: list[str], at_once: int
) -> None:
    folder = in_tmp / "outputs" / "grid"
    for total in (4, 8):
        process = start([*GRID, *launcher], in_tmp, FAKE_HOLD=str(total))
        wait_held(folder, total, jobs=at_once)
        kill_hard(process)
        wait_for(lambda: not running_pids(folder))
    assert len(results(folder)) < 4
    resumed = finish(start([*GRID, *launcher], in_tmp))
    assert resumed.code == 0, resumed
    assert results(folder) == undisturbed
    begun = list(starts(folder).values())
    assert [runs.count(0) for runs in begun] == [1] * 4, "no work was thrown away"
    assert sum(len(runs) - 1 for runs in begun) == 2 * at_once, "each kill interrupted the jobs then running"


def test_a_killed_job_costs_only_itself_and_is_continued(in_tmp: Path, undisturbed: Results) -> None:
    folder = in_tmp / "outputs" / "grid"
    process = start([*GRID, *JOBLIB], in_tmp, FAKE_HOLD="4")
    wait_held(folder, 4, jobs=2)
    os.kill(running_pids(folder)[0], signal.SIGKILL)
    (folder / "go").touch()
    ended = finish(process)
    assert ended.code == 0, ended
    assert results(folder) == undisturbed
    assert sorted(map(len, starts(folder).values())) == [1, 1, 1, 2], "the others ran once"


def test_a_killed_joblib_worker_costs_no_finished_work(in_tmp: Path, undisturbed: Results) -> None:
    folder = in_tmp / "outputs" / "grid"
    process = start([*GRID, *JOBLIB], in_tmp, FAKE_HOLD="4")
    wait_held(folder, 4, jobs=2)
    held = set(running_pids(folder))
    os.kill(workers(process)[0], signal.SIGKILL)
    wait_for(lambda: held - set(running_pids(folder)))
    (folder / "go").touch()
    ended = finish(process)
    assert ended.code == 0, ended
    assert results(folder) == undisturbed
    assert all(runs.count(0) == 1 for runs in starts(folder).values()), "no job began anew"
    assert any(len(runs) > 1 for runs in starts(folder).values()), "work was continued"


def test_a_job_that_kills_its_process_every_time_is_given_up(in_tmp: Path) -> None:
    arguments = ["--multirun", "seed=0,1,2", *EPOCHS, *JOBLIB, "sweep.retries=1", "sweep.name=deadly"]
    ended = finish(start(arguments, in_tmp, FAKE_TROUBLE=json.dumps({"1": "kill", "2": "kill_once"})))
    assert ended.code == 1 and "2 of 3 done" in ended.out and "killed 2 times" in ended.out, ended


@pytest.mark.parametrize(
    ("launcher", "at_once", "number"),
    [([], 1, signal.SIGTERM), (JOBLIB, 2, signal.SIGINT), (JOBLIB, 2, signal.SIGHUP)],
    ids=["basic TERM", "joblib Ctrl-C", "joblib closed terminal"],
)
def test_a_signal_stops_the_workers_as_well_and_the_same_command_goes_on(
    in_tmp: Path, undisturbed: Results, launcher: list[str], at_once: int, number: signal.Signals
) -> None:
    folder = in_tmp / "outputs" / "grid"
    process = start([*GRID, *launcher], in_tmp, FAKE_HOLD="4")
    wait_held(folder, 4, jobs=at_once)
    if number == signal.SIGHUP:
        os.killpg(process.pid, number)  # a terminal tells all
    else:
        process.send_signal(number)
    stopped = finish(process)
    assert stopped.code == 130 and "the same command goes on" in stopped.err, stopped
    assert not running_pids(folder)
    resumed = run([*GRID, *launcher])
    assert resumed.code == 0 and results(folder) == undisturbed, resumed


def test_two_processes_share_one_grid(in_tmp: Path, undisturbed: Results) -> None:
    processes = [start(GRID, in_tmp, FAKE_EPOCH_S="0.1") for _ in range(2)]
    ended = [finish(process) for process in processes]
    assert [one.code for one in ended] == [0, 0], ended
    folder = in_tmp / "outputs" / "grid"
    assert results(folder) == undisturbed
    assert all(runs == [0] for runs in starts(folder).values()), "no job ran twice"
