"""Draw reference lines in a figure: dashed and grey, with their names to the right of the frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes

from jepa.results.reference import Level

NO_LINES = "no reference lines: the runs differ in their environment"
GREY = "#666666"
_LABEL_HEIGHT = 0.048  # as a share of the frame's height
_MOST_ABOVE = 4.0  # the y axis is logarithmic if it reaches above this multiple of the highest reference line


class Curve(NamedTuple):
    """One reference line: horizontal at ``ys[0]`` if ``xs`` is empty, else through the points (xs, ys)."""

    label: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]


def horizontal(levels: Sequence[Level]) -> list[Curve]:
    """Horizontal lines. Each label ends in the line's value."""
    return [Curve(f"{name} {value:.2f}", (), (value,)) for name, value in levels]


def draw_reference(axes: Sequence[Axes], curves: Sequence[Sequence[Curve]], labelled: Sequence[bool]) -> None:
    """Draw each panel's curves; the panels share their y axis.

    The y axis starts at 0 and includes the lines. The y axis is logarithmic if other values lie so far above the lines
    that the lines would coincide.

    Args:
        axes: the panels. All other content must be drawn already.
        curves: the reference lines of each panel.
        labelled: for each panel, whether its lines are named to its right.
    """
    values = [value for lines in curves for curve in lines for value in curve.ys]
    if not values:
        return
    _fit_y(axes, values)
    for axis, lines, is_labelled in zip(axes, curves, labelled, strict=True):
        for curve in lines:
            if curve.xs:
                axis.plot(curve.xs, curve.ys, color=GREY, lw=0.9, ls=(0, (4, 3)), zorder=1)
            else:
                axis.axhline(curve.ys[0], color=GREY, lw=0.8, ls=(0, (4, 3)), zorder=1)
        if is_labelled:
            _label(axis, lines)


def _fit_y(axes: Sequence[Axes], values: Sequence[float]) -> None:
    highest = max(values)
    top = max(*(axis.get_ylim()[1] for axis in axes), highest * 1.06)
    if top > _MOST_ABOVE * highest:
        bottom = min(value for value in (*(axis.get_ylim()[0] for axis in axes), *values) if value > 0) * 0.8
        for axis in axes:
            axis.set_yscale("log")
            axis.set_ylim(bottom, top)
        return
    for axis in axes:
        axis.set_ylim(0, top)


def _label(axis: Axes, curves: Sequence[Curve]) -> None:
    """Write the names beside the ends of the curves. Names that would overlap are moved upwards."""
    below = None
    for curve in sorted(curves, key=lambda curve: curve.ys[-1]):
        points = axis.transData.transform([(1.0, curve.ys[-1])])
        height = float(axis.transAxes.inverted().transform(points)[0][1])
        below = height if below is None else max(height, below + _LABEL_HEIGHT)
        axis.text(1.02, below, curve.label, transform=axis.transAxes, fontsize=7.5, color=GREY, va="center")
