"""Tables of runs. A row is a combination of values of the axes, or a single run. Cells are means, words or counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jepa.results.axes import Point, axis_value, group_runs
from jepa.results.intervals import Summary, summarize
from jepa.results.records import STATUSES, ResultsError, Run
from jepa.results.reference import HARDLY
from jepa.results.verdict import FIELDS
from jepa.store.result import is_number

METRICS = ("prediction_rmse_px", "encoder_rmse_px")
COUNT = "n"
UNFINISHED = "unfinished"
_NUMBERS = frozenset({"objective", "epochs_trained"})
_MAXIMISED = ("sequences_per_second", "planning_success")  # beginnings of names; all other numbers are minimised
_AT_THE_END = frozenset({"verdict", "training", *FIELDS})
_MOST_WORDS = 4

Cell = Any  # Summary, number, str, bool or None


@dataclass(frozen=True)
class Row:
    """The runs of one row, and their values on the table's axes."""

    point: Point
    runs: tuple[Run, ...]

    @property
    def finished(self) -> tuple[Run, ...]:
        """The finished runs, over which means are taken."""
        return tuple(run for run in self.runs if run.status == "finished")


@dataclass(frozen=True)
class Table:
    """A table. axes, columns, metrics: full names. rows: in the order shown. per_run: whether each row is one run."""

    axes: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    per_run: bool
    metrics: frozenset[str]

    @property
    def averaged(self) -> bool:
        """Whether any row is a mean over several runs."""
        return not self.per_run and any(len(row.finished) > 1 for row in self.rows)

    def with_columns(self, columns: Sequence[str]) -> Table:
        """The same table with other columns in addition to its axes."""
        return replace(self, columns=tuple(column for column in columns if column not in self.axes))

    def cell(self, row: Row, column: str) -> Cell:
        """The cell in ``row`` and ``column``. column: an axis, or any name of a run's values."""
        if column in self.axes:
            return row.point[self.axes.index(column)]
        if self.per_run:
            return row.runs[0].value(column)
        if column == COUNT:
            return len(row.finished)
        if column == UNFINISHED:
            return counted(run.status for run in row.runs if run.status != "finished")
        if column in self.metrics:
            return summarize([run.value(column) for run in row.finished if is_number(run.value(column))])
        if column in _AT_THE_END and not row.finished:  # the verdict of a pruned run covers only its first epochs
            return None
        return _together([run.value(column) for run in (row.finished or row.runs)])


def build_table(runs: Sequence[Run], axes: Sequence[str], *, per_run: bool) -> Table:
    """Build the table of ``runs``, with rows ordered by the axes and a default choice of columns.

    Args:
        axes: the keys that distinguish rows, from :func:`jepa.results.axes.varying_axes`.
        per_run: make a row for each run, with its seed and status. Otherwise runs that differ only in their seed share
            a row, and of several runs with one config hash only the latest finished one counts.
    """
    metrics = metric_names(runs)
    if per_run:
        rows = [Row(tuple(axis_value(run, key) for key in axes), (run,)) for run in runs]
        columns = _columns_of_runs(runs, metrics)
    else:
        rows = [Row(point, tuple(group)) for point, group in group_runs(without_repeats(runs), axes).items()]
        columns = _columns_of_means(runs, metrics)
    table = Table(tuple(axes), columns, tuple(rows), per_run, metrics)
    return sort_rows(table, [*axes, *(["seed"] if per_run else [])])


def metric_names(runs: Iterable[Run]) -> frozenset[str]:
    """The names of measured numbers."""
    names = set(_NUMBERS)
    for run in runs:
        for key, value in run.metrics.items():
            if isinstance(value, list):
                names.update(f"{key}.{i}" for i in range(len(value)))
            elif value is None or is_number(value):
                names.add(key)
    return frozenset(names)


def sign_of(metric: str) -> float:
    """1 for a metric of which the smallest value is best, -1 for one of which the largest is."""
    return -1.0 if metric.startswith(_MAXIMISED) else 1.0


def sort_rows(table: Table, keys: Sequence[str]) -> Table:
    """Sort the table's rows by ``keys``, first by the first key. ``-KEY`` sorts in descending order.

    Missing values come last. When sorting by a metric, unfinished runs also come last, because their values are not
    comparable.
    """
    rows = list(table.rows)
    for key in reversed(keys):
        name, descending = key.removeprefix("-"), key.startswith("-")
        comparable = [name not in table.metrics or name == "epochs_trained" or bool(row.finished) for row in rows]
        keyed = [
            (_orderable(table.cell(row, name)) if counts else None, row)
            for row, counts in zip(rows, comparable, strict=True)
        ]
        present = sorted(((cell, row) for cell, row in keyed if cell), key=lambda pair: pair[0], reverse=descending)
        rows = [row for _, row in present] + [row for cell, row in keyed if cell is None]
    return replace(table, rows=tuple(rows))


def without_constants(table: Table) -> Table:
    """If the table has several rows with one run each, drop the count, and also the seed if all rows share it."""
    constant = set()
    if len(table.rows) > 1 and all(len(row.runs) == 1 for row in table.rows):
        constant = {COUNT, *(["seed"] if len({row.runs[0].value("seed") for row in table.rows}) == 1 else [])}
    return replace(table, columns=tuple(column for column in table.columns if column not in constant))


def best_rows(table: Table, keys: Sequence[str], metric: str) -> Table:
    """Keep the row with the best mean of ``metric`` for each combination of the axes ``keys``.

    The other axes become columns.

    Raises:
        ResultsError: one of the keys is no axis.
    """
    for key in keys:
        if key not in table.axes:
            raise ResultsError(f"--best {key}: not an axis; these vary: {', '.join(table.axes) or 'none'}")
    sign = sign_of(metric)
    best: dict[Point, tuple[float, Row]] = {}
    for row in table.rows:
        cell = table.cell(row, metric)
        value = cell.mean if isinstance(cell, Summary) else cell
        if not is_number(value) or not row.finished:
            continue
        point = tuple(row.point[table.axes.index(key)] for key in keys)
        if point not in best or sign * value < best[point][0]:
            best[point] = (sign * value, row)
    rows = tuple(Row(point, row.runs) for point, (_, row) in best.items())
    others = [axis for axis in table.axes if axis not in keys]
    return replace(table, axes=tuple(keys), columns=(*others, *table.columns), rows=rows)


def mixed_axes(table: Table, keys: Sequence[str | None]) -> list[str]:
    """The axes in which rows with equal values of ``keys`` differ."""
    groups: dict[Point, list[Row]] = {}
    for row in table.rows:
        groups.setdefault(tuple(table.cell(row, key) for key in keys if key), []).append(row)
    places = range(len(table.axes))
    mixed = {i for rows in groups.values() for i in places if len({row.point[i] for row in rows}) > 1}
    return [axis for i, axis in enumerate(table.axes) if i in mixed]


def telling_axes(table: Table, axes: Sequence[str], beside: Sequence[str | None]) -> list[str]:
    """The ``axes`` that distinguish rows in addition to the keys ``beside``. Redundant axes are left out."""
    kept = list(axes)
    for axis in reversed(axes):
        others = [other for other in kept if other != axis]
        if not mixed_axes(table, [*beside, *others]):
            kept = others
    return kept


def without_repeats(runs: Sequence[Run]) -> list[Run]:
    """One run for each config hash, because repeating the same configuration gives no new evidence."""
    kept: dict[Any, Run] = {}
    for run in runs:
        key = run.fields.get("config_hash") or run.folder
        if key not in kept or standing(run) > standing(kept[key]):
            kept[key] = run
    return list(kept.values())


def counted(words: Iterable[str]) -> str:
    """Count words, in the order of STATUSES, for example ``2 running, 1 failed``."""
    counts = Counter(words)
    order = {status: place for place, status in enumerate(STATUSES)}
    return ", ".join(f"{counts[word]} {word}" for word in sorted(counts, key=lambda word: order.get(word, 99)))


def standing(run: Run) -> tuple[bool, bool, str]:
    """A sort key that puts the run last that counts among several of one configuration: the latest finished one."""
    return run.status == "finished", run.status == "running", str(run.fields.get("finished", ""))


def _columns_of_means(runs: Sequence[Run], metrics: frozenset[str]) -> tuple[str, ...]:
    unfinished = (UNFINISHED,) if any(run.status != "finished" for run in runs) else ()
    return (COUNT, *_shown_metrics(runs, metrics), *_verdict(runs), *unfinished)


def _columns_of_runs(runs: Sequence[Run], metrics: frozenset[str]) -> tuple[str, ...]:
    epochs = ("epochs_trained",) if any(run.status != "finished" for run in runs) else ()
    return ("seed", "status", *epochs, *_shown_metrics(runs, metrics), *_verdict(runs), "folder")


def _shown_metrics(runs: Sequence[Run], metrics: frozenset[str]) -> tuple[str, ...]:
    objectives = (run.fields.get("objective_metric") for run in runs)
    wanted = dict.fromkeys((*METRICS, *(name for name in objectives if name)))
    return tuple(name for name in wanted if name in metrics)


def _verdict(runs: Sequence[Run]) -> tuple[str, ...]:
    verdict = tuple(name for name in ("verdict", *FIELDS) if any(run.fields.get(name) for run in runs))
    return (*verdict, "training") if any(run.fields.get("training") == HARDLY for run in runs) else verdict


def _together(values: Sequence[Any]) -> Cell:
    """The common value of several runs, or their different values with counts."""
    counts = Counter(str(value) if isinstance(value, list) else value for value in values)
    if len(counts) == 1:
        return next(iter(counts))
    if len(counts) > _MOST_WORDS:
        return f"{len(counts)} values"
    words = {value: "–" if value is None else str(value) for value in counts}  # as in a cell with a missing value
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0] is None, words[item[0]]))
    return ", ".join(words[value] + (f" ×{count}" if count > 1 else "") for value, count in ordered)


def _orderable(cell: Cell) -> tuple[int, Any] | None:
    """A sort key that puts numbers before words; None for a missing value."""
    value = cell.mean if isinstance(cell, Summary) else cell
    if value is None or value == "":
        return None
    return (0, value) if isinstance(value, (int, float)) else (1, str(value))
