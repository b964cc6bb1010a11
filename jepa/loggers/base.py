"""What a logger is: it takes the numbers of one run as they come.

A record is a flat mapping with "step", "epoch", "time_s", "kind" ("train" or "probe") and numbers under names such as
"loss/total" and "prediction_rmse_px".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunInfo:
    """What a logger is told of its run when the run begins, or goes on."""

    folder: Path  # of the run; a logger writes nowhere else
    record: Mapping[str, Any]  # as in result.json: "config", "config_hash", "choices", "command", …
    step: int  # the run goes on after this step; 0: it begins
    total_steps: int  # 0: nothing is trained
    steps_per_epoch: int
    sweep: str | None = None  # the name of the sweep that the run is a job of


class Logger(ABC):
    """Takes one run's numbers: ``start``, then ``record`` and ``plot`` in any order, then ``finish``.

    A logger that raises is left out from then on, with a warning. The run goes on without it.
    """

    essential = False  # True: an error of this logger ends the run
    uses_screen = False  # True: a pack of jobs leaves it out, since its jobs have one screen between them

    @abstractmethod
    def start(self, run: RunInfo) -> None:
        """The run begins, or goes on after ``run.step``. Loggers are started in order, the run's own files first."""

    @abstractmethod
    def record(self, record: Mapping[str, Any]) -> None:
        """One record. The records of a step come before the checkpoint of that step."""

    @abstractmethod
    def plot(self, name: str, path: Path) -> None:
        """A picture has been drawn to ``path``, a png file."""

    @abstractmethod
    def finish(self, result: Mapping[str, Any]) -> None:
        """The run ends, perhaps before ``start``. result: as ``result.json``, or only {"status": "interrupted"}."""
