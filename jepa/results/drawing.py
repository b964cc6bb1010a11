"""What figures share: lines with bands in panels, their axes, and one legend above them.

Matplotlib's object interface throughout: nothing global is touched and no display is needed.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jepa.results.intervals import Summary
from jepa.results.reference_drawing import NO_LINES, Curve, draw_reference
from jepa.results.render import format_cell

# Okabe and Ito's colours, which most colour-blind readers can tell apart; markers tell them apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
GREY = "#666666"
_LOG_RATIO = 50.0
_MOST_LEGEND_COLUMNS, _MOST_LEGEND_ROWS = 6, 2
_MOST_MARKED = 30  # points of a line; more of them hide it


@dataclass(frozen=True)
class Series:
    """One line: its label, shared by lines that differ only in the seed; at each point x and the metric's summary."""

    label: str
    points: tuple[tuple[Any, Summary], ...]


def lines_figure(
    panels: Mapping[Any, Sequence[Series]],
    *,
    metric: str,
    x: str,
    panel: str | None,
    ticks: Sequence[str],
    dress_x: Callable[[Axes, list[Any]], None],
    curves: Sequence[Sequence[Curve] | None],
    words: tuple[str, str],
) -> Figure:
    """A panel for each value of the key ``panel``, with its lines, and reference lines where they are shared.

    Args:
        panels: the lines of each panel, by the panel's value.
        metric, x, panel: what stands on the axes and above the panels.
        ticks: the words on the x axis, where it has no numbers.
        dress_x: sets the x axis of a panel that has these values.
        curves: each panel's reference lines, None where its runs have different ones; empty: there are none.
        words: the title, and what the lines stand for.
    """
    figure, axes = panels_grid(len(panels))
    labels = list(dict.fromkeys(series.label for lines in panels.values() for series in lines))
    for axis, (value, lines) in zip(axes, panels.items(), strict=True):
        for series in lines:
            draw_series(axis, series, labels.index(series.label), len(labels), ticks)
        axis.set_xlabel(x)
        dress_x(axis, x_values(lines))
        clear_frame(axis)
        if panel:
            axis.set_title(f"{panel} = {format_cell(value, exact=True)}", fontsize=10)
    label_left(axes, axis_label(metric))
    known = [lines or [] for lines in curves]
    if any(known):
        columns, differ = columns_of(len(axes)), any(lines != known[0] for lines in known)
        last = [(place + 1) % columns == 0 or place + 1 == len(axes) for place in range(len(axes))]
        draw_reference(axes, known, [differ or is_last for is_last in last])
        if differ:
            figure.set_figwidth(figure.get_figwidth() + 1.8 * (columns - 1))  # names beside each panel
    else:
        scale_y(axes[0], [point.mean for lines in panels.values() for series in lines for _, point in series.points])
    no_lines = NO_LINES if None in curves else ""
    notes = " · ".join(filter(None, (words[0], _interval_words(panels, bool(ticks)), no_lines)))
    heading = "\n".join(filter(None, (notes, words[1])))
    if labels != [""]:
        shared_legend(figure, axes, heading)
    elif heading:
        figure.suptitle(heading, fontsize=9)
    return figure


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


def x_values(lines: Sequence[Series]) -> list[Any]:
    return [value for series in lines for value, _ in series.points]


def _interval_words(panels: Mapping[Any, Sequence[Series]], bars: bool) -> str:
    """What the bands, or the bars, are; nothing where every point is a single run."""
    counts = [summary.n for lines in panels.values() for series in lines for _, summary in series.points]
    if max(counts) == 1:
        return ""
    n = f"{max(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    return f"{'bar' if bars else 'band'}: 95 % interval over n = {n} seeds"


def draw_series(axis: Axes, series: Series, position: int, count: int, ticks: Sequence[str] = ()) -> None:
    """Draw one of ``count`` lines with its band. Where x is no number, draw points with bars at the words ``ticks``."""
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


def wants_log(values: Sequence[float]) -> bool:
    """Whether an axis that holds ``values`` is to be logarithmic."""
    return len(values) > 1 and min(values) > 0 and max(values) / min(values) >= _LOG_RATIO


def scale_y(axis: Axes, values: Sequence[float]) -> None:
    if wants_log(values):
        axis.set_yscale("log")


def clear_frame(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)


def columns_of(count: int) -> int:
    """How many of ``count`` panels stand side by side."""
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
    handles = legend_handles(axes)
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


def legend_handles(axes: Sequence[Axes]) -> dict[str, Any]:
    """What stands in a legend of several panels, by its label: each label once."""
    found = (zip(*axis.get_legend_handles_labels(), strict=True) for axis in axes)
    return {label: handle for pairs in found for handle, label in pairs}


def in_lines(text: str, width: float, size: float) -> str:
    """``text`` broken into lines that fit ``width`` inches in letters of ``size`` points."""
    letters = max(10, int(width * 72 / (0.6 * size)))
    return "\n".join(line for part in text.splitlines() for line in textwrap.wrap(part, letters))
