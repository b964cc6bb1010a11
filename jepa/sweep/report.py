"""The lines that a sweep prints before it starts (the plan of a dry run) and at its end."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig

from jepa import provenance
from jepa.estimate import clock
from jepa.store.layout import RUN_LOG
from jepa.store.result import DONE
from jepa.sweep import devices, records
from jepa.sweep.calibrate import seconds_per_sequence
from jepa.sweep.execution import LauncherKind
from jepa.sweep.jobs import Job
from jepa.sweep.overview import Overview, charged_seconds, estimate_seconds, measured, sample_of

PLAN_LINES = 200
TIMED_SEQUENCES = 500_000  # a few steps are timed before a sweep that trains on so many sequences, an hour or so
UNKNOWN = "time: nothing has been measured yet"
REMEDY_GRID = "rerun=true runs them again"
REMEDY_SEARCH = "sweep.name=… starts the search anew"


def plan(
    jobs: Sequence[Job], *, folder: Path, kind: LauncherKind, reuse: Sequence[str], configs: Mapping[str, DictConfig]
) -> None:
    """Print the plan of a sweep: its jobs with their labels and states, and an estimate of the time left.

    Args:
        jobs: all jobs of the sweep.
        folder: the sweep's folder.
        kind: the launcher.
        reuse: folders of earlier sweeps whose results the sweep would copy.
        configs: as in :func:`estimate`.
    """
    states = {job.hash: _state(job, reuse) for job in jobs}
    for job in jobs[:PLAN_LINES]:
        print(f"  {states[job.hash]:<11} {job.hash}  {job.label}")
    if len(jobs) > PLAN_LINES:
        print(f"  … and {len(jobs) - PLAN_LINES} more")
    counts = Counter(states.values())
    words = ", ".join(f"{count} {state}" for state, count in counts.most_common())
    print(f"{_jobs(len(jobs))} in {folder}: {words}; {kind.name} launcher, {kind.parallel} at a time")
    say_other_code(jobs, REMEDY_GRID)
    rest = [job for job in jobs if states[job.hash] not in (*DONE, "reused")]
    print("  " + estimate(rest, folders=[folder, *map(Path, reuse)], kind=kind, configs=configs))
    print("dry run: nothing has been started")


def say_other_code(jobs: Sequence[Job], remedy: str) -> None:
    """Print how many finished results another version of the code made. ``remedy``: how to make them again."""
    results = [records.done_result(job.folder, job.hash, job.metric) for job in jobs]
    done = [result for result in results if result is not None]
    other = [result for result in done if provenance.made_by(result) == "other"]
    if other:
        codes = Counter(provenance.other_code(result) for result in other)
        shown = ", ".join(name for name, _ in codes.most_common(2)) + (", …" if len(codes) > 2 else "")
        print(f"{len(other)} of {len(done)} finished results were made by other code ({shown}); {remedy}", flush=True)


def estimate(
    rest: Sequence[Job], *, folders: Sequence[Path], kind: LauncherKind, configs: Mapping[str, DictConfig]
) -> str:
    """A line with the estimated time that the jobs ``rest`` take.

    Args:
        rest: the jobs left.
        folders: sweep folders whose results tell how long jobs take.
        kind: the launcher.
        configs: the configuration of one job for each model. A few steps of models without a result are timed with
            it. Empty: nothing is timed.
    """
    if not rest:
        return "nothing is left to run"
    results, known = measured(folders)
    there = {job.model for job in known.values() if sample_of(job, results[job.hash]) is not None}
    wanted = {job.model: configs[job.model] for job in rest if job.model not in there and job.model in configs}
    threads = devices.threads_per_job(kind.parallel)
    tried = seconds_per_sequence(wanted, threads=threads) if wanted else {}
    seconds = estimate_seconds(rest, results, known, kind.parallel, measured=tried)
    if seconds is None:
        return UNKNOWN
    sources = [f"{len(results)} results"] if there else []
    trained = sorted(model for model, cost in tried.items() if cost > 0)
    sources += [f"a few steps of {', '.join(trained)} just now"] if trained else []
    basis = f", from {' and '.join(sources)}" if sources else ""
    charged = charged_seconds(rest, results, known, measured=tried) or 0.0
    hours = _hours(charged * (1 if devices.visible_gpus() else threads))
    unit = "GPU-hours" if devices.visible_gpus() else "core-hours"
    return f"time: about {clock(seconds)}, {hours} {unit}, for the {_jobs(len(rest))} left{basis}"


def before_start(
    jobs: Sequence[Job], *, folder: Path, kind: LauncherKind, reuse: Sequence[str], configs: Mapping[str, DictConfig]
) -> None:
    """Print how long the jobs left will take, before the first one starts.

    A short sweep, whose jobs no result times, starts without: timing a few steps would take a good part of its time.
    """
    rest = [job for job in jobs if _state(job, reuse) not in (*DONE, "reused")]
    is_long = sum(job.workload.sequences for job in rest) >= TIMED_SEQUENCES
    words = estimate(rest, folders=[folder, *map(Path, reuse)], kind=kind, configs=configs if is_long else {})
    if rest and words != UNKNOWN:
        print(words, flush=True)


def _jobs(number: int) -> str:
    return "1 job" if number == 1 else f"{number} jobs"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2g}" if seconds < 36_000 else f"{seconds / 3600:.0f}"


def ending(overview: Overview, jobs: Sequence[Job], *, folder: Path, failed: Sequence[Job]) -> None:
    """Print the last lines: the failed jobs with their errors and logs, the counts, the best job, and the folder."""
    for job in failed:
        print(f"failed: {job.label}: {overview.results[job.hash].get('error')}\n        {job.folder / RUN_LOG}")
    done = overview.count(*DONE)
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
    if state not in DONE and any(
        records.earlier_result(records.place_in(folder, job.hash), job.hash, job.metric) for folder in reuse
    ):
        return "reused"
    return state


def _short(folder: Path) -> str:
    """The relative path of the folder; the folder unchanged if the relative path starts with ``..``."""
    relative = os.path.relpath(folder)
    return str(folder) if relative.startswith("..") else relative
