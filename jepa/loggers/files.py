"""The file ``metrics.jsonl`` in a run's folder."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from jepa.files import to_plain, write_text_atomic
from jepa.loggers.base import Logger, RunInfo

METRICS_FILE = "metrics.jsonl"


class FilesLogger(Logger):
    """``metrics.jsonl`` in the run's folder: one record a line, on disk as it comes; NaN is written as null.

    A run that goes on after step s drops what was recorded beyond s, a line that a kill cut short, and a probe of the
    last step (it is made again), so that the file ends up as that of an uninterrupted run. Plots and results are files
    already.
    """

    essential = True

    def __init__(self) -> None:
        """The file is opened by ``start``."""
        self._file: IO[str] | None = None

    def start(self, run: RunInfo) -> None:
        """Open the file: emptied for a fresh start, cut after ``step`` for a resumed one."""
        path = run.folder / METRICS_FILE
        kept = [record for record in read_records(run.folder) if run.step > 0 and _stays(record, run)]
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


def _stays(record: Mapping[str, Any], run: RunInfo) -> bool:
    """Whether a run that goes on won't write this record again."""
    judged_at_the_end = record.get("kind") == "probe" and record["step"] == run.total_steps
    return bool(record["step"] <= run.step and not judged_at_the_end)
