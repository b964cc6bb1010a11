"""The crossing matrix: the error of models trained under one noise and probed under another, as a heat map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from jepa.results.drawing import axis_label, in_lines
from jepa.results.intervals import Summary
from jepa.results.records import ResultsError, Run
from jepa.results.render import format_cell
from jepa.results.tables import Table

OWN = "as in training"
# (what joins the metric and the condition in a metric's name, the panel's title)
FORMS = (
    ("_on_", "probe fitted anew under the noise that judges"),
    ("_kept_on_", "probe fitted under the noise of training"),
)


def transfer_figure(table: Table, runs: Sequence[Run], *, metric: str, title: str = "") -> Figure:
    """Draw a heat map for each form of probing. A row is a training condition, a column one of ``dataset.eval``.

    The colours end at the largest error of a probe that is fitted anew; larger errors share the last colour.

    Args:
        table: the means of the runs over seeds; its axes distinguish the training conditions.
        runs: the runs of the table.
        metric: a metric that is measured under every condition, such as ``prediction_rmse_px``.

    Raises:
        ResultsError: no finished run was probed under other noise.
    """
    columns = conditions(runs, metric)
    found = {_name(table, row.point): row for row in table.rows if row.finished}
    rows = {name: found[name] for name in dict.fromkeys([*columns, *found]) if name in found}
    if not columns or not rows:
        raise ResultsError(
            f"--plot transfer: no finished run has {metric} under other noise; dataset.eval says which (docs/noise.md)"
        )
    panels = {
        words: np.array(
            [
                [_mean(table.cell(row, name)) for name in (metric, *(f"{metric}{joint}{c}" for c in columns))]
                for row in rows.values()
            ]
        )
        for joint, words in FORMS
    }
    return _draw(panels, list(rows), [OWN, *columns], axis_label(metric), title)


def conditions(runs: Sequence[Run], metric: str) -> list[str]:
    """The names of the conditions under which finished runs have ``metric``, in the order of the metrics."""
    joint = f"{metric}{FORMS[0][0]}"
    return list(
        dict.fromkeys(
            name.removeprefix(joint) for run in runs for name in run.metrics if name.startswith(joint)
        )
    )


def _name(table: Table, point: tuple[object, ...]) -> str:
    return ", ".join(format_cell(value, exact=True) for value in point) or "the only condition"


def _mean(cell: object) -> float:
    return cell.mean if isinstance(cell, Summary) else float("nan")


def _draw(
    panels: Mapping[str, npt.NDArray[np.float64]], rows: Sequence[str], columns: Sequence[str], label: str, title: str
) -> Figure:
    low, high = np.nanmin(np.stack(list(panels.values()))), np.nanmax(next(iter(panels.values())))
    width = 2.2 + len(panels) * (0.62 * len(columns) + 0.4)
    figure = Figure(figsize=(width, 2.6 + 0.42 * len(rows)), layout="constrained")
    axes: list[Axes] = list(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0])
    for axis, (words, values) in zip(axes, panels.items(), strict=True):
        image = heat_map(axis, values, low, high)
        axis.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor")
        axis.set_title(in_lines(words, 0.62 * len(columns) + 0.4, 10), fontsize=10)
        axis.set_xlabel("probed under")
    axes[0].set_yticks(range(len(rows)), rows)
    axes[0].set_ylabel("trained under")
    figure.colorbar(image, ax=axes, label=label, shrink=0.9, extend="max")
    if title:
        figure.suptitle(title, fontsize=9)
    return figure


def heat_map(axis: Axes, values: npt.NDArray[np.float64], low: float, high: float) -> AxesImage:
    """Draw ``values`` [rows, columns], with each number in its cell. A white line sets the first column apart."""
    image = axis.imshow(values, cmap="viridis_r", vmin=low, vmax=high, aspect="auto")
    middle = (low + high) / 2
    for (row, column), value in np.ndenumerate(values):
        words = "–" if np.isnan(value) else f"{value:.2f}"
        colour = "white" if value > middle else "black"
        axis.text(column, row, words, ha="center", va="center", fontsize=8, color=colour)
    axis.axvline(0.5, color="white", lw=3)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return image
