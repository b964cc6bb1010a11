"""SIGKILL at any moment and at any operation on a file: the same command then ends as if nothing had happened.

``JEPA_TEST_SEED=123 pytest -m slow tests/disturbed/test_kills.py`` repeats a run of it; its seed is printed.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest
from harness import Command, Place, Undisturbed, case_seed, contents, differences, files, finished_results

KILLS = {"single": 60, "grid": 45, "search": 45, "search-tpe": 10, "packed": 30, "joblib": 10}  # 200
IN_A_ROW = 3  # at most, before the command is left to end


@pytest.mark.slow
@pytest.mark.parametrize("name", KILLS)
def test_any_kill(name: str, place: Callable[[str], Place], alone: Callable[[str], Undisturbed]) -> None:
    kill_and_compare(place(name), alone(name), random.Random(f"{case_seed()} {name}"), KILLS[name])


@pytest.mark.parametrize("name", ["single", "grid"])
def test_a_few_kills(name: str, place: Callable[[str], Place], alone: Callable[[str], Undisturbed]) -> None:
    kill_and_compare(place(name), alone(name), random.Random(f"{case_seed()} {name}"), 3)


def kill_and_compare(place: Place, alone: Undisturbed, generator: random.Random, kills: int) -> None:
    """Kill the scenario's command ``kills`` times in all, a few times in a row from each fresh start."""
    faults: list[str] = []
    while kills > 0:
        story: list[str] = []
        faults += one_series(place, alone, generator, min(kills, generator.randint(1, IN_A_ROW)), story)
        kills -= max(1, sum("died" in words for words in story))
    assert not faults, f"{len(faults)} faults:\n" + "\n".join(faults)


def one_series(place: Place, alone: Undisturbed, generator: random.Random, kills: int, story: list[str]) -> list[str]:
    """Start anew, kill, let the command end, and compare; what is wrong then, and ``story``: what was done."""
    place.clear()
    kept: dict[str, bytes] = {}
    faults = []
    for _ in range(kills):
        words, command = disturbed(place, alone, generator)
        story.append(f"{words}: {command.code}")
        command.wait_gone()
        now = finished_results(place.folder)
        if not now.items() >= kept.items():
            faults.append(f"a finished result is lost or changed: {command.said}")
        kept = now
        place.look()
    last = place.run()
    last.wait_gone()
    place.look()
    if last.code != 0:
        faults.append(last.said)
    if not finished_results(place.folder).items() >= kept.items():
        faults.append(f"a finished result was made again: {last.said}")
    faults += differences(contents(place.folder), alone.contents)[:20]
    if left := files(place.folder) - alone.files:
        faults.append(f"left behind: {sorted(left)}")
    return [f"{story}: {fault}" for fault in faults]


def disturbed(place: Place, alone: Undisturbed, generator: random.Random) -> tuple[str, Command]:
    """Start the command, kill one of its processes on the way, and wait for its end; what was done, in words."""
    if generator.random() < 0.5:
        kill_at, leader = generator.randint(1, alone.operations), generator.random() < 0.5
        command = place.run(kill_at=kill_at, kill_leader=leader)
        died = " died" if command.operations >= kill_at else ""
        return f"{'leader' if leader else 'process'}{died} at operation {kill_at} of {alone.operations}", command
    command = place.start()
    seconds = generator.uniform(0, alone.seconds)
    time.sleep(seconds)
    processes = list(command.processes())
    if not processes:
        return f"ended within {seconds:.3f} s", command.wait()
    victim = generator.choice([command.pid, *processes])
    command.kill(victim)
    return f"{'leader' if victim == command.pid else 'process'} died after {seconds:.3f} s", command.wait()
