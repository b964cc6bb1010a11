"""The leaderboard as a heat map: a row for each method, a column for each condition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from jepa.results.drawing import axis_label
from jepa.results.figures_transfer import heat_map
from jepa.results.leaderboard import METRIC, Standing
from jepa.results.records import ResultsError
from jepa.results.reference import common_levels, run_reference

MEAN = "mean"


def leaderboard_figure(rows: Sequence[Standing], *, title: str = "") -> Figure:
    """Draw the mean error of each method over conditions, and under each condition, in px.

    Colours end at the error of always answering the centre, if all runs share that line, else at the largest error.

    Args:
        rows: of one version and one scale, best first.

    Raises:
        ResultsError: the rows are of several versions or scales.
    """
    boards = sorted({f"version {row.version}, scale {row.scale}" for row in rows})
    if len(boards) > 1:
        raise ResultsError(f"--plot leaderboard: several leaderboards ({'; '.join(boards)}); choose one with --where")
    conditions = list(rows[0].conditions)
    errors = [[row.error(name) for name in conditions] for row in rows]
    means = [[row.mean_error, *(cell and cell.mean for cell in line)] for row, line in zip(rows, errors, strict=True)]
    values = np.array(means, dtype=np.float64)  # None becomes NaN
    runs = [run for row in rows for several in row.conditions.values() for run in several]
    lines = common_levels(map(run_reference, runs), METRIC)
    centre = max((level for _, level in lines or ()), default=float(np.nanmax(values)))
    figure = Figure(figsize=(4.0 + 0.66 * len(conditions), 2.0 + 0.36 * len(rows)), layout="constrained")
    axis = figure.subplots()
    image = heat_map(axis, values, float(np.nanmin(values)), centre)
    columns = [MEAN, *conditions]
    axis.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(rows)), [row.method for row in rows])
    figure.colorbar(image, ax=axis, label=axis_label(METRIC), shrink=0.9, extend="max")
    if title:
        figure.suptitle(title, fontsize=9)
    return figure
