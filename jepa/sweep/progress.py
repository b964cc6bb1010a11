"""What a sweep shows while it runs: one line a running job and one for the whole, read from the jobs' own files."""

from __future__ import annotations

import logging
import math
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from jepa.sweep import lease, records
from jepa.sweep.jobs import Job

log = logging.getLogger(__name__)

LIVE_S = 1.0  # between two looks, on a terminal
LINES_S = 30.0  # between two lines that only say "still running", elsewhere
MAX_LINES = 16  # running jobs shown


class Overview:
    """The state of a set of jobs, re-read from their folders at every look; results, once seen, are remembered."""

    def __init__(self, *, parallel: int) -> None:
        """parallel: jobs side by side, for the estimate of the time left."""
        self.parallel = parallel
        self.jobs: dict[str, Job] = {}
        self.results: dict[str, dict[str, Any]] = {}
        self._outdated: dict[str, int | None] = {}

    def add(self, jobs: Iterable[Job]) -> None:
        """Watch these jobs as well."""
        for job in jobs:
            if job.hash not in self.jobs:
                self.jobs[job.hash] = job

    def forget(self, job: Job) -> None:
        """The job is about to be run again: the result that it has, and keeps until it starts, no longer counts."""
        self.results.pop(job.hash, None)
        self._outdated[job.hash] = records.result_version(job.folder)

    def settle(self) -> None:
        """No job will be run again: what its folder holds counts, a result from before included."""
        self._outdated.clear()
        self.look()

    def look(self) -> list[Job]:
        """Read results that are new; the jobs that have one since the last look."""
        found = []
        for job in list(self.jobs.values()):
            known = self.results.get(job.hash)
            if known is not None and known["status"] in records.DONE:
                continue
            outdated = self._outdated.get(job.hash)
            current = outdated is None or records.result_version(job.folder) != outdated
            result = records.read_result(job.folder, job.metric) if current else None
            if result is None:
                self.results.pop(job.hash, None)
            elif known is None or known.get("finished") != result.get("finished"):
                self.results[job.hash] = result
                found.append(job)
        return found

    def running(self) -> list[tuple[Job, dict[str, Any]]]:
        """Jobs at work, each with its latest records."""
        open_jobs = [job for job in list(self.jobs.values()) if job.hash not in self.results]
        return [(job, records.last_metrics(job.folder)) for job in open_jobs if lease.holder(job.folder) is not None]

    def count(self, *statuses: str) -> int:
        """Jobs whose result says one of ``statuses``."""
        return sum(result["status"] in statuses for result in list(self.results.values()))

    def best(self) -> tuple[Job, float] | None:
        """The finished job with the smallest objective."""
        finished = [
            (self.jobs[key], value["objective"]) for key, value in list(self.results.items()) if _finished(value)
        ]
        return min(finished, key=lambda pair: pair[1], default=None)

    def seconds_left(self) -> float | None:
        """An estimate from the training times so far; None before the first job has finished."""
        rest = [job for job in list(self.jobs.values()) if job.hash not in self.results]
        return estimate_seconds(rest, self.results, self.jobs, self.parallel)

    def summary(self, running: int) -> str:
        """The line for the whole sweep."""
        done, failed = self.count(*records.DONE), self.count("failed")
        waiting = len(self.jobs) - len(self.results) - running
        parts = [f"{done} of {len(self.jobs)} done", f"{running} running"]
        parts += [f"{waiting} waiting"] if waiting > 0 else []
        parts += [f"{self.count('pruned')} pruned"] if self.count("pruned") else []
        parts += [f"{failed} failed"]
        best = self.best()
        parts += [f"best {best[1]:.4g} ({best[0].label})"] if best else []
        left = self.seconds_left()
        parts += [f"{clock(left)} left"] if left else []
        return " · ".join(parts)


class Display:
    """Shows an :class:`Overview` from a thread of its own: a live block on a terminal, plain lines elsewhere."""

    def __init__(
        self,
        overview: Overview,
        *,
        mode: str,
        on_result: Callable[[Job], None] | None = None,
        stream: TextIO | None = None,
    ) -> None:
        """Args:
        overview: what to show.
        mode: ``live``, ``lines``, ``none``, or ``auto``: live on a terminal, lines elsewhere.
        on_result: called for every job whose result has appeared.
        stream: where to; standard output as it is now, whatever a job does to it later.
        """
        self._overview = overview
        self._on_result = on_result
        self._stream = stream or sys.stdout
        if mode == "auto":
            mode = "live" if self._stream.isatty() else "lines"
        self._mode = mode
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._show, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def say(self, line: str) -> None:
        """One plain line, at once."""
        print(line, file=self._stream, flush=True)

    def _show(self) -> None:
        if self._mode == "live":
            self._show_live()
        else:
            self._show_lines()

    def _new_results(self) -> list[Job]:
        found = self._overview.look()
        for job in found if self._on_result is not None else []:
            try:
                assert self._on_result is not None
                self._on_result(job)
            except Exception:  # the display goes on; whoever asked is asked again at the end of the batch
                log.exception("%s: its result could not be passed on", job.hash)
        return found

    def _show_live(self) -> None:
        from rich.console import Console, Group
        from rich.live import Live
        from rich.text import Text

        console = Console(file=self._stream)
        with Live(console=console, refresh_per_second=2, redirect_stdout=False, redirect_stderr=False) as live:
            while True:
                over = self._over.wait(LIVE_S)
                for job in self._new_results():
                    console.print(Text(result_line(job, self._overview.results[job.hash])))
                running = self._overview.running()
                lines = [running_line(job, metrics) for job, metrics in running[:MAX_LINES]]
                lines += [f"  … and {len(running) - MAX_LINES} more running"] if len(running) > MAX_LINES else []
                live.update(Group(*(Text(line) for line in [*lines, self._overview.summary(len(running))])))
                if over:
                    return

    def _show_lines(self) -> None:
        said = time.monotonic()
        while True:
            over = self._over.wait(LIVE_S)
            for job in self._new_results():
                if self._mode == "lines":
                    self.say(result_line(job, self._overview.results[job.hash]))
            if self._mode == "lines" and not over and time.monotonic() - said > LINES_S:
                said = time.monotonic()
                running = self._overview.running()
                for job, metrics in running[:MAX_LINES]:
                    self.say(running_line(job, metrics))
                self.say(self._overview.summary(len(running)))
            if over:
                return


def running_line(job: Job, metrics: dict[str, Any]) -> str:
    """One line about a job at work."""
    parts = []
    epoch = metrics.get("epoch")
    if epoch is not None:
        parts.append(f"epoch {epoch:.1f}" + (f" of {job.epochs:g}" if job.epochs else ""))
    if metrics.get("loss/total") is not None:
        parts.append(f"loss {metrics['loss/total']:.4g}")
    if metrics.get("prediction_rmse_px") is not None:
        parts.append(f"{metrics['prediction_rmse_px']:.3g} px")
    rate = metrics.get("sequences_per_second")
    if rate:
        parts.append(f"{rate:.0f} sequences/s")
        if epoch is not None and job.sequences and job.epochs:
            left = job.sequences * (1 - epoch / job.epochs) / rate
            parts.append(f"{clock(left)} left" if left > 0 else "judging")
    return f"  {job.hash} {job.label}: " + (" · ".join(parts) or "starting")


def result_line(job: Job, result: dict[str, Any]) -> str:
    """One line about a job that has ended."""
    place = f"{job.hash} {job.label}"
    if result["status"] == "failed":
        return f"failed   {place}: {result.get('error')} ({job.folder / 'run.log'})"
    words = f"{result.get('objective_metric', 'objective')} {_number(result.get('objective'))}"
    if result.get("verdict"):
        words += f" ({result['verdict']})"
    return f"{result['status']:<8} {place}: {words}"


def estimate_seconds(
    rest: Sequence[Job], results: dict[str, dict[str, Any]], jobs: dict[str, Job], parallel: int
) -> float | None:
    """Seconds that the jobs ``rest`` will take, from what finished jobs took a training sequence, model by model.

    Args:
        rest: jobs still to run.
        results: results by job hash.
        jobs: the jobs of those results.
        parallel: how many run side by side.

    Returns:
        None where nothing has been measured yet.
    """
    costs: dict[str, list[float]] = {}
    for key, result in list(results.items()):
        seconds, job = _seconds(result), jobs.get(key)
        if seconds > 0 and job is not None and _finished(result):
            costs.setdefault(job.model, []).append(seconds / (job.sequences or 1.0))
    if not costs:
        return None
    overall = statistics.median(cost for group in costs.values() for cost in group)
    total = sum(
        (statistics.median(costs[job.model]) if job.model in costs else overall) * (job.sequences or 1.0)
        for job in rest
    )
    return total / max(1, min(parallel, len(rest) or 1))


def measured(folders: Iterable[Path]) -> tuple[dict[str, dict[str, Any]], dict[str, Job]]:
    """Every result below these sweep folders, and the job it is of: what is known of how long jobs take."""
    results: dict[str, dict[str, Any]] = {}
    jobs: dict[str, Job] = {}
    for path in (path for folder in folders for path in sorted(folder.glob(f"*/{records.RESULT}"))):
        result = records.read_result(path.parent)
        if result is None:
            continue
        key, config = path.parent.name, result.get("config") or {}
        epochs, size = config.get("trainer", {}).get("epochs"), config.get("dataset", {}).get("size")
        model = str((result.get("choices") or {}).get("model"))
        results[key] = result
        jobs[key] = Job(key, [], "", path.parent, model, float(epochs * size) if epochs and size else None)
    return results, jobs


def clock(seconds: float) -> str:
    """1:02:03, or 2:03."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def _seconds(result: dict[str, Any]) -> float:
    """What a job took: from its start to its end, or its training time where that is longer (it was continued)."""
    seconds = float((result.get("metrics") or {}).get("train_seconds") or 0.0)
    try:
        started, finished = (datetime.fromisoformat(str(result[key])) for key in ("started", "finished"))
    except (KeyError, ValueError):
        return seconds
    return max(seconds, (finished - started).total_seconds())


def _finished(result: dict[str, Any]) -> bool:
    objective = result.get("objective")
    return result["status"] == "finished" and objective is not None and math.isfinite(objective)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else str(value)
