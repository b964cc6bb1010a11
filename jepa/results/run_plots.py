"""Figures of one run, from plain arrays and records: sample sequences, loss curves, RMSE by time step.

The code does not use pyplot and has no global state, so several threads may draw at once.
"""

from __future__ import annotations

import logging
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
from jepa.results.embedding_plot import embedding_figure
from jepa.results.reconstructions import reconstructions_figure
from jepa.results.reference import Reference
from jepa.results.reference_drawing import Curve, draw_reference

log = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.floating]
Record = Mapping[str, Any]

PREDICTION, ENCODER, TRUE, GREY = "#d1495b", "#30638e", "#edae49", "#6b7280"
DOTS = ("#e69f00", "#56b4e9", "#cc79a7")  # colours of several dots, which stand out from grey frames
_COLUMNS, _MOST_SAMPLES, _MOST_PANELS = 6, 6, 12


class Samples(Protocol):
    """Judged sequences, such as a ``jepa.probes.ProbeSamples``. Locations are in px."""

    @property
    def frames(self) -> FloatArray:
        """[T, n, C, H, W]."""

    @property
    def true_px(self) -> FloatArray:
        """[T, n, K, 2]."""

    @property
    def predicted_px(self) -> FloatArray:
        """[T, n, K, 2]."""


def draw_all(
    folder: Path,
    *,
    samples: Samples,
    metrics: Mapping[str, Any],
    records: Sequence[Record],
    reference: Reference | None = None,
    loss_weights: Mapping[str, str] | None = None,
    decode: Callable[[], Mapping[str, FloatArray]] | None = None,
) -> list[Path]:
    """Draw every plot that has data into ``folder``. Returns the paths of the files written.

    samples: judged sequences. metrics, reference: as in ``result.json``. records: the lines of ``metrics.jsonl``.
    loss_weights: how a term of the loss enters the total, in words, by its name.
    decode: returns images decoded from the embeddings of the first samples, [T, n, C, H, W] by kind of embedding.
    """
    figures: dict[str, Callable[[], Figure | None]] = {
        "samples": lambda: samples_figure(samples, metrics, dots=(reference or {}).get("dots", ())),
        "losses": lambda: losses_figure(records, loss_weights or {}),
        "rmse_per_step": lambda: rmse_per_step_figure(metrics, reference),
        "embedding": lambda: embedding_figure(records, metrics),
        "reconstructions": lambda: reconstructions_figure(samples.frames, decode()) if decode else None,
    }
    paths = []
    for name, draw in figures.items():
        try:
            figure = draw()
            if figure is not None:
                paths.append(_save(figure, folder / f"{name}.png"))
        except Exception as error:  # a failed plot must stop neither the other plots nor the run
            log.warning("plots/%s.png could not be drawn: %s: %s", name, type(error).__name__, error)
    return paths


# --- sample sequences ----------------------------------------------------------------------------------------------


def samples_figure(samples: Samples, metrics: Mapping[str, Any], *, dots: Sequence[str] = ()) -> Figure | None:
    """One row for each sequence: some frames with the true and the predicted locations, then the complete paths.

    dots: the names of the dots. Returns None if there are no samples.
    """
    num_steps, count, _, size = samples.frames.shape[:4]
    rows = min(count, _MOST_SAMPLES)
    if rows == 0:
        return None
    steps = np.unique(np.linspace(0, num_steps - 1, min(_COLUMNS, num_steps)).round().astype(int))
    num_dots = samples.true_px.shape[2]
    colours = [(TRUE, PREDICTION)] if num_dots == 1 else [(DOTS[dot % len(DOTS)],) * 2 for dot in range(num_dots)]
    figure = Figure(figsize=(1.45 * (len(steps) + 1) + 0.3, 1.5 * rows + 1.25), layout="constrained")
    grid = figure.subplots(rows, len(steps) + 1, squeeze=False)
    for row, axes in enumerate(grid):
        true, predicted = samples.true_px[:, row], samples.predicted_px[:, row]  # [T, K, 2]
        for step, axis in zip(steps, axes, strict=False):
            _frame(axis, samples.frames[step, row], true[step], predicted[step], colours)
            axis.set_title(f"t = {step}" if row == 0 else "", fontsize=9)
        _paths(axes[-1], true, predicted, size, colours)
        axes[-1].set_title("path, px" if row == 0 else "", fontsize=9)
        axes[0].set_ylabel(f"sequence {row + 1}", fontsize=9)
    names = [dots[dot] if dot < len(dots) else f"dot {dot + 1}" for dot in range(num_dots)]
    figure.suptitle(_samples_title(metrics, names), fontsize=10)
    handles = _samples_handles(names, colours)
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    return figure


def _samples_title(metrics: Mapping[str, Any], names: Sequence[str]) -> str:
    """The title: the content of the figure, and the error over all judged sequences."""
    overall = _number(metrics.get("prediction_rmse_px"))
    error = f"RMSE {overall:.2f} px" if math.isfinite(overall) else "RMSE not finite"
    per_dot = [_number(value) for value in metrics.get("prediction_rmse_px_per_dot") or []]
    if len(per_dot) == len(names) > 1:
        error += f" ({', '.join(f'{name} dot {value:.2f}' for name, value in zip(names, per_dot, strict=True))})"
    what = "where the dots are, and where the prediction probe puts them"
    if len(names) == 1:
        what = "where the dot is, and where the prediction probe puts it"
    return f"Judged sequences: {what}\n{error} over all judged sequences"


def _samples_handles(names: Sequence[str], colours: Sequence[tuple[str, str]]) -> list[Line2D]:
    """The legend's entries. With several dots, each dot has an entry, and black entries explain the markers."""
    (true, predicted), dots = colours[0], []
    if len(names) > 1:
        true = predicted = "black"
        dots = [
            Line2D([], [], color=colour, lw=4, label=f"{name} dot")
            for name, (colour, _) in zip(names, colours, strict=True)
        ]
    return [
        *dots,
        Line2D([], [], color=true, marker="o", fillstyle="none", markeredgewidth=1.8, lw=1.5, label="true"),
        Line2D([], [], color=predicted, marker="x", markeredgewidth=1.8, lw=1.2, ls="--", label="predicted"),
        Line2D([], [], color=GREY, marker="s", ls="none", ms=4, label="start"),
    ]


def _frame(
    axis: Axes, frame: FloatArray, true: FloatArray, predicted: FloatArray, colours: Sequence[tuple[str, str]]
) -> None:
    """Draw a frame [C, H, W] as the sum of its channels, with true and predicted locations [K, 2] in px.

    A line connects each true location with its prediction.
    """
    axis.imshow(frame.sum(0), cmap="gray", interpolation="nearest")
    size = frame.shape[-1]
    inside = np.clip(predicted, 0, size - 1)  # show a prediction outside the image at the edge
    for one, guess, (colour, guess_colour) in zip(true, inside, colours, strict=True):
        axis.plot(*np.stack([one, guess]).T, color=guess_colour, lw=1.2)
        axis.plot(*one, ls="none", marker="o", ms=10, fillstyle="none", color=colour, markeredgewidth=1.6)
        axis.plot(*guess, ls="none", marker="x", ms=6, color=guess_colour, markeredgewidth=1.8)
    axis.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), xticks=[], yticks=[])


def _paths(
    axis: Axes, true: FloatArray, predicted: FloatArray, size: int, colours: Sequence[tuple[str, str]]
) -> None:
    """Draw paths [T, K, 2] in px in a square window around them, y downwards. Grey areas are outside the image."""
    for dot, (colour, guess_colour) in enumerate(colours):
        axis.plot(*true[:, dot].T, color=colour, lw=2.2, marker="o", ms=2.5)
        axis.plot(*predicted[:, dot].T, color=guess_colour, lw=1.2, ls="--", marker="x", ms=3.5)
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


def losses_figure(records: Sequence[Record], weights: Mapping[str, str]) -> Figure | None:
    """Plot the total loss and each term over epochs, in a panel each.

    The axis of a positive curve that spans more than a factor of 3 is logarithmic. Terms are shown without their
    weights. The heading of a panel tells how the term enters the total, if ``weights`` has the term.

    Returns None if no training was recorded.
    """
    train = [record for record in records if record.get("kind") == "train"]
    names = list(dict.fromkeys(name for record in train for name in record if name.startswith("loss/")))[:_MOST_PANELS]
    if not names:
        return None
    columns = 2 if len(names) == 4 else min(len(names), 3)
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(max(3.5 * columns, 5.0), 2.7 * rows + 0.6), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False, sharex=True).flat)
    for name, axis in zip(names, panels, strict=False):
        term = name.removeprefix("loss/")
        words = "the weighted sum" if term == "total" else f"{weights[term]} in the total" if term in weights else ""
        heading = term.replace("_", " ") + (f" ({words})" if words else "")
        _loss_panel(axis, name, heading, [(record["epoch"], _number(record.get(name))) for record in train])
    for axis in panels[len(names) - columns : len(names)]:
        axis.tick_params(labelbottom=True)  # a shared x axis hides the tick labels above an empty panel
    for axis in panels[len(names) :]:
        axis.set_axis_off()
    figure.supxlabel("epoch", fontsize=10)
    figure.suptitle("Training losses: the total, and its terms before they are weighted", fontsize=10)
    return figure


def _loss_panel(axis: Axes, name: str, heading: str, points: Iterable[tuple[float, float]]) -> None:
    epochs, values = np.array(list(points), dtype=float).T
    finite = np.isfinite(values)
    seen = values[finite]
    colour = PREDICTION if name == "loss/total" else ENCODER
    axis.plot(epochs, values, color=colour, lw=1.4, marker="." if seen.size < 15 else "")
    is_log = bool(seen.size and seen.min() > 0 and seen.max() > 3 * seen.min())
    if is_log:
        axis.set_yscale("log")
    axis.set_ylabel("logarithmic axis" if is_log else "linear axis", fontsize=8)
    end = f"last {seen[-1]:.3g}" if finite.all() else f"not finite at epoch {epochs[~finite][0]:.3g}"
    axis.set_title(f"{heading}\n{end}", fontsize=9)
    axis.grid(alpha=0.25)
    axis.tick_params(which="both", labelsize=8)


# --- RMSE by time step ---------------------------------------------------------------------------------------------


def rmse_per_step_figure(metrics: Mapping[str, Any], reference: Reference | None) -> Figure | None:
    """Plot the RMSE in px by time step, in a panel for each probe with its reference lines; None without such data."""
    looks = {"prediction": (PREDICTION, "o"), "encoder": (ENCODER, "s")}
    errors = {probe: [_number(value) for value in metrics.get(f"{probe}_rmse_px_per_step") or []] for probe in looks}
    errors = {probe: values for probe, values in errors.items() if values}
    if not errors:
        return None
    figure = Figure(figsize=(5.4 * len(errors) + 0.6, 4.4), layout="constrained")
    axes = list(figure.subplots(1, len(errors), squeeze=False, sharex=True, sharey=True).flat)
    curves = [_step_curves(reference, probe) for probe in errors]
    first = metrics.get("judged_from_frame", 0)
    covered = {"prediction": f"from step {first} on" if first else "over all steps", "encoder": f"at step {first}"}
    for axis, (probe, values) in zip(axes, errors.items(), strict=True):
        colour, marker = looks[probe]
        axis.plot(range(len(values)), values, color=colour, marker=marker, ms=4, label=f"{probe} probe", zorder=3)
        overall = _number(metrics.get(f"{probe}_rmse_px"))
        words = f"{overall:.2f} px" if math.isfinite(overall) else "not finite"
        axis.set_title(f"{probe} probe: {words} {covered[probe]}", fontsize=10)
        axis.set_xlabel("time step")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set_ylabel("RMSE, px")
    seen = [value for values in errors.values() for value in values if math.isfinite(value)]
    lines = [value for panel in curves for curve in panel for value in curve.ys]
    top = 1.06 * max([*seen, *lines], default=1.0)
    axes[0].set_ylim(0, min(top, 2 * max(lines)) if lines else top)
    draw_reference(axes, curves, [True] * len(axes))
    over = ", over all dots" if len(metrics.get("prediction_rmse_px_per_dot") or []) > 1 else ""
    dashed = " (dashed: what simple guesses score)" if lines else ""
    figure.suptitle(f"Error of the location by time step{over}{dashed}", fontsize=10)
    return figure


def _step_curves(reference: Reference | None, probe: str) -> list[Curve]:
    """The reference lines of a probe that have values by time step."""
    lines = reference[probe]["lines"] if reference else []
    curves = [(line["name"], tuple(line.get("per_step_px") or ())) for line in lines]
    return [Curve(name, tuple(range(len(values))), values) for name, values in curves if values]


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan


def _save(figure: Figure, path: Path) -> Path:
    FigureCanvasAgg(figure)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130)
    return path
