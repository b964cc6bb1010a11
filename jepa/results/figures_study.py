"""Figure 3 of the study: four panels, a line for each method, the untrained encoder and the supervised bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jepa.results.drawing import (
    COLOURS,
    GREY,
    MARKERS,
    OWN_STYLE,
    axis_label,
    clear_frame,
    is_rmse,
    label_left,
    panels_grid,
    shared_legend,
)
from jepa.results.records import ResultsError
from jepa.results.reference import common_levels, run_reference
from jepa.results.reference_drawing import NO_LINES, Curve, draw_reference, horizontal
from jepa.results.study import METHODS, PANELS, Cell

_WORDS = {"random": "random: untrained", "supervised": "supervised: the bound of each strength"}
_LINES = ("-", "--", ":", "-.")  # of the scales
_COLOURED = [method for method in METHODS if method not in OWN_STYLE]


def noise_figure(found: Sequence[Cell], *, metric: str, heading: str) -> Figure:
    """Draw ``metric`` against the strength of noise, a panel for each kind of noise.

    Args:
        found: the cells. A panel without cells says so.
        heading: words above the legend.

    Raises:
        ResultsError: there are no cells.
    """
    if not found:
        raise ResultsError("--figure figure3: no finished run has one dot and one noise; +sweep=figure3 makes them")
    figure, axes = panels_grid(len(PANELS))
    scales = list(dict.fromkeys(cell.scale for cell in found))
    others = sorted({cell.method for cell in found} - set(METHODS))
    for axis, panel in zip(axes, PANELS, strict=True):
        here = [cell for cell in found if cell.panel == panel]
        for scale in scales:
            for method in (*METHODS, *others):
                line = [cell for cell in here if (cell.scale, cell.method) == (scale, method)]
                if line:
                    label = _WORDS.get(method, method) + (f" ({scale or 'no scale'})" if len(scales) > 1 else "")
                    _draw_line(axis, line, label, _style(method, others, scales.index(scale)))
        _dress(axis, panel, bool(here))
    label_left(axes, axis_label(metric))
    notes = [heading, _seeds_words(found)]
    if is_rmse(metric):
        curves = [_curves(found, panel, metric) for panel in PANELS]
        notes += [NO_LINES] if None in curves else []
        known = [lines or [] for lines in curves]
        drawn = [lines for lines in known if lines]
        differ = any(lines != drawn[0] for lines in drawn)
        last = [place % 2 == 1 or (place % 2 == 0 and not known[place + 1]) for place in range(len(PANELS))]
        draw_reference(axes, known, [differ or is_last for is_last in last])
        if differ or any(known[place] and not known[place + 1] for place in (0, 2)):
            figure.set_figwidth(figure.get_figwidth() + 1.8)  # names beside the left panels
    shared_legend(figure, axes, " · ".join(filter(None, notes)))
    return figure


def _curves(found: Sequence[Cell], panel: str, metric: str) -> list[Curve] | None:
    """The reference lines of a panel's own runs; empty without runs, None if the runs have different lines."""
    references = [run_reference(run) for cell in found if cell.panel == panel for run in cell.runs]
    shared = common_levels(references, metric) if references else []
    return None if shared is None else horizontal(shared)


def _style(method: str, others: Sequence[str], scale: int) -> dict[str, Any]:
    line = {"linestyle": _LINES[scale % len(_LINES)]}
    if method in OWN_STYLE:
        return {**OWN_STYLE[method], **line}
    place = [*_COLOURED, *others].index(method)
    return {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)], **line}


def _draw_line(axis: Axes, line: Sequence[Cell], label: str, style: Mapping[str, Any]) -> None:
    xs = [cell.strength for cell in line]
    means = [cell.summary.mean for cell in line]
    halves = [cell.summary.half_width or 0.0 for cell in line]
    axis.plot(xs, means, label=label, ms=5, lw=1.6, zorder=3, **style)
    low = [max(0.0, mean - half) for mean, half in zip(means, halves, strict=True)]
    high = [mean + half for mean, half in zip(means, halves, strict=True)]
    axis.fill_between(xs, low, high, color=style["color"], alpha=0.18, lw=0, zorder=2)


def _dress(axis: Axes, panel: str, has_runs: bool) -> None:
    motion, texture = panel.split()
    axis.set_title(f"{motion} {texture} noise", fontsize=10)
    axis.set_xlabel("dataset.noise" if motion == "changing" else "dataset.static_noise")
    axis.set_xlim(-0.1, 3.1)
    axis.set_xticks([0, 0.5, 1, 1.5, 2, 2.5, 3], ["0", "0.5", "1", "1.5", "2", "2.5", "3"])
    clear_frame(axis)
    if not has_runs:
        axis.text(0.5, 0.5, "no finished runs", transform=axis.transAxes, ha="center", va="center", color=GREY)


def _seeds_words(found: Sequence[Cell]) -> str:
    counts = sorted({cell.summary.n for cell in found})
    if counts == [1]:
        return "one seed"
    n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"band: 95 % interval over n = {n} seeds"
