"""What a sweep's own file says of it: the jobs it planned and the axes it varies."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

SWEEP_FILE = "sweep.json"


@dataclass(frozen=True)
class PlannedJob:
    """A job's folder name and the overrides that make it."""

    name: str
    overrides: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SweepPlan:
    """axes: the keys that jobs differ in. jobs: all that were planned. search: whether trials look for an optimum."""

    axes: tuple[str, ...] = ()
    jobs: tuple[PlannedJob, ...] = ()
    search: bool = False


def read_plan(folder: str) -> SweepPlan | None:
    """The plan in ``folder``; None where there is none that can be read."""
    try:
        with open(f"{folder}/{SWEEP_FILE}", "rb") as file:
            json.loads(file.read())
    except (OSError, ValueError):
        return None
    return SweepPlan()
