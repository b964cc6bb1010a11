"""The training loop: when a step, a record, a probe and a checkpoint are due."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod

from jepa.probes import ProbeReport
from jepa.training.interrupts import StopRequest
from jepa.training.plan import Plan

log = logging.getLogger(__name__)


class Trainee(ABC):
    """What :func:`train` trains: a single run (``training.trainer``), or a pack of runs (``packing.trainer``).

    plan: says how long to train, and how often to log, to probe and to save.
    total_steps: number of steps of the whole training.
    step: number of steps taken so far.
    epoch_pending: an epoch is over, and its probe and checkpoint have not been made yet.
    """

    plan: Plan
    total_steps: int
    step: int = 0
    epoch_pending: bool = False
    _warned: bool = False

    @property
    def is_over(self) -> bool:
        """Whether training is over."""
        return self.step >= self.total_steps

    def say_warnings(self, report: ProbeReport) -> None:
        """Log the warnings of the first probe."""
        for text in report.warnings if not self._warned else ():
            log.info("warning: %s", text)
        self._warned = True

    @abstractmethod
    def advance(self) -> None:
        """Take one train step."""

    @abstractmethod
    def charge(self, seconds: float) -> None:
        """Add to the time that training has taken."""

    @abstractmethod
    def log(self) -> None:
        """Record the mean losses since the last record. A loss that is not finite ends the run."""

    @abstractmethod
    def probe_between(self, epoch: int) -> None:
        """Probe after ``epoch``; a search may end the run here."""

    @abstractmethod
    def save(self) -> None:
        """Write a checkpoint."""


def train(trainee: Trainee, stop: StopRequest) -> None:
    """Take steps until training is over or a signal arrives, with the records, probes and checkpoints due in between.

    Raises:
        KeyboardInterrupt: a signal asked to stop; the checkpoint has been saved.
    """
    settings, steps_per_epoch = trainee.plan.config.trainer, trainee.plan.dataset.steps_per_epoch
    if trainee.epoch_pending:
        _between_epochs(trainee)
    started = time.perf_counter()

    def charge() -> float:
        now = time.perf_counter()
        trainee.charge(now - started)
        return now

    while not trainee.is_over:
        trainee.advance()
        epoch_ends = trainee.step % steps_per_epoch == 0
        if epoch_ends or trainee.step % settings.log_every_steps == 0:
            started = charge()
            trainee.log()
        trainee.epoch_pending = epoch_ends and trainee.step < trainee.total_steps
        if stop.requested:
            charge()
            trainee.save()
            raise KeyboardInterrupt
        if trainee.epoch_pending and not trainee.is_over:
            _between_epochs(trainee)
            started = time.perf_counter()
    trainee.save()


def _between_epochs(trainee: Trainee) -> None:
    """After an epoch: probe and save, if ``probe_every_epochs`` and ``checkpoint.every_epochs`` say so."""
    epoch = trainee.step // trainee.plan.dataset.steps_per_epoch
    every = trainee.plan.config.trainer.probe_every_epochs
    if every and epoch % every == 0:
        trainee.probe_between(epoch)
    trainee.epoch_pending = False
    every = trainee.plan.config.checkpoint.every_epochs
    if every and epoch % every == 0:
        trainee.save()
