"""Plot how strongly each term pulls at the encoder, and how the embedding spreads over its directions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_PREFIX = "gradient_norms/"


def embedding_figure(records: Sequence[Mapping[str, Any]], metrics: Mapping[str, Any]) -> Figure | None:
    """Plot the gradient norms of the terms by epoch, and the spectrum of the covariance of encodings.

    records: the lines of ``metrics.jsonl``. metrics: as in ``result.json``. Returns None if there is neither.
    """
    norms = _norms(records)
    spectrum = [float(share) for share in metrics.get("covariance_spectrum") or [] if _positive(share)]
    count = bool(norms) + bool(spectrum)
    if count == 0:
        return None
    figure = Figure(figsize=(5.4 * count, 4.0), layout="constrained")
    axes = list(figure.subplots(1, count, squeeze=False).flat)
    if norms:
        _draw_norms(axes[0], norms)
    if spectrum:
        _draw_spectrum(axes[-1], spectrum, metrics)
    return figure


def _norms(records: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Points (epoch, norm) by term; norms that are 0 or not finite have no place on a logarithmic axis."""
    found: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        for name, value in record.items():
            if name.startswith(_PREFIX) and _positive(value):
                found.setdefault(name.removeprefix(_PREFIX), []).append((float(record["epoch"]), float(value)))
    return found


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and value > 0


def _draw_norms(axis: Axes, norms: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    colours = colormaps["tab10"].colors  # type: ignore[attr-defined]
    for index, (term, points) in enumerate(norms.items()):
        epochs, values = zip(*points, strict=True)
        axis.plot(epochs, values, marker="o", ms=3, lw=1.4, color=colours[index % 10], label=term.replace("_", " "))
    axis.set_yscale("log")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("epoch")
    axis.set_ylabel("norm of d(coeff × term) / d(encodings)")
    axis.set_title("How strongly each term pulls at the encoder", fontsize=10)
    axis.grid(alpha=0.25)
    axis.legend(fontsize=8)


def _draw_spectrum(axis: Axes, spectrum: Sequence[float], metrics: Mapping[str, Any]) -> None:
    axis.plot(range(1, len(spectrum) + 1), spectrum, marker="o", ms=3, lw=1.4, color="#30638e")
    axis.set_yscale("log")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("principal component of the encodings")
    axis.set_ylabel("share of their variance")
    rank = f"; RankMe {metrics['rankme']:.3g}" if _positive(metrics.get("rankme")) else ""
    axis.set_title(f"Over how many directions the encodings spread{rank}", fontsize=10)
    axis.grid(alpha=0.25)
