"""Figures of searches: the metric by trial and by hyperparameter. Each search has a panel or a row of panels.

Pruned and failed trials are only marked at the lower edge, because their last values cannot be compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jepa.config.names import short_names
from jepa.results.axes import axis_value
from jepa.results.drawing import (
    COLOURS,
    GREY,
    axis_label,
    clear_frame,
    in_lines,
    is_rmse,
    label_left,
    legend_handles,
    panels_grid,
    scale_y,
    shared_legend,
    wants_log,
)
from jepa.results.records import ResultsError, Run
from jepa.results.reference import common_levels, run_reference
from jepa.results.reference_drawing import draw_reference, horizontal
from jepa.results.render import format_cell, format_number
from jepa.results.searches import SearchRuns, trial_number
from jepa.results.tables import sign_of
from jepa.store.result import is_number

_ENDS = {"pruned": ("v", GREY, 0.055), "failed": ("x", "#B00020", 0.02)}  # marker, colour, height above the edge
_BEST = COLOURS[1]
_MOST_PANELS, _MOST_COLUMNS = 32, 4


def trials_figure(searches: Sequence[SearchRuns], *, metric: str) -> Figure:
    """Plot the objective of every trial by trial number, and the best value so far, in a panel for each search."""
    searches = _with_results(searches, metric, "trials")
    figure, axes = panels_grid(len(searches), width=8.0)
    for axis, search in zip(axes, searches, strict=True):
        numbers = {run.folder: trial_number(run, place) for place, run in enumerate(search.runs)}
        finished = search.finished(metric)
        xs, ys = [numbers[run.folder] for run in finished], [float(run.value(metric)) for run in finished]
        axis.scatter(xs, ys, s=20, color=COLOURS[0], alpha=0.75, label="finished", zorder=3)
        best = list(accumulate(ys, min if sign_of(metric) > 0 else max))
        last = max(numbers.values())
        axis.step([*xs, last], [*best, best[-1]], where="post", color=_BEST, lw=1.8, label="best so far")
        _draw_ends(axis, search.runs, [numbers[run.folder] for run in search.runs])
        axis.margins(y=0.15)  # room for the marks at the lower edge
        axis.set_title(_titled(search, metric, 5.0 if len(searches) == 1 else 3.4), fontsize=10)
        axis.set_xlabel("trial")
        axis.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        clear_frame(axis)
    _dress(axes, searches, metric)
    shared_legend(figure, axes, "")
    return figure


def importance_figure(shares: Sequence[tuple[SearchRuns, dict[str, float]]], *, metric: str, method: str) -> Figure:
    """Plot each hyperparameter's share of the variation of ``metric`` as bars, the largest on top.

    Each search has a panel.
    """
    heights = [1.0 + 0.36 * len(importances) for _, importances in shares]
    figure = Figure(figsize=(7.0, 0.4 + sum(heights)), layout="constrained")
    axes = figure.subplots(len(shares), 1, squeeze=False, height_ratios=heights)[:, 0]
    largest = max((share for _, importances in shares for share in importances.values()), default=1.0)
    for axis, (search, importances) in zip(axes, shares, strict=True):
        names = short_names(importances)
        ordered = sorted(importances.items(), key=lambda item: item[1])
        bars = axis.barh(
            [names[key] for key, _ in ordered], [share for _, share in ordered], color=COLOURS[0], height=0.65
        )
        axis.bar_label(bars, labels=[f"{share:.2f}" for _, share in ordered], padding=4, fontsize=9)
        axis.set_xlim(0, max(1e-9, largest) * 1.15)
        count = len(search.finished(metric))
        axis.set_title(in_lines(f"{search.title}: {method} over {count} finished trials", 5.0, 10), fontsize=10)
        clear_frame(axis)
    axes[-1].set_xlabel(f"share in the variation of {axis_label(metric)}")
    return figure


def slice_figure(searches: Sequence[SearchRuns], *, metric: str, keys: Sequence[str] = ()) -> Figure:
    """Plot the metric against each hyperparameter, coloured by trial, in a row of panels for each search.

    keys: the hyperparameters to plot; empty: all that a search varied.
    """
    searches = _with_results(searches, metric, "slice")
    shown = [[axis for axis in search.axes if not keys or axis in keys] for search in searches]
    most = max(map(len, shown))
    if not most:
        raise ResultsError("--plot slice: nothing varies within a search")
    columns = min(most, _MOST_COLUMNS)
    rows = [max(1, -(-len(axes) // columns)) for axes in shown]
    if sum(rows) * columns > _MOST_PANELS:
        raise ResultsError(f"--plot slice: {sum(rows) * columns} panels; at most {_MOST_PANELS}: choose with --where")
    width = max(2.6 * columns + 1.0, 5.0)
    figure = Figure(figsize=(width, sum(2.6 * count + 0.5 for count in rows)), layout="constrained")
    parts = figure.subfigures(len(searches), 1, squeeze=False, height_ratios=[2.6 * count + 0.5 for count in rows])
    for part, search, keys_shown, count in zip(parts[:, 0], searches, shown, rows, strict=True):
        _draw_slices(part.subplots(count, columns, squeeze=False, sharey=True), search, keys_shown, metric)
        part.suptitle(_titled(search, metric, width), fontsize=10)
    return figure


def _draw_slices(grid: Any, search: SearchRuns, keys: Sequence[str], metric: str) -> None:
    """Draw a panel of ``grid`` for each of ``keys``. Add a colour bar of the trials and a legend to the figure."""
    names = short_names(keys)
    colours = Normalize(0, max(trial_number(run, place) for place, run in enumerate(search.runs)) or 1)
    panels = list(grid.flat)
    for axis, key in zip(panels, keys, strict=False):
        _draw_slice(axis, search, key, metric, colours)
        axis.set_xlabel(names[key])
        axis.tick_params(labelleft=axis in grid[:, 0])
    for axis in panels[len(keys) :]:
        axis.set_axis_off()
    for axis in grid[:, 0]:
        axis.set_ylabel(axis_label(metric))
    panels[0].margins(y=0.15)  # room for the marks at the lower edge
    scale_y(panels[0], [float(run.value(metric)) for run in search.finished(metric)], metric)
    part = panels[0].figure
    bar = part.colorbar(ScalarMappable(colours, "viridis"), ax=panels, label="trial", fraction=0.03)
    bar.locator = MaxNLocator(6, integer=True)
    handles = legend_handles(panels)
    part.legend(list(handles.values()), list(handles), loc="outside lower right", ncols=3, frameon=False, fontsize=8)


def parallel_figure(searches: Sequence[SearchRuns], *, metric: str) -> Figure:
    """Plot each trial as a line through its hyperparameters to the metric, better trials darker.

    Each search has a panel.
    """
    searches = [search for search in _with_results(searches, metric, "parallel") if search.axes]
    if not searches:
        raise ResultsError("--plot parallel: nothing varies within a search")
    most = max(len(search.axes) for search in searches)
    width = max(7.0, 1.7 * (most + 1))
    figure = Figure(figsize=(width, 3.6 * len(searches) + 0.4), layout="constrained")
    axes = figure.subplots(len(searches), 1, squeeze=False)[:, 0]
    for axis, search in zip(axes, searches, strict=True):
        _draw_parallel(axis, search, metric)
        axis.set_title(_titled(search, metric, width), fontsize=10, pad=22)
    shared_legend(figure, list(axes), "")
    return figure


def _with_results(searches: Sequence[SearchRuns], metric: str, plot: str) -> list[SearchRuns]:
    found = [search for search in searches if search.finished(metric)]
    if not found:
        raise ResultsError(f"--plot {plot}: no finished run has {metric}")
    if len(found) > _MOST_PANELS:
        raise ResultsError(f"--plot {plot}: {len(found)} searches; at most {_MOST_PANELS}: name fewer folders")
    return found


def _titled(search: SearchRuns, metric: str, width: float) -> str:
    """The search's title and its best finished trial."""
    best = search.best(metric)
    words = f": best {format_number(float(best.value(metric)))} ({best.name})" if best else ""
    return in_lines(search.title + words, width, 10)


def _dress(axes: Sequence[Axes], searches: Sequence[SearchRuns], metric: str) -> None:
    """Add labels, scale and reference lines to panels with a shared y axis. Call this after all other drawing."""
    label_left(axes, axis_label(metric))
    finished = [search.finished(metric) for search in searches]
    lines = [common_levels([run_reference(run) for run in runs], metric) or [] for runs in finished]
    if is_rmse(metric) and any(lines):
        alike = all(levels == lines[0] for levels in lines)
        labelled = [not alike or axis is axes[-1] for axis in axes]
        draw_reference(axes, [horizontal(levels) for levels in lines], labelled)
    else:
        scale_y(axes[0], [float(run.value(metric)) for runs in finished for run in runs], metric)


def _draw_ends(axis: Axes, runs: Sequence[Run], xs: Sequence[float]) -> None:
    """Draw marks at the lower edge for the pruned and failed trials."""
    for status, (marker, colour, height) in _ENDS.items():
        places = [x for run, x in zip(runs, xs, strict=True) if run.status == status]
        if places:
            marks = axis.scatter(
                places, [height] * len(places), s=24, marker=marker, color=colour, label=status, zorder=4,
                clip_on=False, transform=axis.get_xaxis_transform(),
            )  # fmt: skip
            if marker == "v":
                marks.set_facecolor("none")


def _draw_slice(axis: Axes, search: SearchRuns, key: str, metric: str, colours: Normalize) -> None:
    runs = [run for run in search.runs if axis_value(run, key) is not None]
    values = [axis_value(run, key) for run in runs]
    if all(map(is_number, values)):
        xs = [float(value) for value in values]
        axis.set_xscale("log" if wants_log(xs) else "linear")
        axis.margins(x=0.06)
    else:
        words = list(dict.fromkeys(sorted(format_cell(value, exact=True) for value in values)))
        xs = [float(words.index(format_cell(value, exact=True))) for value in values]
        axis.set_xticks(range(len(words)), words, rotation=30 if max(map(len, words)) > 8 else 0)
        axis.set_xlim(-0.5, len(words) - 0.5)
    counted = {run.folder for run in search.finished(metric)}
    points = [
        (x, float(run.value(metric)), place)
        for place, (x, run) in enumerate(zip(xs, runs, strict=True))
        if run.folder in counted
    ]
    numbers = [trial_number(runs[place], place) for _, _, place in points]
    axis.scatter(
        [x for x, _, _ in points], [y for _, y, _ in points], c=numbers, cmap="viridis", norm=colours, s=24, zorder=3
    )
    best = min(points, key=lambda point: sign_of(metric) * point[1], default=None)
    if best is not None:
        axis.scatter(
            best[0], best[1], s=90, facecolors="none", edgecolors=_BEST, linewidths=1.8, label="best", zorder=4
        )
    _draw_ends(axis, runs, xs)
    clear_frame(axis)


def _draw_parallel(axis: Axes, search: SearchRuns, metric: str) -> None:
    keys = list(search.axes)
    finished = search.finished(metric)
    scales = [_Scale([axis_value(run, key) for run in search.runs]) for key in keys]
    scales.append(_Scale([float(run.value(metric)) for run in finished]))
    for run in search.runs:
        if run.status == "pruned":
            heights = [scale.height(axis_value(run, key)) for key, scale in zip(keys, scales, strict=False)]
            axis.plot(range(len(keys)), heights, color=GREY, lw=0.8, alpha=0.5, ls=":", label="pruned", zorder=1)
    sign = sign_of(metric)
    ordered = sorted(finished, key=lambda run: -sign * float(run.value(metric)))  # the best last, on top of the others
    for place, run in enumerate(ordered):
        heights = [scale.height(axis_value(run, key)) for key, scale in zip(keys, scales, strict=False)]
        heights.append(scales[-1].height(float(run.value(metric))))
        is_best = place == len(ordered) - 1
        shade = place / max(1, len(ordered) - 1)
        axis.plot(
            range(len(heights)), heights, color=_BEST if is_best else COLOURS[0], lw=2.2 if is_best else 1.1,
            alpha=1.0 if is_best else 0.15 + 0.6 * shade, label="best" if is_best else "finished", zorder=2 + is_best,
        )  # fmt: skip
    names = short_names(keys)
    for x, (name, scale) in enumerate(zip([*names.values(), axis_label(metric)], scales, strict=True)):
        axis.axvline(x, color="black", lw=0.8, zorder=4)
        axis.text(x, 1.04, in_lines(name, 1.7, 9), ha="center", va="bottom", fontsize=9)
        for height, text in scale.ticks():
            axis.text(x + 0.03, height, text, fontsize=7.5, va="center", zorder=5, bbox=_HALO)
    axis.set(xlim=(-0.15, len(keys) + 0.35), ylim=(-0.04, 1.04))
    axis.set_axis_off()


_HALO = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.6}


class _Scale:
    """Maps the values of one hyperparameter to heights from 0 to 1: logarithmic, linear, or one for each word."""

    def __init__(self, values: Sequence[Any]) -> None:
        present = [value for value in values if value is not None]
        self._words = (
            [] if present and all(map(is_number, present)) else sorted({format_cell(v, exact=True) for v in values})
        )
        numbers = [float(value) for value in present] if not self._words else [0.0, float(len(self._words) - 1)]
        self._log = not self._words and wants_log(numbers)
        self._low, self._high = self._transformed(min(numbers)), self._transformed(max(numbers))

    def height(self, value: Any) -> float:
        """The height of a value; NaN for a missing value."""
        if self._words:
            return self._placed(float(self._words.index(format_cell(value, exact=True))))
        return math.nan if value is None else self._placed(self._transformed(float(value)))

    def ticks(self) -> list[tuple[float, str]]:
        """Heights with their labels: one for every word, or for five numbers."""
        if self._words:
            return [(self._placed(float(place)), word) for place, word in enumerate(self._words)]
        if self._high == self._low:
            return [(0.5, f"{self._shown(self._low):.3g}")]
        return [
            (part, f"{self._shown(self._low + part * (self._high - self._low)):.3g}")
            for part in (0, 0.25, 0.5, 0.75, 1)
        ]

    def _placed(self, number: float) -> float:
        return 0.5 if self._high == self._low else (number - self._low) / (self._high - self._low)

    def _transformed(self, number: float) -> float:
        return math.log10(number) if self._log else number

    def _shown(self, number: float) -> float:
        return 10.0**number if self._log else number
