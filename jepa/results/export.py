"""Export tables in full precision for other programs: csv, json and parquet files."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jepa.files import atomic_path
from jepa.results.axes import differences
from jepa.results.intervals import Summary
from jepa.results.records import ResultsError, Run
from jepa.results.show import override_words
from jepa.results.tables import Table

_PROVENANCE = {
    "folder": "folders",
    "config_hash": "config_hashes",
    "git_commit": "git_commits",
    "command": "commands",
}


def export_rows(table: Table) -> list[dict[str, Any]]:
    """One flat mapping for each row, all with the same keys.

    In a table of means, a metric ``m`` gives ``m`` (the mean), ``m_ci95`` (half the width of its interval) and ``m_n``
    (the number of runs). Each row also has its values on the axes, and the folder, config hash, commit and command of
    its run. In a table of means, these four are lists with the values of all runs of the row.
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
                record[key] = cell
        apart = dict(zip(table.axes, row.point, strict=True))
        record["difference"] = override_words(differences(row.runs[0], table.axes) if table.per_run else apart)
        for key, plural in _PROVENANCE.items():
            record[key if table.per_run else plural] = (
                row.runs[0].value(key) if table.per_run else _gathered(row.runs, key)
            )
        rows.append(record)
    return rows


def _gathered(runs: tuple[Run, ...], key: str) -> list[str]:
    values = [str(run.value(key)) for run in runs if run.value(key) is not None]
    return list(dict.fromkeys(values)) if key == "git_commit" else values


def run_mapping(run: Run, axes: Sequence[str]) -> dict[str, Any]:
    """All data of one run, nested by kind. The entry "difference" has its values on the ``axes`` of its sweep."""
    return {
        "folder": run.folder,
        "status": run.status,
        **{key: _nested(value) for key, value in run.fields.items()},
        "difference": differences(run, axes),
        "choices": run.choices,
        "metrics": run.metrics,
        "overrides": list(run.overrides),
        "config": run.config,
    }


def _nested(value: Any) -> Any:
    """Decode a field that is stored as the JSON text of a mapping or list. Other values are returned unchanged."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        with contextlib.suppress(ValueError):
            return json.loads(value)
    return value


def write_json(path: str, value: Any) -> None:
    """Write ``value`` as indented JSON to the file ``path``, or to standard output if ``path`` is ``-``."""
    _write(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_csv(path: str, rows: list[dict[str, Any]]) -> None:
    """Write the rows with a header to the file ``path``, or to standard output if ``path`` is ``-``.

    Missing values are empty. The items of a list are joined by semicolons.
    """
    import csv
    import io

    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows([{key: _flat(value) for key, value in row.items()} for row in rows])
    _write(path, buffer.getvalue())


def write_text(path: str, lines: Sequence[str]) -> None:
    """Write lines of text to the file ``path``, or to standard output if ``path`` is ``-``."""
    _write(path, "\n".join(lines) + "\n")


def write_parquet(path: str, rows: list[dict[str, Any]]) -> None:
    """Write the rows as a parquet file. Raises ResultsError if pyarrow is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ResultsError("--parquet needs pyarrow: pip install pyarrow, or use --csv") from error
    columns = {key: _one_type([_flat(row[key]) for row in rows]) for key in rows[0]}
    replace_file(path, lambda temporary: pyarrow.parquet.write_table(pyarrow.table(columns), temporary))


def _flat(value: Any) -> Any:
    return "; ".join(map(str, value)) if isinstance(value, list) else value


def _one_type(values: list[Any]) -> list[Any]:
    """Convert a column to one type: unchanged if its values share a type, floats for mixed numbers, otherwise text."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) <= 1:
        return values
    convert: Callable[[Any], Any] = float if kinds == {int, float} else str
    return [None if value is None else convert(value) for value in values]


def _write(path: str, text: str) -> None:
    if path == "-":
        sys.stdout.write(text)
    else:
        replace_file(path, lambda temporary: Path(temporary).write_bytes(text.encode()))


def replace_file(path: str, write: Callable[[str], object]) -> None:
    """Call ``write`` with a temporary file, then rename the file to ``path``. Raises ResultsError if this fails."""
    try:
        with atomic_path(Path(path)) as temporary:
            write(str(temporary))
    except (OSError, ValueError) as error:  # ValueError: the path has no name, as in "/"
        reason = getattr(error, "strerror", None) or error
        raise ResultsError(f"{path}: cannot be written: {reason}") from error


def check_ending(option: str, path: str, allowed: Sequence[str]) -> None:
    """Raise ResultsError where ``path`` does not end in one of ``allowed``."""
    if os.path.splitext(path)[1].lower().lstrip(".") not in allowed:
        raise ResultsError(f"{option} {path}: must end in {', '.join('.' + name for name in allowed)}")
