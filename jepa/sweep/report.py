"""What a sweep prints before and after: the plan of a dry run, and the list at the end."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from jepa.estimate import clock
from jepa.sweep import records
from jepa.sweep.execution import LauncherKind
from jepa.sweep.jobs import Job
from jepa.sweep.overview import Overview, estimate_seconds, measured

PLAN_LINES = 200


def plan(jobs: Sequence[Job], *, folder: Path, kind: LauncherKind, reuse: Sequence[str]) -> None:
    """Print what a sweep would do: how many jobs, what differs, what is done, and how long the rest may take.

    Args:
        jobs: all of them.
        folder: the sweep's.
        kind: of launcher.
        reuse: folders of earlier sweeps whose results would be taken over.
    """
    states = {job.hash: _state(job, reuse) for job in jobs}
    for job in jobs[:PLAN_LINES]:
        print(f"  {states[job.hash]:<11} {job.hash}  {job.label}")
    if len(jobs) > PLAN_LINES:
        print(f"  … and {len(jobs) - PLAN_LINES} more")
    counts = Counter(states.values())
    words = ", ".join(f"{count} {state}" for state, count in counts.most_common())
    print(f"{len(jobs)} jobs in {folder}: {words}; {kind.name} launcher, {kind.parallel} at a time")
    rest = [job for job in jobs if states[job.hash] not in (*records.DONE, "reused")]
    print("  " + estimate(rest, folders=[folder, *map(Path, reuse)], kind=kind))
    print("dry run: nothing has been started")


def estimate(rest: Sequence[Job], *, folders: Sequence[Path], kind: LauncherKind) -> str:
    """Words for the time that ``rest`` will take, from the results in ``folders``."""
    if not rest:
        return "nothing is left to run"
    results, known = measured(folders)
    seconds = estimate_seconds(rest, results, known, kind.parallel)
    if seconds is None:
        return "time: nothing has been measured yet"
    return f"time: about {clock(seconds)} for the {len(rest)} jobs left, from {len(results)} results"


def ending(overview: Overview, jobs: Sequence[Job], *, folder: Path, failed: Sequence[Job]) -> None:
    """Print the last lines: what failed and where to read why, the best, and where everything is."""
    for job in failed:
        print(f"failed: {job.label}: {overview.results[job.hash].get('error')}\n        {job.folder / 'run.log'}")
    done = overview.count(*records.DONE)
    pruned = overview.count("pruned")
    words = [f"{done} of {len(jobs)} done" + (f" ({pruned} pruned)" if pruned else "")]
    words += [f"{len(failed)} failed (the same command tries them again)"] if failed else []
    best = overview.best()
    words += [f"best {best[1]:.4g}: {best[0].label} ({best[0].hash})"] if best else []
    print(" · ".join(words))
    print(f"in {folder}")
    print(f"tables and figures: python -m jepa.results {shlex.quote(_short(folder))}")


def _state(job: Job, reuse: Sequence[str]) -> str:
    state = records.status(job.folder, job.hash, job.metric)
    if state in ("new", "interrupted", "failed") and job.damage:
        return "damaged"
    if state not in records.DONE and any(records.done_result(Path(f) / job.hash, job.hash, job.metric) for f in reuse):
        return "reused"
    return state


def _short(folder: Path) -> str:
    """The folder as a user would type it: relative, unless that is the longer way."""
    relative = os.path.relpath(folder)
    return str(folder) if relative.startswith("..") else relative
