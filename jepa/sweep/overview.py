"""The state of a sweep's jobs, read from their files, and an estimate of the time left."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jepa.estimate import Costs, Running, Sample, Workload, clock, makespan, packs, running_seconds, select
from jepa.store import layout, locks
from jepa.store.layout import RESULT
from jepa.store.metrics import metrics_tail
from jepa.store.result import DONE
from jepa.sweep import records
from jepa.sweep.jobs import Job, kind_of

Program = tuple[str, int]  # machine and process


@dataclass(frozen=True)
class AtWork:
    """A job that is running, with its latest records merged into one."""

    job: Job
    metrics: Mapping[str, Any]
    program: Program  # jobs of one pack share it
    state: Running

    @property
    def judging(self) -> bool:
        """Whether its training is over."""
        return self.state.share >= 1.0


class Overview:
    """The state of a set of jobs. :meth:`look` reads the job folders again; results that were read are kept."""

    def __init__(self, *, parallel: int, now: Callable[[], float] = time.time) -> None:
        """parallel: concurrent programs. now: returns the time, in seconds since 1970."""
        self.parallel = parallel
        self.jobs: dict[str, Job] = {}
        self.results: dict[str, dict[str, Any]] = {}
        self._now = now
        self._expected = 0
        self._outdated: dict[str, int | None] = {}
        self._samples: dict[str, Sample] = {}
        self._pack_size = 1
        self._lock = threading.RLock()

    def add(self, jobs: Iterable[Job]) -> None:
        """Add jobs. The next :meth:`look` does not report results that exist already."""
        with self._lock:
            for job in jobs:
                if job.hash not in self.jobs:
                    self.jobs[job.hash] = job
                    self._read(job)

    def expect(self, total: int) -> None:
        """Set the expected number of jobs to ``total``. A search does not know all of its jobs in advance."""
        self._expected = total

    @property
    def total(self) -> int:
        """The number of all jobs, including expected ones."""
        return max(len(self.jobs), self._expected)

    def forget(self, job: Job) -> None:
        """Ignore the job's present result, because the job is about to run again."""
        with self._lock:
            self.results.pop(job.hash, None)
            self._samples.pop(job.hash, None)
            self._outdated[job.hash] = layout.version(job.folder / RESULT)

    def settle(self) -> None:
        """Count every result in the job folders, including those that :meth:`forget` ignored."""
        self._outdated.clear()
        self.look()

    def look(self) -> list[Job]:
        """Read new results. Returns the jobs that got a result since the last look."""
        with self._lock:
            return [job for job in list(self.jobs.values()) if self._read(job)]

    def _read(self, job: Job) -> bool:
        """Read the job's result. Returns whether the result is new."""
        known = self.results.get(job.hash)
        if known is not None and known["status"] in DONE:
            return False
        outdated = self._outdated.get(job.hash)
        current = outdated is None or layout.version(job.folder / RESULT) != outdated
        result = records.read_result(job.folder, job.metric) if current else None
        if result is None:
            self.results.pop(job.hash, None)
            return False
        if known is not None and known.get("finished") == result.get("finished"):
            return False
        self.results[job.hash] = result
        sample = sample_of(job, result)
        if sample is not None:
            self._samples[job.hash] = sample
        return True

    def running(self) -> list[AtWork]:
        """The running jobs, each with its latest records."""
        open_jobs = [job for job in list(self.jobs.values()) if job.hash not in self.results]
        found = [(job, locks.holder(job.folder)) for job in open_jobs]
        return [_at_work(job, holder, self._now()) for job, holder in found if holder is not None]

    def count(self, *statuses: str) -> int:
        """The number of results with one of ``statuses``."""
        return sum(result["status"] in statuses for result in list(self.results.values()))

    def best(self) -> tuple[Job, float] | None:
        """The finished job with the smallest objective. Final runs of a search are judged otherwise, and left out."""
        finished = [
            (self.jobs[key], value["objective"])
            for key, value in list(self.results.items())
            # the objective of a finished job is finite, see jepa.store.result.counted
            if value["status"] == "finished" and self.jobs[key].final_of is None
        ]
        return min(finished, key=lambda pair: pair[1], default=None)

    def costs(self, running: Sequence[AtWork] = ()) -> Costs:
        """The costs of work, from the jobs that have ended and from the rates of running jobs."""
        rates: dict[str, float] = {}
        for one in running:
            if one.state.per_sequence is not None:
                rates.setdefault(one.state.kind, one.state.per_sequence)
        return Costs(list(self._samples.values()), rates)

    def programs_left(self, running: Sequence[AtWork]) -> dict[Program, float | None]:
        """Seconds until each running program ends; None while unknown. The jobs of a pack are one program."""
        costs, programs = self.costs(running), dict[Program, list[Running]]()
        for one in running:
            programs.setdefault(one.program, []).append(one.state)
        self._pack_size = max([self._pack_size, *map(len, programs.values())])
        return {program: running_seconds(pack, costs, self._now()) for program, pack in programs.items()}

    def seconds_left(self, running: Sequence[AtWork]) -> float | None:
        """Seconds until the last running or waiting job ends; None while unknown."""
        busy = list(self.programs_left(running).values())
        at_work = {one.job.hash for one in running}
        rest = [job for job in list(self.jobs.values()) if job.hash not in self.results and job.hash not in at_work]
        unknown = [list(self.jobs.values())[-1]] * (self.total - len(self.jobs)) if self.jobs else []
        waiting = _charged([*rest, *unknown], self.costs(running))
        if waiting is None or None in busy:
            return None
        known = [seconds for seconds in busy if seconds is not None]
        left = makespan(known, packs(waiting, self._pack_size), self.parallel)
        return max(left, 1.0) if running else left

    def summary(self, running: Sequence[AtWork]) -> str:
        """One line about the whole sweep."""
        parts = [*self.counts(len(running)), *self.remarks(always_failed=True)]
        left = self.seconds_left(running)
        return " · ".join([*parts, f"{clock(left)} left"] if left else parts)

    def counts(self, running: int) -> list[str]:
        """The numbers of done, running and waiting jobs, in words."""
        waiting = self.total - len(self.results) - running
        parts = [f"{self.count(*DONE)} of {self.total} done", f"{running} running"]
        return [*parts, f"{waiting} waiting"] if waiting > 0 else parts

    def remarks(self, *, always_failed: bool = False) -> list[str]:
        """The numbers of pruned and failed jobs, and the best job, in words."""
        failed, pruned, best = self.count("failed"), self.count("pruned"), self.best()
        parts = [f"{pruned} pruned"] if pruned else []
        parts += [f"{failed} failed"] if failed or always_failed else []
        return [*parts, f"best {best[1]:.4g} ({best[0].label})"] if best else parts


# --- estimates -------------------------------------------------------------------------------------------------------


def estimate_seconds(
    rest: Sequence[Job],
    results: Mapping[str, Mapping[str, Any]],
    jobs: Mapping[str, Job],
    parallel: int,
    *,
    measured: Mapping[str, float] | None = None,
) -> float | None:
    """Estimate the seconds that the jobs ``rest`` take, training and judging included, ``parallel`` programs at a time.

    Args:
        rest: the jobs still to run, in their order.
        results: finished results, by job hash.
        jobs: the jobs of those results, by hash.
        parallel: the number of concurrent programs.
        measured: seconds of training for one sequence, by model, for models without a result.

    Returns:
        The seconds; None where nothing has been measured yet.
    """
    samples = [sample_of(jobs[key], result) for key, result in results.items() if key in jobs]
    costs = Costs([sample for sample in samples if sample is not None], measured)
    charged = _charged(rest, costs)
    return None if charged is None else makespan([], charged, max(1, parallel))


def charged_seconds(
    rest: Sequence[Job],
    results: Mapping[str, dict[str, Any]],
    jobs: Mapping[str, Job],
    *,
    measured: Mapping[str, float] | None = None,
) -> float | None:
    """The sum of the times of the jobs ``rest``, as if they ran one after another; else as :func:`estimate_seconds`."""
    samples = [sample_of(jobs[key], result) for key, result in results.items() if key in jobs]
    charged = _charged(rest, Costs([sample for sample in samples if sample is not None], measured))
    return None if charged is None else sum(charged)


def measured(folders: Iterable[Path]) -> tuple[dict[str, dict[str, Any]], dict[str, Job]]:
    """Every result in these sweep folders and its job, both by job hash. The results tell how long jobs take."""
    results: dict[str, dict[str, Any]] = {}
    jobs: dict[str, Job] = {}
    for path in (path for folder in folders for path in sorted(folder.glob(f"*/{RESULT}"))):
        result = records.read_result(path.parent)
        if result is None:
            continue
        key, config = path.parent.name, result.get("config") or {}
        workload = Workload.of(lambda dotted, config=config: select(config, dotted))  # type: ignore[misc]
        model = kind_of(result.get("choices") or {})
        results[key] = result
        jobs[key] = Job(key, [], "", path.parent, model, workload)
    return results, jobs


def sample_of(job: Job, result: Mapping[str, Any]) -> Sample | None:
    """The time that the job took; None for a failed job and for a result without ``train_seconds``."""
    seconds = (result.get("metrics") or {}).get("train_seconds")
    if result["status"] not in DONE or not isinstance(seconds, (int, float)):
        return None
    total, trained = result.get("epochs_total"), result.get("epochs_trained")
    share = float(trained) / float(total) if total and isinstance(trained, (int, float)) else 1.0
    pack = (result.get("pack") or {}).get("size", 1)
    return Sample(job.model, job.workload, share, float(seconds), _wall_seconds(job.folder, result), int(pack))


def _wall_seconds(folder: Path, result: Mapping[str, Any]) -> float | None:
    """Seconds from the start of the job's last process to the end of the job; None if unknown."""
    started, finished = _moment(result.get("started")), _moment(result.get("finished"))
    with contextlib.suppress(OSError):  # a result has whole seconds; the time of its file is finer
        written = (folder / RESULT).stat().st_mtime
        finished = written if finished is None or abs(written - finished) < 2.0 else finished
    held = locks.last_holder(folder).get("started")
    if isinstance(held, (int, float)) and (started is None or held > started - 60.0):
        started = held
    return None if started is None or finished is None or finished < started else finished - started


def _moment(text: Any) -> float | None:
    """Seconds since 1970 of an ISO 8601 time."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None


def _charged(jobs: Sequence[Job], costs: Costs) -> list[float] | None:
    """The estimated seconds of each job; None while unknown."""
    charged = [costs.whole(job.model, job.workload, share=costs.share) for job in jobs]
    return None if None in charged else [seconds for seconds in charged if seconds is not None]


def _at_work(job: Job, holder: Mapping[str, Any], now: float) -> AtWork:
    """The job's share of its training, its rate, and the time of its last record, from the end of ``metrics.jsonl``."""
    found, written, _ = metrics_tail(job.folder)
    started = float(holder.get("started") or now)
    metrics: dict[str, Any] = {}
    for record in found:
        metrics.update({name: value for name, value in record.items() if value is not None})
    epochs = job.epochs or 0.0
    share = min(1.0, metrics.get("epoch", 0.0) / epochs) if epochs else (1.0 if metrics else 0.0)
    state = Running(
        kind=job.model,
        workload=job.workload,
        started=started,
        recorded=written if found and written is not None and written >= started else None,
        share=share,
        per_sequence=_per_sequence(found, job),
        probed=bool(found) and found[-1].get("kind") == "probe",
    )
    return AtWork(job, metrics, (str(holder.get("host")), int(holder.get("pid") or id(job))), state)


def _per_sequence(found: Sequence[Mapping[str, Any]], job: Job) -> float | None:
    """Training time for one sequence, in seconds, from the latest records; None if unknown."""
    train = [record for record in found if record.get("kind") == "train"]
    if len(train) > 1 and job.workload.sequences and job.epochs:
        epochs, seconds = (float(train[-1][key]) - float(train[0][key]) for key in ("epoch", "time_s"))
        if epochs > 0 and seconds > 0:
            return seconds / (epochs * job.workload.sequences / job.epochs)
    rate = train[-1].get("sequences_per_second") if train else None
    return 1.0 / rate if rate else None
