"""Read and write ``planning.json``: what ``python -m jepa.plan`` found for a run. No other module does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jepa.files import Damaged, PathLike, read_json, write_sealed_json
from jepa.store.layout import PLANNING

FORMAT = 1


def read_planning(folder: PathLike) -> dict[str, Any]:
    """The records of a run by planner; empty if there is no file.

    Raises:
        Damaged: the file cannot be read.
    """
    path = Path(folder, PLANNING)
    try:
        found = read_json(path)
    except FileNotFoundError:
        return {}
    planners = found.get("planners") if isinstance(found, dict) else None
    if not isinstance(planners, dict):
        raise Damaged("holds no planners", path)
    return planners


def add_planning(folder: PathLike, records: Mapping[str, Any]) -> None:
    """Add ``records`` by planner to the file, in place of earlier records of the same planners; atomically."""
    write_sealed_json(Path(folder, PLANNING), {"format": FORMAT, "planners": {**read_planning(folder), **records}})
