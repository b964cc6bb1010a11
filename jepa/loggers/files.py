"""The logger of the run's own file, ``metrics.jsonl``. Every run has it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from jepa.loggers.base import Logger, RunInfo
from jepa.store.metrics import append_record, begin_metrics, read_metrics


class FilesLogger(Logger):
    """``metrics.jsonl`` in the run's folder: one record a line, on disk as it comes.

    A run that goes on after step s drops the records beyond s and a probe of the last step, which is made again. So
    the file ends up as that of an uninterrupted run. Plots and results are files already.
    """

    essential = True

    def __init__(self) -> None:
        """The file is opened by ``start``."""
        self._file: IO[str] | None = None

    def start(self, run: RunInfo) -> None:
        """Open the file: emptied for a fresh start, cut after ``run.step`` for a resumed one."""
        kept = [record for record in read_metrics(run.folder) if run.step > 0 and _stays(record, run)]
        self._file = begin_metrics(run.folder, kept)

    def record(self, record: Mapping[str, Any]) -> None:
        """Append one line."""
        assert self._file is not None
        append_record(self._file, record)

    def plot(self, name: str, path: Path) -> None:
        """Nothing: the plot is a file."""

    def finish(self, result: Mapping[str, Any]) -> None:
        """Close the file."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk: what could not be written has been reported already
                self._file.close()
            self._file = None


def _stays(record: Mapping[str, Any], run: RunInfo) -> bool:
    """Whether a run that goes on won't write this record again."""
    judged_at_the_end = record.get("kind") == "probe" and record["step"] == run.total_steps
    return bool(record["step"] <= run.step and not judged_at_the_end)
