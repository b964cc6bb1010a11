"""The logger that writes two tables, ``train.csv`` and ``probe.csv``, for spreadsheets and other programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jepa.files import to_plain, write_text_atomic
from jepa.loggers.base import Logger, RunInfo
from jepa.store.metrics import read_metrics


class CsvLogger(Logger):
    """Two tables in the run's folder, one of the losses and one of the probes. Each record is one row.

    The first row names the columns: all names that occur in records of that kind. NaN is an empty cell. A resumed run
    first copies the records of ``metrics.jsonl``, so that the tables and that file hold the same records.
    """

    def __init__(self) -> None:
        """Do nothing yet: ``start`` creates the tables."""
        self._tables: dict[str, _Table] = {}

    def start(self, run: RunInfo) -> None:
        """Write the records that the run has made before; a fresh run has none."""
        self._tables = {kind: _Table(run.folder / f"{kind}.csv") for kind in ("train", "probe")}
        for record in read_metrics(run.folder):
            self._tables[record["kind"]].rows.append(record)
        for table in self._tables.values():
            table.write()

    def record(self, record: Mapping[str, Any]) -> None:
        """Add one row."""
        self._tables[record["kind"]].add(to_plain(record))

    def plot(self, name: str, path: Path) -> None:
        """Do nothing: a table holds no pictures."""

    def finish(self, result: Mapping[str, Any]) -> None:
        """Do nothing: every row is already on disk."""


class _Table:
    """One csv file: a header, then one row for each record."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Mapping[str, Any]] = []
        self._columns: list[str] = []

    def write(self) -> None:
        """Write the whole file, with the columns of all rows."""
        self._columns = list(dict.fromkeys(name for row in self.rows for name in row if name != "kind"))
        write_text_atomic(self.path, self._text(dict(zip(self._columns, self._columns, strict=True)), *self.rows))

    def add(self, row: Mapping[str, Any]) -> None:
        """Append one row. If the row has a new column, rewrite the whole file."""
        self.rows.append(row)
        if not {"kind", *self._columns} >= row.keys():
            self.write()
            return
        with self.path.open("a", encoding="utf-8", newline="") as file:
            file.write(self._text(row))

    def _text(self, *rows: Mapping[str, Any]) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, extrasaction="ignore", lineterminator="\n")
        writer.writerows(rows)
        return text.getvalue()
