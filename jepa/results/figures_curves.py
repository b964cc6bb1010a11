"""Curves of many runs with the 95 % interval over seeds: against training epochs, training steps, or frames."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jepa.config.names import short_names
from jepa.errors import nearest
from jepa.results.drawing import Series, lines_figure
from jepa.results.figures import also_vary, by_words, curves_along, line_label
from jepa.results.intervals import summarize
from jepa.results.records import Names, ResultsError, Run
from jepa.results.reference import common_levels, run_reference
from jepa.results.reference_drawing import Curve, horizontal
from jepa.results.tables import METRICS, Row, Table, mixed_axes
from jepa.store.archive import archived_run
from jepa.store.metrics import read_metrics
from jepa.store.result import is_number

TOTAL = "loss/total"
FRAME = "frame"
_PER_STEP = "_per_step"
_MOST_LINES, _MOST_PANELS = 16, 12


def curves_figure(
    table: Table, *, x: str, by: Sequence[str], panel: str | None, metric: str | None, objective: str, title: str = ""
) -> Figure:
    """Plot a metric against ``x`` ("epoch", "step" or "frame"), a line for each combination of the axes ``by``.

    Args:
        table: each row gives a line: the mean over its finished runs, or over all its runs if none has finished.
        metric: a name in the runs' ``metrics.jsonl``. None: the objective if it was measured during training, else the
            total loss. Against frames: an RMSE with values by time step. None: the objective if it has such values,
            else the prediction RMSE.
        objective: the metric that the runs minimise.

    Raises:
        ResultsError: other axes vary too, the metric is unknown, there are too many lines, or nothing was recorded.
    """
    others = mixed_axes(table, [panel, *by])
    if others:
        raise ResultsError(f"--plot {x}: {also_vary(others)}: name it in --by or --panel, or fix it with --where")
    read = _by_frame if x == FRAME else _on_the_way
    records = {run.folder: read(run) for row in table.rows for run in counted_runs(row)}
    name = _metric(records, x, metric, objective)
    panels: dict[Any, list[Series]] = {}
    drawn: dict[Any, list[Run]] = {}  # the runs of each panel
    for row in table.rows:
        points = _points(counted_runs(row), records, x, name)
        if points:
            _, label = line_label(table, row, by)
            value = table.cell(row, panel) if panel else None
            panels.setdefault(value, []).append(Series(label, points))
            drawn.setdefault(value, []).extend(counted_runs(row))
    if not panels:
        raise ResultsError(f"--plot {x}: no run has recorded {name}")
    most = max(len(lines) for lines in panels.values())
    if most > _MOST_LINES or len(panels) > _MOST_PANELS:
        raise ResultsError(f"--plot {x}: {most} lines in {len(panels)} panels: choose with --where or --panel")
    names = short_names([*by, *([panel] if panel else [])])
    return lines_figure(
        panels,
        metric=name,
        x=x,
        panel=names[panel] if panel else None,
        ticks=[],
        dress_x=lambda axis, _: axis.xaxis.set_major_locator(MaxNLocator(6, integer=True)),
        curves=[_reference_curves(x, name, drawn[value]) for value in panels],
        words=(title, by_words(by, names)),
    )


def counted_runs(row: Row) -> tuple[Run, ...]:
    """The runs that a line averages: the finished runs, or all runs if none has finished."""
    return row.finished or row.runs


def _on_the_way(run: Run) -> list[dict[str, Any]]:
    archived = None if os.path.isdir(run.folder) else archived_run(run.folder)
    return archived.records if archived is not None else read_metrics(run.folder)


def _by_frame(run: Run) -> list[dict[str, Any]]:
    """A run's errors by time step, as one record for each frame."""
    lists = {
        name.removesuffix(_PER_STEP): values
        for name, values in run.metrics.items()
        if name.endswith(_PER_STEP) and isinstance(values, list)
    }
    frames = max(map(len, lists.values()), default=0)
    return [
        {FRAME: frame, **{name: values[frame] for name, values in lists.items() if frame < len(values)}}
        for frame in range(frames)
    ]


def _reference_curves(x: str, metric: str, runs: Sequence[Run]) -> list[Curve] | None:
    """The reference lines of a panel: against frames through their values by time step, else horizontal.

    None if the runs have different reference lines.
    """
    references = [run_reference(run) for run in runs]
    if x != FRAME:
        shared = common_levels(references, metric)
        return None if shared is None else horizontal(shared)
    frames = max(len(run.metrics.get(metric + _PER_STEP) or []) for run in runs)
    return curves_along({frame: common_levels(references, f"{metric}{_PER_STEP}.{frame}") for frame in range(frames)})


def _metric(records: dict[str, list[dict[str, Any]]], x: str, asked: str | None, objective: str) -> str:
    """The full name of the metric; see :func:`curves_figure`."""
    counts: dict[str, int] = {}
    for lines in records.values():
        for name in {key for record in lines for key in record if is_number(record[key])}:
            counts[name] = max(counts.get(name, 0), sum(name in record for record in lines))
    for name in ("step", "epoch", "time_s", FRAME):
        counts.pop(name, None)
    if asked is None and x == FRAME:
        return objective if objective in counts else METRICS[0]
    if asked is None:
        return objective if counts.get(objective, 0) > 1 else TOTAL
    where = "by frame" if x == FRAME else "on the way"
    try:
        name = Names([Run("", "finished", metrics=dict.fromkeys(counts, 0.0))]).resolve(asked)
    except ResultsError as error:
        close = nearest(asked, counts)
        hint = f"; did you mean {close!r}?" if close else ""
        raise ResultsError(
            f"--plot {x} --metric {asked}: not recorded {where}{hint} (recorded: {', '.join(sorted(counts))})"
        ) from error
    if x != FRAME and counts.get(name, 2) < 2:
        raise ResultsError(
            f"--plot {x} --metric {asked}: recorded once, at the end; trainer.probe_every_epochs=1 records it before"
        )
    return name


def _points(
    runs: Sequence[Run], records: dict[str, list[dict[str, Any]]], x: str, metric: str
) -> tuple[tuple[Any, Any], ...]:
    """(x, summary over the runs) in the order of x. If a step was logged twice, the later record counts."""
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
