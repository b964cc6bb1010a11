"""Sweeps of real, tiny runs through ``hydra/launcher=packed``: one program, killed, interrupted, stock sweepers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from sweep_helpers import finish, start, wait_for
from test_sweep_real import CLOCKS, TINY

GRID = ["--multirun", "model=vicreg", "seed=0,1,2", *TINY]
PACKED = ["hydra/launcher=packed", "trainer.epochs=12"]


def results(folder: Path) -> dict[str, dict[str, Any]]:
    """By job hash, the results of a sweep."""
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(folder.glob("*/result.json"))}


def numbers(folder: Path) -> dict[str, dict[str, Any]]:
    """By job hash, the metrics that no clock has a part in."""
    return {
        name: {key: value for key, value in result["metrics"].items() if key not in CLOCKS}
        for name, result in results(folder).items()
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a packed grid to which nothing has happened."""
    folder = tmp_path_factory.mktemp("undisturbed")
    ended = finish(start([*GRID, *PACKED, "sweep.name=grid"], folder, app=["-m", "jepa.run"]), timeout_s=300)
    assert ended.code == 0, ended
    return folder / "outputs" / "grid"


def children(process: subprocess.Popen[str]) -> list[int]:
    """The processes that the sweep has forked."""
    command = ["ps", "-o", "pid=", "--ppid", str(process.pid)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return [int(text) for text in found.stdout.split()]


def test_three_jobs_run_as_one_pack_each_in_its_own_folder(undisturbed: Path) -> None:
    found = results(undisturbed)
    assert len(found) == 3
    assert {result["seed"] for result in found.values()} == {0, 1, 2}
    for name, result in found.items():
        assert result["status"] == "finished" and result["config_hash"] == name
        assert result["pack"] == {"size": 3, "executor": "loop", "common_random_numbers": False}


@pytest.mark.parametrize("whom", ["the pack", "the sweep"])
def test_a_killed_pack_goes_on_from_its_checkpoints(whom: str, in_tmp: Path, undisturbed: Path) -> None:
    folder = in_tmp / "outputs" / "grid"
    command = [*GRID, *PACKED, "sweep.name=grid"]
    process = start(command, in_tmp, app=["-m", "jepa.run"])
    wait_for(lambda: len(list(folder.glob("*/checkpoints/last.pt"))) == 3, timeout_s=200)
    victims = children(process)
    for victim in victims if whom == "the pack" else [process.pid]:
        os.kill(victim, signal.SIGKILL)
    ended = finish(process, timeout_s=300)
    if whom == "the sweep":
        wait_for(lambda: not any(Path(f"/proc/{victim}").exists() for victim in victims), timeout_s=60)
        ended = finish(start(command, in_tmp, app=["-m", "jepa.run"]), timeout_s=300)
    assert ended.code == 0, ended
    assert numbers(folder) == numbers(undisturbed)


def test_ctrl_c_stops_the_pack_and_the_same_command_goes_on(in_tmp: Path, undisturbed: Path) -> None:
    folder = in_tmp / "outputs" / "grid"
    command = [*GRID, *PACKED, "sweep.name=grid"]
    process = start(command, in_tmp, app=["-m", "jepa.run"])
    wait_for(lambda: len(list(folder.glob("*/checkpoints/last.pt"))) == 3, timeout_s=200)
    os.kill(process.pid, signal.SIGINT)
    ended = finish(process, timeout_s=120)
    assert ended.code == 130, ended
    ended = finish(start(command, in_tmp, app=["-m", "jepa.run"]), timeout_s=300)
    assert ended.code == 0, ended
    assert numbers(folder) == numbers(undisturbed)


def test_hydras_own_sweeper_packs_too(in_tmp: Path, undisturbed: Path) -> None:
    command = [*GRID, *PACKED, "hydra/sweeper=basic", "hydra.sweep.dir=stock"]
    ended = finish(start(command, in_tmp, app=["-m", "jepa.run"]), timeout_s=300)
    assert ended.code == 0, ended
    assert numbers(in_tmp / "stock") == numbers(undisturbed)


def test_a_pack_size_that_makes_no_sense_is_refused(in_tmp: Path) -> None:
    command = [*GRID, "hydra/launcher=packed", "hydra.launcher.pack_size=0"]
    ended = finish(start(command, in_tmp, app=["-m", "jepa.run"]))
    assert ended.code == 2 and "hydra.launcher.pack_size=0" in ended.err and ended.err.count("\n") == 1, ended
    assert not list(in_tmp.glob("outputs/*/*/*"))
