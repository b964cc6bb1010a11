"""Where a run's numbers go: sinks for the file ``metrics.jsonl`` and for the screen (wandb's: ``jepa.loggers.wandb``).

A record is a flat mapping with "step", "epoch", "time_s", "kind" ("train" or "probe") and numbers under names such as
"loss/total" and "prediction_rmse_px".
"""

from __future__ import annotations

import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from jepa.files import to_plain, write_text_atomic

METRICS_FILE = "metrics.jsonl"


class Sink(ABC):
    """Takes one run's numbers as they come: ``start``, then ``record`` and ``plot`` in any order, then ``finish``.

    ``essential``: an error of this sink ends the run. Any other sink that raises is left out, with a warning.
    """

    essential = False

    @abstractmethod
    def start(
        self, *, folder: Path, record: Mapping[str, Any], step: int, total_steps: int, steps_per_epoch: int
    ) -> None:
        """The run begins, or goes on.

        folder: the run's. record: its provenance as in ``result.json`` ("config", "config_hash", ...). step: the
        step it goes on after; 0 for a fresh start. total_steps: 0 where nothing is trained.
        """

    @abstractmethod
    def record(self, record: Mapping[str, Any]) -> None:
        """One record; records of one step come before that step's checkpoint."""

    @abstractmethod
    def plot(self, name: str, path: Path) -> None:
        """A picture has been drawn to ``path``."""

    @abstractmethod
    def finish(self, result: Mapping[str, Any]) -> None:
        """The run ends, perhaps before ``start``. result: as ``result.json``, or only {"status": "interrupted"}."""


class FilesSink(Sink):
    """``metrics.jsonl`` in the run's folder: one record a line, on disk as it comes; NaN is written as null.

    A run that goes on after step s drops what was recorded beyond s, a line that a kill cut short, and a probe of the
    last step (it is made again), so that the file ends up as that of an uninterrupted run. Plots and results are files
    already.
    """

    essential = True

    def __init__(self) -> None:
        """The file is opened by ``start``."""
        self._file: IO[str] | None = None

    def start(
        self, *, folder: Path, record: Mapping[str, Any], step: int, total_steps: int, steps_per_epoch: int
    ) -> None:
        """Open the file: emptied for a fresh start, cut after ``step`` for a resumed one."""
        path = folder / METRICS_FILE
        kept = [record for record in read_records(folder) if step > 0 and _stays(record, step, total_steps)]
        write_text_atomic(path, "".join(_line(record) for record in kept))
        self._file = path.open("a", encoding="utf-8", newline="\n")

    def record(self, record: Mapping[str, Any]) -> None:
        """Append one line and flush it."""
        assert self._file is not None
        self._file.write(_line(record))
        self._file.flush()

    def plot(self, name: str, path: Path) -> None:
        """Nothing: the plot is a file."""

    def finish(self, result: Mapping[str, Any]) -> None:
        """Close the file."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk: what could not be written has been reported already
                self._file.close()
            self._file = None


def read_records(folder: Path) -> list[dict[str, Any]]:
    """The records in a run's folder so far; a line that is being written is left out. Empty without a file."""
    path = folder / METRICS_FILE
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [record for line in lines if (record := _parse(line)) is not None]


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(to_plain(record), allow_nan=False) + "\n"


def _parse(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("step"), int) else None


def _stays(record: Mapping[str, Any], step: int, total_steps: int) -> bool:
    """Whether a run that goes on after ``step`` of ``total_steps`` won't write this record again."""
    judged_at_the_end = record.get("kind") == "probe" and record["step"] == total_steps
    return bool(record["step"] <= step and not judged_at_the_end)
