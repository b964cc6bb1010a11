"""The trade-off of three dots: the error of the dot that actions move against the error of the dot that rests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from jepa.results.drawing import COLOURS, GREY, MARKERS, OWN_STYLE, clear_frame, in_lines
from jepa.results.intervals import Summary, summarize
from jepa.results.records import ResultsError
from jepa.results.reference import CENTRE_LINE, common_levels, run_reference
from jepa.results.render import format_cell
from jepa.results.tables import Row, Table
from jepa.store.result import is_number

ERROR = "prediction_rmse_px_per_dot"
ACTION, STATIONARY = f"{ERROR}.0", f"{ERROR}.2"


class Place(NamedTuple):
    """One row of a table in the figure."""

    label: str
    action: Summary  # the error of the action dot, px
    stationary: Summary  # the error of the stationary dot, px


def pareto_figure(table: Table, *, title: str = "") -> Figure:
    """Draw a point for each row of the table, and a line through the points that no other point beats in both errors.

    The line leaves out the rows that others are read against: supervised, which trains with the locations, and random.
    Bars are 95 % intervals over seeds. Grey lines: the error of always answering the centre.

    Raises:
        ResultsError: no finished run has three dots.
    """
    rows = [(row, place) for row in table.rows if (place := _place(row)) is not None]
    found = [place for _, place in rows]
    if not found:
        raise ResultsError("--plot pareto: no finished run has three dots; dataset=multiple has (docs/verdict.md)")
    figure = Figure(figsize=(7.0, 4.8), layout="constrained")
    axis = figure.add_subplot()
    compared = [place for place in found if place.label not in OWN_STYLE]
    styles = {
        place.label: {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number // len(COLOURS) % len(MARKERS)]}
        for number, place in enumerate(compared)
    }
    for place in found:
        x, y, style = place.action, place.stationary, {**styles, **OWN_STYLE}[place.label]
        axis.errorbar(
            x.mean, y.mean, xerr=x.half_width, yerr=y.half_width,
            ls="none", capsize=3, label=place.label, zorder=3, **style,
        )  # fmt: skip
    best = front([(place.action.mean, place.stationary.mean) for place in compared or found])
    axis.plot(*zip(*best, strict=True), color=GREY, lw=1, ls=":", zorder=2)
    references = [run_reference(run) for row, _ in rows for run in row.finished]
    for key, line in ((ACTION, axis.axvline), (STATIONARY, axis.axhline)):
        centre = dict(common_levels(references, key) or []).get(CENTRE_LINE)
        if centre is not None:
            line(centre, color=GREY, lw=0.8, zorder=1)
    axis.set_xlim(left=0)
    axis.set_ylim(bottom=0)
    axis.set_xlabel("action dot: prediction RMSE [px]")
    axis.set_ylabel("stationary dot: prediction RMSE [px]")
    clear_frame(axis)
    words = " · ".join(filter(None, (title, "grey: always the centre; dotted: the points that none beats in both")))
    axis.set_title(in_lines(words, 5.4, 9), fontsize=9, loc="left")
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other point beats in both numbers, in the order of the first number."""
    kept: list[tuple[float, float]] = []
    for point in sorted(set(points)):
        if not kept or point[1] < kept[-1][1]:
            kept.append(point)
    return kept


def _place(row: Row) -> Place | None:
    errors: Mapping[str, Summary | None] = {
        key: summarize([run.value(key) for run in row.finished if is_number(run.value(key))])
        for key in (ACTION, STATIONARY)
    }
    action, stationary = errors[ACTION], errors[STATIONARY]
    if action is None or stationary is None:
        return None
    label = ", ".join(format_cell(value, exact=True) for value in row.point if value is not None)
    return Place(label or "all runs", action, stationary)
