"""Figures of many runs: a metric against an axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from jepa.config.names import short_names
from jepa.results.axes import SEED
from jepa.results.drawing import Series, is_rmse, lines_figure, wants_log, x_values
from jepa.results.intervals import Summary, summarize
from jepa.results.records import ResultsError
from jepa.results.reference import Level, Reference, common_levels, run_reference
from jepa.results.reference_drawing import Curve, horizontal
from jepa.results.render import format_cell
from jepa.results.tables import Row, Table, mixed_axes
from jepa.store.result import is_number

_MOST_PANELS = 12


def metric_figure(
    table: Table, *, x: str, by: Sequence[str], panel: str | None, metric: str, title: str = ""
) -> Figure:
    """Plot ``metric`` against the axis ``x``, with a band for the 95 % interval over seeds.

    Args:
        by: the axes whose combinations have a line each.
        panel: the axis whose values have a panel each; None: one panel.

    Raises:
        ResultsError: other axes vary too, no finished run has the metric, or there are too many panels.
    """
    others = mixed_axes(table, [x, panel, *by])
    if others:
        raise ResultsError(
            f"--plot {x}: {also_vary(others)}: name {'it' if len(others) == 1 else 'them'} in --by or --panel, fix "
            f"with --where, or keep the best with --best {','.join((x, *by, *([panel] if panel else [])))}"
        )
    panels = _panels(table, x, by, panel, metric)
    if not panels:
        raise ResultsError(f"--metric {metric}: no finished run has it")
    if len(panels) > _MOST_PANELS:
        raise ResultsError(f"--panel {panel}: {len(panels)} panels; at most {_MOST_PANELS}: choose with --where")
    names = short_names([x, *by, *([panel] if panel else []), metric])
    numeric = all(is_number(value) for lines in panels.values() for value in x_values(lines))
    ticks = _categories(panels) if not numeric else []
    return lines_figure(
        panels,
        metric=metric,
        x=names[x],
        panel=names[panel] if panel else None,
        ticks=ticks,
        dress_x=lambda axis, values: _dress_x(axis, values, ticks),
        curves=_reference_curves(table, panels, x, panel, metric) if is_rmse(metric) else [],
        words=(title, by_words(by, names)),
    )


def also_vary(axes: Sequence[str]) -> str:
    """The axes in words, for example ``model and dataset.noise also vary``."""
    return f"{axes[0]} also varies" if len(axes) == 1 else f"{', '.join(axes[:-1])} and {axes[-1]} also vary"


def _reference_curves(
    table: Table, panels: Mapping[Any, list[Series]], x: str, panel: str | None, metric: str
) -> list[list[Curve] | None]:
    """The reference lines of each panel: horizontal if all runs share them, else through their values at each x.

    None for a panel in which the runs of one point have different lines, or the lines change along an axis of words.
    """
    found: list[list[Curve] | None] = []
    for value in panels:
        points: dict[Any, list[Reference | None]] = {}
        for row in table.rows:
            measured = [run for run in row.finished if is_number(run.value(metric))]
            if measured and (not panel or table.cell(row, panel) == value):
                points.setdefault(table.cell(row, x), []).extend(map(run_reference, measured))
        shared = common_levels([one for references in points.values() for one in references], metric)
        if shared is not None:
            found.append(horizontal(shared))
        elif all(is_number(point) for point in points):
            found.append(curves_along({point: common_levels(points[point], metric) for point in sorted(points)}))
        else:
            found.append(None)
    return found


def curves_along(levels: Mapping[float, Sequence[Level] | None]) -> list[Curve] | None:
    """Reference lines through their levels at each x; None if the runs at some x do not share their levels."""
    columns: dict[str, list[tuple[float, float]]] = {}
    for x, known in levels.items():
        if known is None:
            return None
        for name, value in known:
            columns.setdefault(name, []).append((x, value))
    return [Curve(name, *zip(*column, strict=True)) for name, column in columns.items()]


def _panels(table: Table, x: str, by: Sequence[str], panel: str | None, metric: str) -> dict[Any, list[Series]]:
    """The lines of each panel, by the panel's value. The points are in the order of x."""
    lines: dict[Any, dict[tuple[str, str], list[tuple[Any, Summary]]]] = {}
    for row in table.rows:
        values = [run.value(metric) for run in row.finished if is_number(run.value(metric))]
        summary = summarize(values)
        if summary is None:
            continue
        line = line_label(table, row, by)
        lines.setdefault(table.cell(row, panel) if panel else None, {}).setdefault(line, []).append(
            (table.cell(row, x), summary)
        )
    order = sorted(lines, key=lambda value: (not is_number(value), value if is_number(value) else str(value)))
    return {
        value: [Series(label, tuple(_by_x(points))) for (_, label), points in lines[value].items()] for value in order
    }


def line_label(table: Table, row: Row, by: Sequence[str]) -> tuple[str, str]:
    """(an identifier of the row's line, its label). Lines that differ only in their seed share a label."""
    shown = {key: format_cell(table.cell(row, key), exact=True) for key in by}
    without_seed = [text for key, text in shown.items() if key != SEED]
    return ", ".join(shown.values()), ", ".join(without_seed or shown.values())


def by_words(by: Sequence[str], names: Mapping[str, str]) -> str:
    """The names of the keys in the lines' labels, for the heading of a figure."""
    others = [names[key] for key in by if key != SEED]
    return ", ".join(others) + " (a line for each seed)" if others and SEED in by else ", ".join(others or by)


def _by_x(points: list[tuple[Any, Summary]]) -> list[tuple[Any, Summary]]:
    return sorted(points, key=lambda point: (not is_number(point[0]), point[0] if is_number(point[0]) else 0))


def _categories(panels: dict[Any, list[Series]]) -> list[str]:
    found = (point[0] for lines in panels.values() for series in lines for point in series.points)
    return list(dict.fromkeys(format_cell(value, exact=True) for value in found))


def _dress_x(axis: Axes, values: list[Any], ticks: list[str]) -> None:
    if ticks:
        axis.set_xticks(range(len(ticks)), ticks, rotation=30 if max(map(len, ticks)) > 12 else 0)
        axis.set_xlim(-0.5, len(ticks) - 0.5)
        return
    distinct = sorted(set(values))
    if wants_log(distinct):
        axis.set_xscale("log")
        return
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if len(distinct) <= 9 and _evenly(distinct):
        axis.set_xticks(distinct)


def _evenly(values: list[float]) -> bool:
    """Whether ``values`` are far enough apart for a tick at each."""
    span = values[-1] - values[0]
    return all(after - before >= span / 12 for before, after in zip(values[:-1], values[1:], strict=True))
