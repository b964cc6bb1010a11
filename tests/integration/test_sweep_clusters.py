"""Clusters for real: SLURM with daemons of its own on this machine, and Ray. Slow: ``make test-slow``."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sweep_app import checkpoint_epochs
from sweep_helpers import REPOSITORY, finish, kill_hard, results, run, start, starts, wait_for

from jepa.store import locks

pytestmark = pytest.mark.slow

GRID = ["--multirun", "seed=range(4)", "trainer.epochs=8", "trainer.warmup_epochs=0", "sweep.name=grid"]
EPOCH_S = "0.5"
SETUP = REPOSITORY / "tests" / "slurm" / "setup.sh"


@pytest.fixture(scope="module")
def slurm() -> Iterator[list[str]]:
    """A running one-node SLURM, and the arguments that send jobs there."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        pytest.skip("setting SLURM up needs Debian and root")
    subprocess.run(["sh", str(SETUP)], check=True)
    yield ["hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1"]
    subprocess.run(["sh", str(SETUP), "stop"], check=True)


@pytest.fixture(scope="module")
def ray() -> list[str]:
    """The arguments that send jobs to Ray, which the launcher starts."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install -e .[ray]")
    return ["hydra/launcher=ray", "hydra.launcher.ray.init.num_cpus=2"]


@pytest.fixture(params=["slurm", "ray"])
def cluster(request: pytest.FixtureRequest) -> list[str]:
    """Each engine in turn."""
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


@pytest.fixture
def undisturbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, object]]:
    """What the grid gives when nothing happens to it."""
    (tmp_path / "undisturbed").mkdir()
    monkeypatch.chdir(tmp_path / "undisturbed")
    assert run(GRID).code == 0
    monkeypatch.chdir(tmp_path)
    return results(tmp_path / "undisturbed" / "outputs" / "grid")


def holders(folder: Path) -> list[int]:
    """The processes at work in the jobs' folders."""
    found = [locks.holder(path) for path in folder.glob("*") if path.is_dir() and not path.name.startswith(".")]
    return [record["pid"] for record in found if record]


def test_a_killed_job_is_continued_and_the_others_go_on(
    tmp_path: Path, cluster: list[str], undisturbed: dict[str, dict[str, object]]
) -> None:
    folder = tmp_path / "outputs" / "grid"
    process = start([*GRID, *cluster], tmp_path, FAKE_HOLD="4")
    held = wait_for(lambda: list(folder.glob("*/held_4")))[0].parent
    os.kill(locks.holder(held)["pid"], signal.SIGKILL)
    (folder / "go").touch()
    ended = finish(process, timeout_s=240)
    assert ended.code == 0, ended
    assert results(folder) == undisturbed
    assert starts(folder)[held.name][1] > 0, "work was continued"


def test_a_killed_sweep_is_continued(
    tmp_path: Path, cluster: list[str], undisturbed: dict[str, dict[str, object]]
) -> None:
    folder = tmp_path / "outputs" / "grid"
    for kill in (1, 2):
        process = start([*GRID, *cluster], tmp_path, FAKE_EPOCH_S=EPOCH_S)
        wait_for(lambda kill=kill: sum(checkpoint_epochs(folder)) >= 4 * kill)
        kill_hard(process)
    ended = finish(start([*GRID, *cluster], tmp_path, FAKE_EPOCH_S=EPOCH_S), timeout_s=240)
    assert ended.code == 0, ended
    assert results(folder) == undisturbed
    assert all(runs.count(0) == 1 for runs in starts(folder).values()), "no work was thrown away"


def test_ctrl_c_stops_the_jobs_wherever_they_run(
    tmp_path: Path, cluster: list[str], undisturbed: dict[str, dict[str, object]]
) -> None:
    folder = tmp_path / "outputs" / "grid"
    process = start([*GRID, *cluster], tmp_path, FAKE_EPOCH_S=EPOCH_S)
    wait_for(lambda: sum(checkpoint_epochs(folder)) >= 4)
    process.send_signal(signal.SIGINT)
    stopped = finish(process, timeout_s=120)
    assert stopped.code == 130 and "the same command goes on" in stopped.err, stopped
    assert not holders(folder)
    ended = finish(start([*GRID, *cluster], tmp_path), timeout_s=240)
    assert ended.code == 0 and results(folder) == undisturbed, ended
