"""Figures of a search: the objective trial by trial, and how much each hyperparameter matters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jepa.results.figures import (
    COLOURS,
    GREY,
    axis_label,
    clear_frame,
    is_rmse,
    panels_grid,
    scale_y,
    shared_legend,
)
from jepa.results.records import ResultsError, Run, is_number, short_names
from jepa.results.reference import common_levels, run_reference
from jepa.results.reference_drawing import draw_reference, horizontal
from jepa.results.render import format_number


def trials_figure(runs: Sequence[Run], *, metric: str, title: str) -> Figure:
    """The objective of every trial in the order they were made, and the best so far; failed and pruned ones marked."""
    ordered = sorted(runs, key=trial_order)
    finished = [(place, run.value(metric)) for place, run in enumerate(ordered) if _is_finished(run, metric)]
    if not finished:
        raise ResultsError(f"--plot trials: no finished run has {metric}")
    figure, (axis,) = panels_grid(1, width=8.0)
    numbers = [_trial_number(run, place) for place, run in enumerate(ordered)]
    axis.scatter(
        [numbers[place] for place, _ in finished],
        [value for _, value in finished],
        s=20, color=COLOURS[0], alpha=0.75, label="finished", zorder=3,
    )  # fmt: skip
    _draw_pruned(axis, ordered, numbers, metric)
    best_x, best_y = _best_so_far([(numbers[place], value) for place, value in finished])
    axis.step(
        [*best_x, numbers[-1]], [*best_y, best_y[-1]], where="post", color=COLOURS[1], lw=1.8, label="best so far"
    )
    winner = ordered[min(finished, key=lambda point: point[1])[0]]
    axis.set_title(f"{title}: best {format_number(best_y[-1])} ({winner.name})", fontsize=10)
    axis.set_xlabel("trial")
    axis.set_ylabel(axis_label(metric))
    lines = common_levels([run_reference(ordered[place]) for place, _ in finished], metric)
    if is_rmse(metric) and lines:
        draw_reference([axis], [horizontal(lines)], [True])
    else:
        scale_y(axis, [value for _, value in finished])
    _draw_failed(axis, ordered, numbers)
    clear_frame(axis)
    shared_legend(figure, [axis], "")
    return figure


def importance_figure(importances: dict[str, float], *, metric: str, title: str) -> Figure:
    """Bars of each hyperparameter's share in how much ``metric`` varies, the largest on top."""
    names = short_names(importances)
    ordered = sorted(importances.items(), key=lambda item: item[1])
    figure = Figure(figsize=(7.0, 1.4 + 0.36 * len(ordered)), layout="constrained")
    axis = figure.add_subplot()
    bars = axis.barh([names[key] for key, _ in ordered], [share for _, share in ordered], color=COLOURS[0], height=0.65)
    axis.bar_label(bars, labels=[f"{share:.2f}" for _, share in ordered], padding=4, fontsize=9)
    axis.set_xlim(0, max(1e-9, *(share for _, share in ordered)) * 1.15)
    axis.set_xlabel(f"share in the variation of {axis_label(metric)}")
    axis.set_title(title, fontsize=10)
    clear_frame(axis)
    return figure


def trial_order(run: Run) -> tuple[int, Any]:
    """A key that sorts runs as a search made them: by trial number, else by the time they started."""
    number = run.fields.get("trial")
    return (0, number) if is_number(number) else (1, str(run.fields.get("started", "~")))


def _trial_number(run: Run, place: int) -> int:
    number = run.fields.get("trial")
    return number if isinstance(number, int) else place


def _is_finished(run: Run, metric: str) -> bool:
    return run.status == "finished" and is_number(run.value(metric))


def _best_so_far(points: list[tuple[int, float]]) -> tuple[list[int], list[float]]:
    xs: list[int] = []
    ys: list[float] = []
    for number, value in points:
        xs.append(number)
        ys.append(min(value, ys[-1]) if ys else value)
    return xs, ys


def _draw_pruned(axis: Axes, runs: list[Run], numbers: list[int], metric: str) -> None:
    pruned = [
        (number, run.value(metric))
        for number, run in zip(numbers, runs, strict=True)
        if run.status == "pruned" and is_number(run.value(metric))
    ]
    if pruned:
        xs, ys = zip(*pruned, strict=True)
        axis.scatter(
            xs, ys, s=22, marker="v", facecolors="none", edgecolors=GREY, label="pruned (last value)", zorder=3
        )


def _draw_failed(axis: Axes, runs: list[Run], numbers: list[int]) -> None:
    failed = [number for number, run in zip(numbers, runs, strict=True) if run.status == "failed"]
    if failed:
        axis.scatter(
            failed, [0.015] * len(failed), s=26, marker="x", color="#B00020", label="failed",
            transform=axis.get_xaxis_transform(), zorder=4, clip_on=False,
        )  # fmt: skip
