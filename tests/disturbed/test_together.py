"""Two processes start one thing at the same moment: both end well, and everything is there once."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Command, Place, Undisturbed, contents, differences, files, trials

LEAD_S = 0.3  # for both to be ready and wait for the moment


def start_together(place: Place, *arguments: str) -> list[Command]:
    """Run the scenario's command twice at once, to the end of both."""
    at = time.monotonic() + LEAD_S
    command = [*place.scenario.arguments, *arguments]
    started = [place.server.start(command, place.folder, at=at) for _ in range(2)]
    for one in started:
        one.wait()
        one.wait_gone()
    return started


def run_once_by_one(place: Place, alone: Undisturbed) -> None:
    """One of two runs wins; the other says in a line that it is too late, or shows the result."""
    place.clear()
    first, second = sorted(start_together(place), key=lambda command: command.code or 0)
    said = f"{first.said}\n{second.said}"
    assert first.code == 0, said
    if second.code != 0:
        assert second.code == 2 and second.err.startswith("error: ") and second.err.count("\n") == 1, said
        assert "another process is at work in it" in second.err or "has just worked in it" in second.err, said
    assert not differences(contents(place.folder), alone.contents), said
    assert files(place.folder) <= alone.files, said


def sweep_shared_by_both(place: Place, alone: Undisturbed, *arguments: str) -> None:
    """Both of two sweeps end well, and no job or trial was made twice."""
    place.clear()
    started = start_together(place, *arguments)
    said = "\n".join(command.said for command in started)
    assert [command.code for command in started] == [0, 0], said
    assert not any("Traceback" in command.said for command in started), said
    results = {name: value for name, value in contents(place.folder).items() if name.endswith("result.json")}
    assert len(results) == place.scenario.jobs, said
    if "search" not in place.scenario.name:
        assert not differences(contents(place.folder), alone.contents), said


def total_is_right(journal: Path, number: int) -> None:
    """Every trial has ended, none stands twice."""
    found = trials(journal)
    assert [trial["state"] for trial in found] == ["COMPLETE"] * number
    assert len({trial["job"] for trial in found}) == number


def test_a_run_started_twice(place: Callable[[str], Place], alone: Callable[[str], Undisturbed]) -> None:
    run_once_by_one(place("single"), alone("single"))


@pytest.mark.slow
def test_a_run_started_twice_again_and_again(
    place: Callable[[str], Place], alone: Callable[[str], Undisturbed]
) -> None:
    here = place("single")
    for _ in range(20):
        run_once_by_one(here, alone("single"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["grid", "packed", "joblib"])
def test_a_grid_started_twice(name: str, place: Callable[[str], Place], alone: Callable[[str], Undisturbed]) -> None:
    here = place(name)
    for _ in range(3 if name == "joblib" else 6):
        sweep_shared_by_both(here, alone(name))


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["journal", "sqlite"])
def test_a_search_started_twice(
    storage: str, place: Callable[[str], Place], alone: Callable[[str], Undisturbed]
) -> None:
    here = place("search-plain")
    for _ in range(6):
        url = f"sqlite:///{here.folder}/study.db"
        sweep_shared_by_both(here, alone("search-plain"), *([f"sweep.storage={url}"] if storage == "sqlite" else []))
        total_is_right(
            here.folder / "study.db" if storage == "sqlite" else here.folder / "outputs/swept/study.journal",
            here.scenario.jobs,
        )
