"""Figures of many runs: a metric against an axis.

Matplotlib's object interface throughout: nothing global is touched and no display is needed.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from jepa.results.axes import SEED
from jepa.results.intervals import Summary, summarize
from jepa.results.records import ResultsError, Run, is_number, short_names
from jepa.results.reference import common_levels, run_reference
from jepa.results.reference_drawing import NO_LINES, Curve, draw_reference, horizontal
from jepa.results.render import format_cell
from jepa.results.tables import Row, Table, mixed_axes

# Okabe and Ito's colours, which most colour-blind readers can tell apart; markers tell them apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
GREY = "#666666"
_MOST_PANELS = 12
_LOG_RATIO = 50.0
_MOST_LEGEND_COLUMNS, _MOST_LEGEND_ROWS = 6, 2
_MOST_MARKED = 30  # points of a line; more of them hide it


@dataclass(frozen=True)
class Series:
    """One line: its label, which lines for seeds alone share, and point by point x and the summary of the metric."""

    label: str
    points: tuple[tuple[Any, Summary], ...]


def metric_figure(
    table: Table, *, x: str, by: Sequence[str], panel: str | None, metric: str, title: str = ""
) -> Figure:
    """``metric`` against the axis ``x``, a line for each combination of the axes ``by``, a panel for each of ``panel``.

    The band is the 95 % interval over seeds. Raises ResultsError where other axes vary too, or nothing was measured.
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
    figure, axes = panels_grid(len(panels))
    labels = list(dict.fromkeys(series.label for lines in panels.values() for series in lines))
    numeric = all(is_number(x_value) for lines in panels.values() for x_value in _x_values(lines))
    ticks = _categories(panels) if not numeric else []
    for axis, (value, lines) in zip(axes, panels.items(), strict=True):
        for series in lines:
            draw_series(axis, series, labels.index(series.label), len(labels), ticks)
        _dress_x(axis, names[x], _x_values(lines), ticks)
        if panel:
            axis.set_title(f"{names[panel]} = {format_cell(value, exact=True)}", fontsize=10)
    curves = _reference_curves(table, panels, x, panel, metric) if is_rmse(metric) else []
    values = [summary.mean for lines in panels.values() for series in lines for _, summary in series.points]
    _dress_y(axes, metric, values, curves or [])
    if curves and _differ(curves):
        figure.set_figwidth(figure.get_figwidth() + 1.8 * (columns_of(len(axes)) - 1))  # names beside each panel
    no_lines = NO_LINES if curves is None else ""
    notes = " · ".join(filter(None, (title, _interval_words(panels, bool(ticks)), no_lines)))
    heading = "\n".join(filter(None, (notes, by_words(by, names))))
    if labels != [""]:
        shared_legend(figure, axes, heading)
    elif heading:
        figure.suptitle(heading, fontsize=9)
    return figure


def also_vary(axes: Sequence[str]) -> str:
    """``model and dataset.noise also vary``."""
    return f"{axes[0]} also varies" if len(axes) == 1 else f"{', '.join(axes[:-1])} and {axes[-1]} also vary"


def axis_label(metric: str) -> str:
    """A metric's name in words, its unit in brackets."""
    part = re.fullmatch(r"(\w+)_rmse_px_per_(dot|step)\.(\d+)", metric)
    if part:
        return f"{part[1].replace('_', ' ')} RMSE of {part[2]} {part[3]} [px]"
    for ending, unit in (("_rmse_px", "RMSE [px]"), ("_px", "[px]"), ("_seconds", "time [s]")):
        if metric.endswith(ending):
            return f"{metric[: -len(ending)].replace('_', ' ')} {unit}"
    return metric.replace("_", " ")


def is_rmse(metric: str) -> bool:
    """Whether the environment's reference lines may belong beside a metric."""
    return "_rmse_px" in metric


def _dress_y(axes: Sequence[Axes], metric: str, values: Sequence[float], curves: Sequence[Sequence[Curve]]) -> None:
    """Labels and scale of the y axis that all panels share, when everything has been drawn.

    curves: each panel's reference lines; empty where there are none.
    """
    columns = columns_of(len(axes))
    label_left(axes, axis_label(metric))
    if not any(curves):
        scale_y(axes[0], values)
        return
    last = [(position + 1) % columns == 0 or position + 1 == len(axes) for position in range(len(axes))]
    draw_reference(axes, curves, [is_last or _differ(curves) for is_last in last])


def _differ(curves: Sequence[Sequence[Curve]]) -> bool:
    """Whether the panels have different reference lines."""
    return any(lines != curves[0] for lines in curves)


def _x_values(lines: Sequence[Series]) -> list[Any]:
    return [value for series in lines for value, _ in series.points]


def _reference_curves(
    table: Table, panels: dict[Any, list[Series]], x: str, panel: str | None, metric: str
) -> list[list[Curve]] | None:
    """The reference lines of each panel: horizontal, or through the values of x that move them.

    None where runs of one point have different ones, or where they change along an axis of words.
    """
    found = []
    for value in panels:
        rows = [row for row in table.rows if not panel or table.cell(row, panel) == value]
        points: dict[Any, list[Run]] = {}
        for row in rows:
            for run in row.finished:
                if is_number(run.value(metric)):
                    points.setdefault(table.cell(row, x), []).append(run)
        shared = common_levels([run_reference(run) for runs in points.values() for run in runs], metric)
        curves = horizontal(shared) if shared is not None else _curves_along(points, metric)
        if curves is None:
            return None
        found.append(curves)
    return found


def _curves_along(points: dict[Any, list[Run]], metric: str) -> list[Curve] | None:
    """The reference lines through their values at each x, where x is a number and each x has lines of its own."""
    if not all(is_number(point) for point in points):
        return None
    columns: dict[str, list[tuple[float, float]]] = {}
    for point in sorted(points):
        levels = common_levels([run_reference(run) for run in points[point]], metric)
        if levels is None:
            return None
        for name, value in levels:
            columns.setdefault(name, []).append((point, value))
    return [Curve(name, *zip(*column, strict=True)) for name, column in columns.items()]


def _panels(table: Table, x: str, by: Sequence[str], panel: str | None, metric: str) -> dict[Any, list[Series]]:
    """Panel's value -> its lines, points in the order of x."""
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
    """(what tells a row's line from the others, its label): lines that differ in their seed alone share a label."""
    shown = {key: format_cell(table.cell(row, key), exact=True) for key in by}
    without_seed = [text for key, text in shown.items() if key != SEED]
    return ", ".join(shown.values()), ", ".join(without_seed or shown.values())


def by_words(by: Sequence[str], names: Mapping[str, str]) -> str:
    """What the lines stand for."""
    others = [names[key] for key in by if key != SEED]
    return ", ".join(others) + " (a line for each seed)" if others and SEED in by else ", ".join(others or by)


def _interval_words(panels: dict[Any, list[Series]], bars: bool) -> str:
    """What the bands, or the bars, are; nothing where every point is a single run."""
    counts = [summary.n for lines in panels.values() for series in lines for _, summary in series.points]
    if max(counts) == 1:
        return ""
    n = f"{max(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    return f"{'bar' if bars else 'band'}: 95 % interval over n = {n} seeds"


def _by_x(points: list[tuple[Any, Summary]]) -> list[tuple[Any, Summary]]:
    return sorted(points, key=lambda point: (not is_number(point[0]), point[0] if is_number(point[0]) else 0))


def _categories(panels: dict[Any, list[Series]]) -> list[str]:
    found = (point[0] for lines in panels.values() for series in lines for point in series.points)
    return list(dict.fromkeys(format_cell(value, exact=True) for value in found))


def draw_series(axis: Axes, series: Series, position: int, count: int, ticks: Sequence[str] = ()) -> None:
    """One of ``count`` lines with its band; points with bars at the words ``ticks``, where x is no number."""
    colour = COLOURS[position % len(COLOURS)]
    marker = MARKERS[position % len(MARKERS)] if ticks or len(series.points) <= _MOST_MARKED else ""
    style = "-" if position < len(COLOURS) else "--"
    means = [summary.mean for _, summary in series.points]
    halves = [summary.half_width or 0.0 for _, summary in series.points]
    low = [mean - half for mean, half in zip(means, halves, strict=True)]
    high = [mean + half for mean, half in zip(means, halves, strict=True)]
    if ticks:  # words have no order: points with bars, no line between them
        xs = [ticks.index(format_cell(value, exact=True)) + _nudge(position, count) for value, _ in series.points]
        axis.errorbar(xs, means, yerr=halves, fmt=marker, ms=6, capsize=3, color=colour, label=series.label, zorder=3)
        return
    numbers = [value for value, _ in series.points]
    axis.plot(numbers, means, style, color=colour, marker=marker, ms=5, lw=1.6, label=series.label, zorder=3)
    axis.fill_between(numbers, low, high, color=colour, alpha=0.18, lw=0, zorder=2)


def _nudge(position: int, count: int) -> float:
    """How far to the side of its category the ``position``-th of ``count`` series is drawn."""
    return (position - (count - 1) / 2) * min(0.1, 0.7 / count)


def _dress_x(axis: Axes, name: str, values: list[Any], ticks: list[str]) -> None:
    axis.set_xlabel(name)
    clear_frame(axis)
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
    """Whether ticks at all of ``values`` would not crowd."""
    span = values[-1] - values[0]
    return all(after - before >= span / 12 for before, after in zip(values[:-1], values[1:], strict=True))


def wants_log(values: Sequence[float]) -> bool:
    """Whether an axis that holds ``values`` is to be logarithmic."""
    return len(values) > 1 and min(values) > 0 and max(values) / min(values) >= _LOG_RATIO


def scale_y(axis: Axes, values: Sequence[float]) -> None:
    if wants_log(values):
        axis.set_yscale("log")


def clear_frame(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)


def columns_of(count: int) -> int:
    """How many panels stand side by side of ``count``."""
    return count if count <= 3 else 2 if count == 4 else 3 if count <= 9 else 4


def label_left(axes: Sequence[Axes], words: str) -> None:
    """Name the y axis that panels share on the left ones alone."""
    for position, axis in enumerate(axes):
        if position % columns_of(len(axes)) == 0:
            axis.set_ylabel(words)
        else:
            axis.tick_params(labelleft=False)


def panels_grid(count: int, width: float = 7.0) -> tuple[Figure, list[Axes]]:
    columns = columns_of(count)
    rows = -(-count // columns)
    size = (width, 4.2) if count == 1 else (3.6 * columns + 1.8, 3.2 * rows + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    axes: list[Axes] = []
    for position in range(count):
        axes.append(figure.add_subplot(rows, columns, position + 1, sharey=axes[0] if axes else None))
        axes[-1].margins(x=0.03)
    return figure, axes


def shared_legend(figure: Figure, axes: Sequence[Axes], title: str) -> None:
    """One legend above the panels, where it hides nothing; each label once, in as many columns as have room."""
    found = [axis.get_legend_handles_labels() for axis in axes]
    handles = {label: handle for handles, labels in found for handle, label in zip(handles, labels, strict=True)}
    width = figure.get_figwidth()
    for columns in range(min(len(handles), _MOST_LEGEND_COLUMNS), 0, -1):
        legend = figure.legend(
            list(handles.values()), [in_lines(label, width, 9) for label in handles],
            title=in_lines(title, width, 9) or None, loc="outside upper center",
            ncols=columns, frameon=False, fontsize=9, title_fontsize=9,
        )  # fmt: skip
        size = legend.get_window_extent(FigureCanvasAgg(figure).get_renderer())  # type: ignore[no-untyped-call]
        if size.width <= 0.98 * figure.bbox.width or columns == 1:
            break
        legend.remove()
    legend.get_title().set_multialignment("center")
    rows = -(-len(handles) // columns)
    if rows > _MOST_LEGEND_ROWS:  # the panels keep their height
        figure.set_figheight(figure.get_figheight() + 0.2 * (rows - _MOST_LEGEND_ROWS))


def in_lines(text: str, width: float, size: float) -> str:
    """``text`` broken into lines that fit ``width`` inches in letters of ``size`` points."""
    letters = max(10, int(width * 72 / (0.6 * size)))
    return "\n".join(line for part in text.splitlines() for line in textwrap.wrap(part, letters))
