"""The logger that writes ``metrics.jsonl``. Every run has this logger."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from jepa.loggers.base import Logger, RunInfo
from jepa.store.metrics import append_record, begin_metrics, read_metrics


class FilesLogger(Logger):
    """Writes each record at once as one line of ``metrics.jsonl`` in the run's folder.

    A run that resumes after step s removes the records after s, and the probe of the last step, because it makes them
    again. So the file ends up like that of an uninterrupted run. Plots and results are files of their own.
    """

    essential = True

    def __init__(self) -> None:
        """Do nothing yet: ``start`` opens the file."""
        self._file: IO[str] | None = None

    def start(self, run: RunInfo) -> None:
        """Open the file. A fresh run empties the file; a resumed run removes the records that it will make again."""
        kept = [record for record in read_metrics(run.folder) if run.step > 0 and _stays(record, run)]
        self._file = begin_metrics(run.folder, kept)

    def record(self, record: Mapping[str, Any]) -> None:
        """Append one line."""
        assert self._file is not None
        append_record(self._file, record)

    def plot(self, name: str, path: Path) -> None:
        """Do nothing: the plot is already a file."""

    def finish(self, result: Mapping[str, Any]) -> None:
        """Close the file."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk; the error has already been reported
                self._file.close()
            self._file = None


def _stays(record: Mapping[str, Any], run: RunInfo) -> bool:
    """Whether a resumed run keeps this record; it makes all other records again."""
    judged_at_the_end = record.get("kind") == "probe" and record["step"] == run.total_steps
    return bool(record["step"] <= run.step and not judged_at_the_end)
