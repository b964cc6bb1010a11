"""Shared code of figures: panels with lines and bands, their axes, and one legend above the panels.

The code uses only matplotlib's object interface: no global state is changed, and no display is needed.
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

# Okabe and Ito's colours, which most colour-blind readers can tell apart. Markers distinguish the lines in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
GREY = "#666666"
# What figures are read against: the untrained encoder, and training with the true locations, which bounds the errors.
OWN_STYLE: Mapping[str, Mapping[str, Any]] = {
    "random": {"color": GREY, "marker": "x"},
    "supervised": {"color": "black", "marker": "_"},
}
_LOG_RATIO = 50.0
_MOST_LEGEND_COLUMNS, _MOST_LEGEND_ROWS = 6, 2
_MOST_MARKED = 30  # a line with more points has no markers, because they would hide the line


@dataclass(frozen=True)
class Series:
    """One line of a figure. label: shared by lines that differ only in the seed. points: (x, summary of the metric)."""

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
    """Draw a panel for each value of the key ``panel``, with its lines and its reference lines.

    Args:
        panels: the lines of each panel, by the panel's value.
        metric, x, panel: names for the axes and above the panels.
        ticks: the words on the x axis; empty for an axis of numbers.
        dress_x: formats the x axis of a panel, given its x values.
        curves: the reference lines of each panel, None for a panel whose runs have different ones. Empty: no panel
            has reference lines.
        words: the title, and the names of the keys in the lines' labels.
    """
    figure, axes = panels_grid(len(panels))
    found = dict.fromkeys(series.label for lines in panels.values() for series in lines)
    labels = sorted(found, key=lambda label: label in OWN_STYLE)  # the others keep the first colours
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
        means = [point.mean for lines in panels.values() for series in lines for _, point in series.points]
        scale_y(axes[0], means, metric)
    no_lines = NO_LINES if None in curves else ""
    notes = " · ".join(filter(None, (words[0], _interval_words(panels, bool(ticks)), no_lines)))
    heading = "\n".join(filter(None, (notes, words[1])))
    if labels != [""]:
        shared_legend(figure, axes, heading)
    elif heading:
        figure.suptitle(heading, fontsize=9)
    return figure


def axis_label(metric: str) -> str:
    """The name of a metric in words, with its unit in brackets."""
    part = re.fullmatch(r"(\w+)_rmse_px_per_(dot|step)\.(\d+)", metric)
    if part:
        return f"{part[1].replace('_', ' ')} RMSE of {part[2]} {part[3]} [px]"
    for ending, unit in (("_rmse_px", "RMSE [px]"), ("_px", "[px]"), ("_seconds", "time [s]")):
        if metric.endswith(ending):
            return f"{metric[: -len(ending)].replace('_', ' ')} {unit}"
    return metric.replace("_", " ")


def is_rmse(metric: str) -> bool:
    """Whether a metric is an RMSE in px, which the environment's reference lines apply to."""
    return "_rmse_px" in metric


def is_share(metric: str) -> bool:
    """Whether a metric is a share between 0 and 1: of episodes, of answers, or of a variance."""
    return metric.startswith(("planning_success", "planning_failure")) or metric.endswith(("_accuracy", "_share"))


def x_values(lines: Sequence[Series]) -> list[Any]:
    return [value for series in lines for value, _ in series.points]


def _interval_words(panels: Mapping[Any, Sequence[Series]], bars: bool) -> str:
    """The meaning of the bands or bars, in words; empty if every point is a single run."""
    counts = [summary.n for lines in panels.values() for series in lines for _, summary in series.points]
    if max(counts) == 1:
        return ""
    n = f"{max(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    return f"{'bar' if bars else 'band'}: 95 % interval over n = {n} seeds"


def draw_series(axis: Axes, series: Series, position: int, count: int, ticks: Sequence[str] = ()) -> None:
    """Draw one of ``count`` lines with its band. If ``ticks`` are given, draw points with error bars at these words."""
    own = OWN_STYLE.get(series.label, {})
    colour = own.get("color", COLOURS[position % len(COLOURS)])
    marker = own.get("marker", MARKERS[position % len(MARKERS)])
    marker = marker if ticks or len(series.points) <= _MOST_MARKED else ""
    style = "-" if position < len(COLOURS) else "--"
    means = [summary.mean for _, summary in series.points]
    halves = [summary.half_width or 0.0 for _, summary in series.points]
    low = [mean - half for mean, half in zip(means, halves, strict=True)]
    high = [mean + half for mean, half in zip(means, halves, strict=True)]
    if ticks:  # words have no order, so no line connects the points
        xs = [ticks.index(format_cell(value, exact=True)) + _nudge(position, count) for value, _ in series.points]
        axis.errorbar(xs, means, yerr=halves, fmt=marker, ms=6, capsize=3, color=colour, label=series.label, zorder=3)
        return
    numbers = [value for value, _ in series.points]
    axis.plot(numbers, means, style, color=colour, marker=marker, ms=5, lw=1.6, label=series.label, zorder=3)
    axis.fill_between(numbers, low, high, color=colour, alpha=0.18, lw=0, zorder=2)


def _nudge(position: int, count: int) -> float:
    """The horizontal offset of the ``position``-th of ``count`` series from its category."""
    return (position - (count - 1) / 2) * min(0.1, 0.7 / count)


def wants_log(values: Sequence[float]) -> bool:
    """Whether an axis with ``values`` should be logarithmic."""
    return len(values) > 1 and min(values) > 0 and max(values) / min(values) >= _LOG_RATIO


def scale_y(axis: Axes, values: Sequence[float], metric: str) -> None:
    """Choose the axis of ``metric``: 0 to 1 for a share, else logarithmic where ``values`` span much."""
    if is_share(metric):
        axis.set_ylim(-0.03, 1.03)
    elif wants_log(values):
        axis.set_yscale("log")


def clear_frame(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)


def columns_of(count: int) -> int:
    """The number of columns for ``count`` panels."""
    return count if count <= 3 else 2 if count == 4 else 3 if count <= 9 else 4


def label_left(axes: Sequence[Axes], words: str) -> None:
    """Label the shared y axis only at the panels of the left column."""
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
    """Draw one legend above the panels: each label once, in as many columns as fit the figure's width."""
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
    if rows > _MOST_LEGEND_ROWS:  # make the figure higher, so that the panels keep their height
        figure.set_figheight(figure.get_figheight() + 0.2 * (rows - _MOST_LEGEND_ROWS))


def legend_handles(axes: Sequence[Axes]) -> dict[str, Any]:
    """The legend handles of several panels by label, each label once."""
    found = (zip(*axis.get_legend_handles_labels(), strict=True) for axis in axes)
    return {label: handle for pairs in found for handle, label in pairs}


def in_lines(text: str, width: float, size: float) -> str:
    """Break ``text`` into lines of at most ``width`` inches, in a font of ``size`` points."""
    letters = max(10, int(width * 72 / (0.6 * size)))
    return "\n".join(line for part in text.splitlines() for line in textwrap.wrap(part, letters))
