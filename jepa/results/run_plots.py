"""Pictures of one run, from plain arrays and records: sample sequences, loss curves, RMSE by time step.

Matplotlib without pyplot: no global state, so that several threads may draw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from jepa.files import atomic_path
from jepa.results.reference import CENTRE, REFERENCE_LINES

FloatArray = npt.NDArray[np.floating]
Record = Mapping[str, Any]

PREDICTION, ENCODER, TRUE, GREY = "#d1495b", "#30638e", "#edae49", "#6b7280"
_COLUMNS, _MOST_SAMPLES, _MOST_PANELS = 6, 6, 12


class Samples(Protocol):
    """Judged sequences, as ``jepa.probing.ProbeSamples`` holds them; locations in px."""

    @property
    def frames(self) -> FloatArray:
        """[T, n, C, H, W]."""

    @property
    def true_px(self) -> FloatArray:
        """[T, n, K, 2]."""

    @property
    def predicted_px(self) -> FloatArray:
        """[T, n, K, 2]."""


def draw_all(folder: Path, *, samples: Samples, metrics: Mapping[str, Any], records: Sequence[Record]) -> list[Path]:
    """Draw every plot that there are data for into ``folder``; returns the paths.

    samples: judged sequences. metrics: as in ``result.json``. records: the lines of ``metrics.jsonl``.
    """
    figures: dict[str, Callable[[], Figure | None]] = {
        "samples": lambda: samples_figure(samples),
        "losses": lambda: losses_figure(records),
        "rmse_per_step": lambda: rmse_per_step_figure(metrics),
    }
    paths = []
    for name, draw in figures.items():
        figure = draw()
        if figure is not None:
            paths.append(_save(figure, folder / f"{name}.png"))
    return paths


# --- sample sequences ----------------------------------------------------------------------------------------------


def samples_figure(samples: Samples) -> Figure | None:
    """One row a sequence: some of its frames with the true and the predicted location, then the whole paths.

    None where there are no samples.
    """
    num_steps, count, _, size = samples.frames.shape[:4]
    rows = min(count, _MOST_SAMPLES)
    if rows == 0:
        return None
    steps = np.unique(np.linspace(0, num_steps - 1, min(_COLUMNS, num_steps)).round().astype(int))
    figure = Figure(figsize=(1.45 * (len(steps) + 1) + 0.3, 1.5 * rows + 0.75), layout="constrained")
    grid = figure.subplots(rows, len(steps) + 1, squeeze=False)
    for row, axes in enumerate(grid):
        true, predicted = samples.true_px[:, row], samples.predicted_px[:, row]  # [T, K, 2]
        for step, axis in zip(steps, axes, strict=False):
            _frame(axis, samples.frames[step, row], true[step], predicted[step])
            axis.set_title(f"t = {step}" if row == 0 else "", fontsize=9)
        _paths(axes[-1], true, predicted, size)
        axes[-1].set_title("path, px" if row == 0 else "", fontsize=9)
        axes[0].set_ylabel(f"sequence {row + 1}", fontsize=9)
    handles = [
        Line2D([], [], color=TRUE, marker="o", fillstyle="none", markeredgewidth=1.8, lw=1.5, label="true"),
        Line2D(
            [],
            [],
            color=PREDICTION,
            marker="x",
            markeredgewidth=1.8,
            lw=1.5,
            label="predicted",
        ),
        Line2D([], [], color=GREY, marker="s", ls="none", ms=4, label="start"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def _frame(axis: Axes, frame: FloatArray, true: FloatArray, predicted: FloatArray) -> None:
    """One frame [C, H, W], its channels summed, with locations [K, 2] in px and a line from each to its prediction."""
    axis.imshow(frame.sum(0), cmap="gray", interpolation="nearest")
    size = frame.shape[-1]
    inside = np.clip(predicted, 0, size - 1)  # a guess beyond the edge is shown at the edge
    for one, guess in zip(true, inside, strict=True):
        axis.plot(*np.stack([one, guess]).T, color=PREDICTION, lw=1.2)
    axis.plot(*true.T, ls="none", marker="o", ms=10, fillstyle="none", color=TRUE, markeredgewidth=1.6)
    axis.plot(*inside.T, ls="none", marker="x", ms=6, color=PREDICTION, markeredgewidth=1.8)
    axis.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), xticks=[], yticks=[])


def _paths(axis: Axes, true: FloatArray, predicted: FloatArray, size: int) -> None:
    """Paths [T, K, 2] in px, y down as in the frames, in a square window that just holds them; grey: off the image."""
    for dot in range(true.shape[1]):
        axis.plot(*true[:, dot].T, color=TRUE, lw=2.2, marker="o", ms=2.5)
        axis.plot(*predicted[:, dot].T, color=PREDICTION, lw=1.2, marker="x", ms=3.5)
        axis.plot(*true[0, dot], color=GREY, marker="s", ms=5, zorder=3)
    points = np.clip(np.concatenate([true, np.where(np.isfinite(predicted), predicted, true)]), 0, size - 1)
    low, high = points.min((0, 1)), points.max((0, 1))
    centre, half = (low + high) / 2, max(float((high - low).max()) / 2 + 1.5, 4.0)
    axis.set(xlim=(centre[0] - half, centre[0] + half), ylim=(centre[1] + half, centre[1] - half), aspect="equal")
    axis.set_facecolor("#d8dade")
    axis.add_patch(Rectangle((-0.5, -0.5), size, size, facecolor="white", zorder=0))
    axis.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    axis.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    axis.yaxis.tick_right()
    axis.tick_params(labelsize=6, length=2, pad=1)


# --- losses --------------------------------------------------------------------------------------------------------


def losses_figure(records: Sequence[Record]) -> Figure | None:
    """A panel for the total and one for each term over epochs, logarithmic where all values are positive.

    Terms are shown without their coefficients. None where nothing was trained.
    """
    train = [record for record in records if record.get("kind") == "train"]
    names = list(dict.fromkeys(name for record in train for name in record if name.startswith("loss/")))[:_MOST_PANELS]
    if not names:
        return None
    columns = 2 if len(names) == 4 else min(len(names), 3)
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(3.5 * columns, 2.5 * rows + 0.3), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False, sharex=True).flat)
    for name, axis in zip(names, panels, strict=False):
        _loss_panel(axis, name, [(record["epoch"], _number(record.get(name))) for record in train])
    for axis in panels[len(names) - columns : len(names)]:
        axis.tick_params(labelbottom=True)  # sharing hides them above an empty panel
    for axis in panels[len(names) :]:
        axis.set_axis_off()
    figure.supxlabel("epoch", fontsize=10)
    return figure


def _loss_panel(axis: Axes, name: str, points: Iterable[tuple[float, float]]) -> None:
    epochs, values = np.array(list(points), dtype=float).T
    finite = np.isfinite(values)
    seen = values[finite]
    colour = PREDICTION if name == "loss/total" else ENCODER
    axis.plot(epochs, values, color=colour, lw=1.4, marker="." if seen.size < 15 else "")
    if seen.size and seen.min() > 0 and seen.max() > 3 * seen.min():
        axis.set_yscale("log")
    end = f"last {seen[-1]:.3g}" if finite.all() else f"not finite at epoch {epochs[~finite][0]:.3g}"
    axis.set_title(f"{name.removeprefix('loss/').replace('_', ' ')}    {end}", fontsize=9)
    axis.grid(alpha=0.25)
    axis.tick_params(which="both", labelsize=8)


# --- RMSE by time step ---------------------------------------------------------------------------------------------


def rmse_per_step_figure(metrics: Mapping[str, Any]) -> Figure | None:
    """RMSE in px of both probes at each time step, beside the reference lines; None where nothing was judged."""
    curves: dict[str, tuple[Any, str, str]] = {
        "prediction probe": (metrics.get("prediction_rmse_px_per_step"), PREDICTION, "o"),
        "encoder probe": (metrics.get("encoder_rmse_px_per_step"), ENCODER, "s"),
    }
    drawn = {label: ([_number(value) for value in curve[0]], *curve[1:]) for label, curve in curves.items() if curve[0]}
    if not drawn:
        return None
    figure = Figure(figsize=(7.6, 4.4), layout="constrained")
    axis = figure.subplots()
    for label, (values, colour, marker) in drawn.items():
        overall = _number(metrics.get(f"{label.split()[0]}_rmse_px"))
        name = f"{label} ({overall:.2f} px)" if math.isfinite(overall) else f"{label} (not finite)"
        axis.plot(range(len(values)), values, color=colour, marker=marker, ms=4, label=name, zorder=3)
    _reference_lines(axis)
    largest = max(value for values, *_ in drawn.values() for value in (*values, CENTRE) if math.isfinite(value))
    axis.set(xlabel="time step", ylabel="RMSE, px", ylim=(0, min(1.06 * largest, 2 * CENTRE)))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_title("Error of the location by time step (dashed: over all steps, one dot)", fontsize=10)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def _reference_lines(axis: Axes) -> None:
    for label, value in REFERENCE_LINES:
        axis.axhline(value, color=GREY, lw=0.9, ls=(0, (5, 4)), zorder=1)
        axis.annotate(
            f"{label}  {value:.2f}",
            (1.01, value),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8,
            color=GREY,
        )


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan


def _save(figure: Figure, path: Path) -> Path:
    FigureCanvasAgg(figure)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130)
    return path
