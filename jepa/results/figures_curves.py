"""Learning curves of many runs: a loss or an error against the epoch, with the 95 % interval over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jepa.results.figures import (
    Series,
    also_vary,
    axis_label,
    by_words,
    clear_frame,
    draw_series,
    label_left,
    line_label,
    panels_grid,
    shared_legend,
    wants_log,
)
from jepa.results.intervals import summarize
from jepa.results.records import Names, ResultsError, Run, is_number, short_names
from jepa.results.render import format_cell
from jepa.results.run_files import read_metrics
from jepa.results.tables import Row, Table

TOTAL = "loss/total"
_MOST_LINES, _MOST_PANELS = 16, 12


def curves_figure(
    table: Table, *, x: str, by: Sequence[str], panel: str | None, metric: str | None, objective: str, title: str = ""
) -> Figure:
    """A metric against ``x`` ("epoch" or "step"), a line for each combination of the axes ``by``.

    Args:
        table: its rows are the lines: the mean over a row's finished runs, or over all where none has finished.
        metric: a name in the runs' ``metrics.jsonl``; None: the objective where it was measured on the way, else the
            total loss.

    Raises:
        ResultsError: other axes vary too, the metric is unknown, there are too many lines, or nothing was recorded.
    """
    others = [axis for axis in table.axes if axis not in (panel, *by)]
    if others:
        raise ResultsError(f"--plot {x}: {also_vary(others)}: name it in --by or --panel, or fix it with --where")
    records = {run.folder: read_metrics(run.folder) for row in table.rows for run in counted_runs(row)}
    name = _metric(records, x, metric, objective)
    panels: dict[Any, list[Series]] = {}
    for row in table.rows:
        points = _points(counted_runs(row), records, x, name)
        if points:
            _, label = line_label(table, row, by)
            panels.setdefault(table.cell(row, panel) if panel else None, []).append(Series(label, points))
    if not panels:
        raise ResultsError(f"--plot {x}: no run has recorded {name}")
    most = max(len(lines) for lines in panels.values())
    if most > _MOST_LINES or len(panels) > _MOST_PANELS:
        raise ResultsError(f"--plot {x}: {most} lines in {len(panels)} panels: choose with --where or --panel")
    names = short_names([*by, *([panel] if panel else [])])
    figure, axes = panels_grid(len(panels))
    labels = list(dict.fromkeys(series.label for lines in panels.values() for series in lines))
    for axis, (value, lines) in zip(axes, panels.items(), strict=True):
        for series in lines:
            draw_series(axis, series, labels.index(series.label), len(labels))
        axis.set_xlabel(x)
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        clear_frame(axis)
        if panel:
            axis.set_title(f"{names[panel]} = {format_cell(value, exact=True)}", fontsize=10)
    label_left(axes, axis_label(name))
    if wants_log([point.mean for lines in panels.values() for series in lines for _, point in series.points]):
        axes[0].set_yscale("log")
    n = [point.n for lines in panels.values() for series in lines for _, point in series.points]
    band = f"band: 95 % interval over up to {max(n)} seeds" if max(n) > 1 else ""
    heading = "\n".join(filter(None, (title, band, by_words(by, names))))
    if labels != [""]:
        shared_legend(figure, axes, heading)
    elif heading:
        figure.suptitle(heading, fontsize=9)
    return figure


def counted_runs(row: Row) -> tuple[Run, ...]:
    """The runs that a line is the mean of: finished ones, else whatever there is."""
    return row.finished or row.runs


def _metric(records: dict[str, list[dict[str, Any]]], x: str, asked: str | None, objective: str) -> str:
    """The full name of the metric; see :func:`curves_figure`."""
    counts: dict[str, int] = {}
    for lines in records.values():
        for name in {key for record in lines for key in record if is_number(record[key])}:
            counts[name] = max(counts.get(name, 0), sum(name in record for record in lines))
    for name in ("step", "epoch", "time_s"):
        counts.pop(name, None)
    if asked is None:
        return objective if counts.get(objective, 0) > 1 else TOTAL
    try:
        name = Names([Run("", "finished", metrics=dict.fromkeys(counts, 0.0))]).resolve(asked)
    except ResultsError as error:
        raise ResultsError(
            f"--plot {x} --metric {asked}: not recorded on the way; {', '.join(sorted(counts))} are"
        ) from error
    if counts.get(name, 2) < 2:
        raise ResultsError(
            f"--plot {x} --metric {asked}: recorded once, at the end; trainer.probe_every_epochs=1 records it before"
        )
    return name


def _points(
    runs: Sequence[Run], records: dict[str, list[dict[str, Any]]], x: str, metric: str
) -> tuple[tuple[Any, Any], ...]:
    """(x, summary over the runs) in the order of x; of a step that was logged twice, the later record counts."""
    gathered: dict[float, list[float]] = {}
    for run in runs:
        own = {
            record[x]: record[metric]
            for record in records[run.folder]
            if is_number(record.get(x)) and is_number(record.get(metric))
        }
        for place, value in own.items():
            gathered.setdefault(place, []).append(value)
    return tuple((place, summarize(gathered[place])) for place in sorted(gathered))
