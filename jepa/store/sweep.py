"""Read and write ``sweep.json``: the jobs of a sweep and the axes that it varies. No other module does.

The results are in the jobs' own folders. Without this file, only the names and the order of jobs would be lost.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jepa.files import Damaged, PathLike, read_json, write_json_atomic
from jepa.store.layout import SWEEP


@dataclass(frozen=True)
class PlannedJob:
    """A job's folder name, the overrides that make it, and its place in a search."""

    name: str
    overrides: tuple[str, ...] = ()
    trial: int | None = None


@dataclass(frozen=True)
class SweepPlan:
    """The plan of a sweep. axes: the keys that jobs differ in. jobs: all planned jobs. search: Optuna proposed them."""

    axes: tuple[str, ...] = ()
    jobs: tuple[PlannedJob, ...] = ()
    search: bool = False


def read_state(folder: PathLike) -> dict[str, Any] | None:
    """The content of ``sweep.json`` in ``folder``; None if there is no such file.

    Raises:
        Damaged: the file cannot be read, or its content is not a mapping.
    """
    path = Path(folder, SWEEP)
    try:
        state = read_json(path)
    except FileNotFoundError:
        return None
    if not isinstance(state, dict):
        raise Damaged("does not hold what a sweep writes there", path)
    return state


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write ``sweep.json``. Keep the jobs of earlier sittings, and the launcher chosen automatically ("auto").

    Raises:
        OSError: the file cannot be written.
    """
    try:
        earlier = read_state(folder) or {}
    except Damaged:  # lost jobs are added again when a command asks for them
        earlier = {}
    first = {"auto": earlier["auto"]} if "auto" in earlier else {}
    write_json_atomic(folder / SWEEP, {**first, **state, "jobs": {**earlier.get("jobs", {}), **state["jobs"]}})


def read_plan(folder: PathLike) -> SweepPlan | None:
    """The jobs and axes of the sweep in ``folder``; None if there is no ``sweep.json``. Raises Damaged."""
    state = read_state(folder)
    if state is None:
        return None
    axes, jobs = _mapping(state.get("axes")), _mapping(state.get("jobs"))
    entries = {str(name): _mapping(entry) for name, entry in jobs.items()}
    numbered = any("trial" in entry for entry in entries.values())
    search = numbered or (bool(axes) and not any(axes.values()))  # a search's axes have no values beforehand
    trials = {name for name, entry in entries.items() if search and "final_of" not in entry}
    planned = [
        PlannedJob(name, _texts(entry.get("overrides")), trial=_trial(entry, place) if name in trials else None)
        for place, (name, entry) in enumerate(entries.items())
    ]
    return SweepPlan(tuple(key.lstrip("+~").partition("@")[0] for key in axes), tuple(planned), search)


def _trial(entry: Mapping[str, Any], place: int) -> int:
    """A job's trial number. Earlier versions did not record it: use the number in the label, else the job's place."""
    if isinstance(entry.get("trial"), int):
        return int(entry["trial"])
    label = re.match(r"trial (\d+)", str(entry.get("label", "")))
    return int(label[1]) if label else place


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()
