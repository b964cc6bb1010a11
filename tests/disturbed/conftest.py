"""One server, and what each scenario leaves undisturbed, for all tests of a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import SCENARIOS, Place, Server, Undisturbed, served, undisturbed


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A process that forks for every command."""
    with served(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def place(server: Server, tmp_path: Path) -> Callable[[str], Place]:
    """By a scenario's name, an empty folder to run it in."""

    def make(name: str) -> Place:
        (tmp_path / name).mkdir()
        return Place(server, tmp_path / name, SCENARIOS[name])

    return make


@pytest.fixture(scope="session")
def alone(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Undisturbed]:
    """By a scenario's name, what it leaves when nothing happens to it."""
    known: dict[str, Undisturbed] = {}

    def look(name: str) -> Undisturbed:
        if name not in known:
            known[name] = undisturbed(Place(server, tmp_path_factory.mktemp("alone") / name, SCENARIOS[name]))
        return known[name]

    return look
