"""How long runs take: what a run has still to do, times what the work has taken so far.

A run trains and is judged. A pack of J runs is one program: its runs train together, and each is charged 1/J of the
time. All times are in seconds.
"""

from __future__ import annotations

import heapq
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PROBE_SHARE = 0.3  # what a sequence takes in a probe, as a share of what it takes in training: no backward pass
PLOTS_S = 1.5  # of one run


@dataclass(frozen=True)
class Workload:
    """What one run has to do."""

    sequences: float  # trained in all
    record_sequences: float = 0.0  # trained between two records
    probes: int = 1  # how often the model is probed, the last time included
    probe_sequences: float = 0.0  # looked at by one probing
    plots: bool = False

    @classmethod
    def of(cls, value: Callable[[str], Any]) -> Workload:
        """The workload of a configuration. value: gives the value of a dotted key, or None."""

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
        """How many probes a run makes that does ``share`` of its training."""
        return max(1, round(share * self.probes))

    def probes_after(self, share: float) -> int:
        """How many probes are left once ``share`` of the training is recorded; one that is due then is left."""
        return min(self.probes, max(1, self.probes + 1 - math.ceil(share * self.probes - 1e-9)))

    def judging(self, per_sequence: float, probes: int) -> float:
        """Time for so many probes, and for the plots."""
        return probes * self.probe_sequences * PROBE_SHARE * per_sequence + (PLOTS_S if self.plots else 0.0)


@dataclass(frozen=True)
class Sample:
    """What a run that has ended took."""

    kind: str  # runs of one kind are alike: the option chosen for the group "model"
    workload: Workload
    share: float  # of its training that it did; a pruned run did less than 1
    train_seconds: float  # charged to it
    wall_seconds: float | None  # from its start to its end, where that is known
    pack: int  # runs of its pack

    @property
    def per_sequence(self) -> float:
        """Training time charged for one sequence."""
        return self.train_seconds / max(1.0, self.workload.sequences * self.share)


class Costs:
    """What work takes, kind by kind, from runs that have ended."""

    def __init__(
        self,
        samples: Iterable[Sample] = (),
        measured: Mapping[str, float] | None = None,
        judging: Mapping[str, float] | None = None,
    ) -> None:
        """Args:
        samples: of runs that have ended.
        measured: training time for one sequence by kind, from elsewhere; used where no sample tells.
        judging: likewise, the time that judging takes, over what the probe's settings let expect.
        """
        self._per_sequence: dict[str, float] = dict(measured or {})
        self._judging: dict[str, float] = dict(judging or {})
        samples = list(samples)
        self.from_ended = bool(samples)  # not only from first records of runs at work
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
        """Whether a run of this kind has been measured."""
        return kind in self._per_sequence

    def per_sequence(self, kind: str) -> float | None:
        """Training time for one sequence of a run of this kind; of all kinds where this one is new; None: unknown."""
        if kind in self._per_sequence:
            return self._per_sequence[kind]
        return statistics.median(self._per_sequence.values()) if self._per_sequence else None

    def judging(self, kind: str, workload: Workload, per_sequence: float, probes: int) -> float:
        """Time to start and to judge a run: as the probe's settings say, corrected by the runs that have ended."""
        known = self._judging
        factor = known.get(kind, statistics.median(known.values()) if known else 1.0)
        return (factor if probes else 1.0) * workload.judging(per_sequence, probes)

    def whole(self, kind: str, workload: Workload, *, share: float = 1.0) -> float | None:
        """Time charged to a run that has not started; None where nothing is known.

        share: of its training that it is expected to do.
        """
        cost = self.per_sequence(kind)
        if cost is None:
            return None
        return share * workload.sequences * cost + self.judging(kind, workload, cost, workload.probes_by(share))


def _judging_ratio(sample: Sample) -> float | None:
    """The time besides training over what :meth:`Workload.judging` expects; None where it cannot be told."""
    expected = sample.workload.judging(sample.per_sequence, sample.workload.probes_by(sample.share))
    if sample.wall_seconds is None or expected <= 0:
        return None
    besides = sample.wall_seconds / sample.pack - sample.train_seconds
    return besides / expected if besides > 0 else None


@dataclass(frozen=True)
class Running:
    """A run at work, as its last record shows it."""

    kind: str
    workload: Workload
    started: float  # time.time() at its start
    recorded: float | None  # time.time() at its last record; None before the first one
    share: float  # of its training that was done then
    per_sequence: float | None  # training time charged for one sequence, as it was then
    probed: bool = False  # the last record is that of a probe

    @property
    def probes_left(self) -> int:
        """How many probes it has still to make."""
        return self.workload.probes_after(self.share) - int(self.probed)


def running_seconds(pack: Sequence[Running], costs: Costs, now: float) -> float | None:
    """Time until the runs of one program end; None where nothing is known.

    A record that is due and does not come stops the clock: training that was not recorded is not assumed.

    Args:
        pack: the runs that train together; one for a run alone.
        costs: of runs that have ended.
        now: time.time().
    """
    training = judging = step = 0.0
    for run in pack:
        cost = run.per_sequence if run.per_sequence is not None else costs.per_sequence(run.kind)
        first_of_its_kind = run.per_sequence is None and not costs.knows(run.kind) and not costs.from_ended
        if cost is None or first_of_its_kind:
            return None  # its first record will tell more than the runs of other kinds beside it
        training = max(training, (1.0 - run.share) * run.workload.sequences * cost * len(pack))
        step = max(step, run.workload.record_sequences * cost * len(pack))
        judging += costs.judging(run.kind, run.workload, cost, run.probes_left)
    since = max(0.0, now - max(run.started if run.recorded is None else run.recorded for run in pack))
    if training > 0:
        left = pack[0].probes_left
        since = min(since, step + (judging / left if left > 1 else 0.0))
    return max(0.0, training + judging - since)


def makespan(running: Sequence[float], waiting: Iterable[float], workers: int) -> float:
    """When the last of all is done, if every free worker takes the next one that waits.

    Args:
        running: times until each of those at work ends.
        waiting: times that the others take, in order.
        workers: how many work side by side.
    """
    free = [*running, *[0.0] * (workers - len(running))]
    heapq.heapify(free)
    for seconds in waiting:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free, default=0.0)


def packs(seconds: Sequence[float], size: int) -> list[float]:
    """Times of packs of ``size`` runs, from the times charged to each run."""
    return [sum(seconds[first : first + size]) for first in range(0, len(seconds), max(1, size))]


def select(config: Mapping[str, Any], dotted: str) -> Any:
    """The value of a dotted key in a plain configuration, or None."""
    value: Any = config
    for key in dotted.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def clock(seconds: float) -> str:
    """1:02:03, or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
