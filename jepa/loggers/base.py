"""The base class of loggers. A logger receives the numbers of one run while the run goes on.

A record is a flat mapping. Its keys are "step", "epoch", "time_s", "kind" ("train" or "probe") and the names of
numbers, such as "loss/total" and "prediction_rmse_px".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunInfo:
    """The facts about a run that a logger receives when the run starts or resumes."""

    folder: Path  # folder of the run; a logger writes nowhere else
    record: Mapping[str, Any]  # as in result.json: "config", "config_hash", "choices", "command", …
    step: int  # the run resumes after this step; 0: a fresh start
    total_steps: int  # 0: the run trains nothing
    steps_per_epoch: int
    sweep: str | None = None  # name of the sweep that the run belongs to


class Logger(ABC):
    """Receives one run's numbers: ``start``, then ``record`` and ``plot`` in any order, then ``finish``.

    If a logger raises, the run warns, goes on, and calls this logger no more.
    """

    essential = False  # True: an error of this logger ends the run
    uses_screen = False  # True: packed jobs do not use this logger, because they share one screen

    @abstractmethod
    def start(self, run: RunInfo) -> None:
        """The run starts, or resumes after ``run.step``. Loggers start in order, metrics.jsonl first."""

    @abstractmethod
    def record(self, record: Mapping[str, Any]) -> None:
        """The run has a new record. The records of a step arrive before the checkpoint of that step is saved."""

    @abstractmethod
    def plot(self, name: str, path: Path) -> None:
        """The run has written the plot ``name`` to ``path``, a png file."""

    @abstractmethod
    def finish(self, result: Mapping[str, Any]) -> None:
        """The run ends, possibly before ``start``. result: as ``result.json``, or only {"status": "interrupted"}."""
