"""Tables as files for other programs: csv, json, parquet, in full precision."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jepa.results.axes import config_difference
from jepa.results.intervals import Summary
from jepa.results.records import ResultsError, Run
from jepa.results.show import difference_words
from jepa.results.tables import Table

_PROVENANCE = ("folder", "config_hash", "git_commit", "command")


def export_rows(table: Table, base: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One flat mapping a row, all with the same keys.

    A metric ``m`` of several runs gives ``m`` (mean), ``m_ci95`` (half the width of its interval) and ``m_n`` (how many
    runs); each row names what sets it apart from ``base``, its runs' folders, config hashes, commits and commands,
    several of them joined by a semicolon.
    """
    keys = [*table.axes, *(column for column in table.columns if column not in table.axes)]
    rows = []
    for row in table.rows:
        record: dict[str, Any] = {}
        for key in keys:
            cell = table.cell(row, key)
            if key in table.metrics and not table.per_run:
                mean, half_width, n = cell if isinstance(cell, Summary) else (None, None, 0)
                record.update({key: mean, f"{key}_ci95": half_width, f"{key}_n": n})
            else:
                record[key] = json.dumps(cell) if isinstance(cell, list) else cell
        record["difference"] = difference_words(row.runs[0], base, seed=table.per_run)
        for key in _PROVENANCE:
            record[key if table.per_run else f"{key}s"] = _joined(row.runs, key, once=key == "git_commit")
        rows.append(record)
    return rows


def _joined(runs: tuple[Run, ...], key: str, *, once: bool) -> str | None:
    values = [str(run.value(key)) for run in runs if run.value(key) is not None]
    return "; ".join(dict.fromkeys(values) if once else values) or None


def run_mapping(run: Run, base: Mapping[str, Any]) -> dict[str, Any]:
    """Everything known of one run, nested by kind; difference: key -> [base's value, the run's]."""
    return {
        "folder": run.folder,
        "status": run.status,
        **run.fields,
        "difference": config_difference(run, dict(base)) if run.config else {},
        "choices": run.choices,
        "metrics": run.metrics,
        "overrides": list(run.overrides),
        "config": run.config,
    }


def write_json(path: str, value: Any) -> None:
    """Write ``value`` as indented JSON to the file, or to standard output where ``path`` is ``-``."""
    _write(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_csv(path: str, rows: list[dict[str, Any]]) -> None:
    """Write the rows with a header to the file, or to standard output where ``path`` is ``-``; missing is empty."""
    import csv
    import io

    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    _write(path, buffer.getvalue())


def write_parquet(path: str, rows: list[dict[str, Any]]) -> None:
    """Write the rows as a parquet file. Raises ResultsError where pyarrow is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ResultsError("--parquet needs pyarrow: pip install pyarrow, or use --csv") from error
    columns = {key: _one_type([row[key] for row in rows]) for key in rows[0]}
    replace_file(path, lambda temporary: pyarrow.parquet.write_table(pyarrow.table(columns), temporary))


def _one_type(values: list[Any]) -> list[Any]:
    """The values themselves where they share a type, floats for mixed numbers, text for any other mixture."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) <= 1:
        return values
    convert: Callable[[Any], Any] = float if kinds == {int, float} else str
    return [None if value is None else convert(value) for value in values]


def _write(path: str, text: str) -> None:
    if path == "-":
        sys.stdout.write(text)
        return

    def write(temporary: str) -> None:
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            file.write(text)

    replace_file(path, write)


def replace_file(path: str, write: Callable[[str], None]) -> None:
    """Let ``write`` fill a temporary file and rename it to ``path``. Raises ResultsError where that is impossible."""
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{os.getpid()}.{name}")  # keeps the ending, by which formats are chosen
    try:
        if folder:
            os.makedirs(folder, exist_ok=True)
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        if os.path.exists(temporary):
            os.remove(temporary)
        raise ResultsError(f"{path}: cannot be written: {error.strerror or error}") from error


def check_ending(option: str, path: str, allowed: Sequence[str]) -> None:
    """Raise ResultsError where ``path`` does not end in one of ``allowed``."""
    if os.path.splitext(path)[1].lower().lstrip(".") not in allowed:
        raise ResultsError(f"{option} {path}: must end in {', '.join('.' + name for name in allowed)}")
