"""Estimates of how long runs take: the remaining work times the measured time per unit of work.

A run trains and is judged. A pack of J runs is one program: its runs train together, and each run is charged 1/J of
the time. All times are in seconds.
"""

from __future__ import annotations

import heapq
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PROBE_SHARE = 0.3  # time of a sequence in a probe / its time in training; a probe needs no backward pass
PLOTS_S = 1.5  # time for the plots of one run


@dataclass(frozen=True)
class Workload:
    """The work of one run."""

    sequences: float  # training sequences in total
    record_sequences: float = 0.0  # training sequences between two records
    probes: int = 1  # number of probes, including the last one
    probe_sequences: float = 0.0  # sequences of one probe
    plots: bool = False

    @classmethod
    def of(cls, value: Callable[[str], Any]) -> Workload:
        """The workload of a configuration. value: a function from a dotted key to its value, or None."""

        def number(key: str, default: float = 0.0) -> float:
            found = value(key)
            return float(found) if isinstance(found, (int, float)) else default

        epochs, size = number("trainer.epochs"), number("dataset.size")
        every = int(number("trainer.probe_every_epochs"))
        passes = number("probe.epochs", 1.0) if value("probe.fresh") is True else 1.0
        return cls(
            sequences=epochs * size,
            record_sequences=min(size, number("trainer.log_every_steps", 1.0) * number("dataset.batch_size", 1.0)),
            probes=1 + (max(0, int(epochs) - 1) // every if every > 0 else 0),
            probe_sequences=passes * number("probe.fit_sequences") + number("probe.judge_sequences"),
            plots=value("plots") is True,
        )

    def probes_by(self, share: float) -> int:
        """Number of probes of a run that stops after ``share`` of its training."""
        return max(1, round(share * self.probes))

    def probes_after(self, share: float) -> int:
        """Number of probes left when ``share`` of the training is recorded, including one due at that point."""
        return min(self.probes, max(1, self.probes + 1 - math.ceil(share * self.probes - 1e-9)))

    def judging(self, per_sequence: float, probes: int) -> float:
        """Time for ``probes`` probes and for the plots."""
        return probes * self.probe_sequences * PROBE_SHARE * per_sequence + (PLOTS_S if self.plots else 0.0)


@dataclass(frozen=True)
class Sample:
    """The measured times of a run that has ended."""

    kind: str  # the option chosen for the group "model"; runs of one kind take similar times
    workload: Workload
    share: float  # completed share of the training; less than 1 for a pruned run
    train_seconds: float  # training time charged to the run
    wall_seconds: float | None  # from start to end; None: unknown
    pack: int  # number of runs in its pack

    @property
    def per_sequence(self) -> float:
        """Charged training time per sequence."""
        return self.train_seconds / max(1.0, self.workload.sequences * self.share)


class Costs:
    """Time per unit of work for each kind of run, measured on runs that have ended."""

    def __init__(
        self,
        samples: Iterable[Sample] = (),
        measured: Mapping[str, float] | None = None,
        judging: Mapping[str, float] | None = None,
    ) -> None:
        """Args:
        samples: measurements of runs that have ended.
        measured: kind -> training time per sequence from another source; used for kinds without a sample.
        judging: kind -> judging time / the time expected from the probe's settings; used for kinds without a sample.
        """
        self._per_sequence: dict[str, float] = dict(measured or {})
        self._judging: dict[str, float] = dict(judging or {})
        samples = list(samples)
        self.from_ended = bool(samples)  # False: only first records of current runs are known
        self.share = statistics.mean(sample.share for sample in samples) if samples else 1.0
        kinds: dict[str, list[Sample]] = {}
        for sample in samples:
            kinds.setdefault(sample.kind, []).append(sample)
        for kind, group in kinds.items():
            self._per_sequence[kind] = statistics.median(sample.per_sequence for sample in group)
            ratios = [ratio for sample in group if (ratio := _judging_ratio(sample)) is not None]
            if ratios:
                self._judging[kind] = statistics.median(ratios)

    def knows(self, kind: str) -> bool:
        """Whether the training time of this kind has been measured."""
        return kind in self._per_sequence

    def per_sequence(self, kind: str) -> float | None:
        """Training time per sequence of this kind. For a new kind, the median of all kinds; None if none is known."""
        if kind in self._per_sequence:
            return self._per_sequence[kind]
        return statistics.median(self._per_sequence.values()) if self._per_sequence else None

    def judging(self, kind: str, workload: Workload, per_sequence: float, probes: int) -> float:
        """Time to start and to judge a run: expected from the probe's settings, times the ratio of ended runs."""
        known = self._judging
        factor = known.get(kind, statistics.median(known.values()) if known else 1.0)
        return (factor if probes else 1.0) * workload.judging(per_sequence, probes)

    def whole(self, kind: str, workload: Workload, *, share: float = 1.0) -> float | None:
        """Time charged to a run that has not started; None if no kind has been measured.

        share: expected share of the training that the run completes.
        """
        cost = self.per_sequence(kind)
        if cost is None:
            return None
        return share * workload.sequences * cost + self.judging(kind, workload, cost, workload.probes_by(share))


def _judging_ratio(sample: Sample) -> float | None:
    """Time outside training / time expected by :meth:`Workload.judging`; None if one is unknown or not positive."""
    expected = sample.workload.judging(sample.per_sequence, sample.workload.probes_by(sample.share))
    if sample.wall_seconds is None or expected <= 0:
        return None
    besides = sample.wall_seconds / sample.pack - sample.train_seconds
    return besides / expected if besides > 0 else None


@dataclass(frozen=True)
class Running:
    """The state of a current run at its last record."""

    kind: str
    workload: Workload
    started: float  # time.time() at its start
    recorded: float | None  # time.time() at its last record; None before the first one
    share: float  # completed share of the training at the last record
    per_sequence: float | None  # charged training time per sequence at the last record
    probed: bool = False  # whether the last record is a probe's

    @property
    def probes_left(self) -> int:
        """Number of probes that the run has not made yet."""
        return self.workload.probes_after(self.share) - int(self.probed)


def running_seconds(pack: Sequence[Running], costs: Costs, now: float) -> float | None:
    """Time until the runs of one program end; None if it cannot be estimated.

    If the next record is late, the estimate stops decreasing, because only a record confirms that training went on.

    Args:
        pack: the runs that train together; a single run alone.
        costs: measured on runs that have ended.
        now: time.time().
    """
    training = judging = step = 0.0
    for run in pack:
        cost = run.per_sequence if run.per_sequence is not None else costs.per_sequence(run.kind)
        first_of_its_kind = run.per_sequence is None and not costs.knows(run.kind) and not costs.from_ended
        if cost is None or first_of_its_kind:
            return None  # wait for its first record: other kinds would predict its time badly
        training = max(training, (1.0 - run.share) * run.workload.sequences * cost * len(pack))
        step = max(step, run.workload.record_sequences * cost * len(pack))
        judging += costs.judging(run.kind, run.workload, cost, run.probes_left)
    since = max(0.0, now - max(run.started if run.recorded is None else run.recorded for run in pack))
    if training > 0:
        left = pack[0].probes_left
        since = min(since, step + (judging / left if left > 1 else 0.0))
    return max(0.0, training + judging - since)


def makespan(running: Sequence[float], waiting: Iterable[float], workers: int) -> float:
    """Time until all runs have ended, if every free worker starts the next waiting run.

    Args:
        running: remaining time of each current run.
        waiting: duration of each waiting run, in the order of their start.
        workers: number of runs at the same time.
    """
    free = [*running, *[0.0] * (workers - len(running))]
    heapq.heapify(free)
    for seconds in waiting:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free, default=0.0)


def packs(seconds: Sequence[float], size: int) -> list[float]:
    """The time of each pack of ``size`` runs: the sum of the times charged to its runs."""
    return [sum(seconds[first : first + size]) for first in range(0, len(seconds), max(1, size))]


def select(config: Mapping[str, Any], dotted: str) -> Any:
    """The value of a dotted key in a plain configuration, or None."""
    value: Any = config
    for key in dotted.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def clock(seconds: float) -> str:
    """``seconds`` as text, for example 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
