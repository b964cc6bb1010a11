"""What a sweep's own file says of it: the jobs it planned and the axes it varies. A sweep is readable without it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from jepa.results.records import parse_override

SWEEP_FILE = "sweep.json"


@dataclass(frozen=True)
class PlannedJob:
    """A job's folder name, and the overrides that make it."""

    name: str
    overrides: tuple[str, ...] = ()
    trial: int | None = None  # its place in a search


@dataclass(frozen=True)
class SweepPlan:
    """axes: the keys that jobs differ in. jobs: all that were planned, by folder name. search: Optuna proposes them."""

    axes: tuple[str, ...] = ()
    jobs: tuple[PlannedJob, ...] = ()
    search: bool = False


class DamagedPlan(ValueError):
    """A sweep's own file that cannot be read; the text says why."""


def read_plan(folder: str) -> SweepPlan | None:
    """The plan in ``folder``; None where there is none. Raises DamagedPlan."""
    try:
        with open(f"{folder}/{SWEEP_FILE}", "rb") as file:
            state = json.loads(file.read())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
        raise DamagedPlan(f"cannot be read ({why})") from error
    if not isinstance(state, dict):
        raise DamagedPlan("does not hold what a sweep writes there")
    axes, jobs = state.get("axes"), state.get("jobs")
    axes = axes if isinstance(axes, dict) else {}
    jobs = jobs if isinstance(jobs, dict) else {}
    numbered = any(isinstance(job, dict) and "trial" in job for job in jobs.values())
    search = numbered or (bool(axes) and not any(axes.values()))  # a search's axes have no values beforehand
    planned = [
        PlannedJob(str(name), _overrides(job), trial=_trial(job, place) if search else None)
        for place, (name, job) in enumerate(jobs.items())
    ]
    return SweepPlan(tuple(parse_override(key)[0] for key in axes), tuple(planned), search)


def _trial(job: Any, place: int) -> int:
    """The job's number; of searches from before it stood there, from their labels, else the order of writing."""
    if isinstance(job, dict) and isinstance(job.get("trial"), int):
        return int(job["trial"])
    label = re.match(r"trial (\d+)", str(job.get("label", ""))) if isinstance(job, dict) else None
    return int(label[1]) if label else place


def _overrides(job: Any) -> tuple[str, ...]:
    found = job.get("overrides") if isinstance(job, dict) else None
    return tuple(str(text) for text in found) if isinstance(found, list) else ()
