"""Plot the true frames of judged sequences above the frames decoded from their embeddings, from plain arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.floating]

_COLUMNS = 9
_COLOURS = ("#30638e", "#d1495b", "#6b7280")  # frame colours of decoded rows; true rows have black frames
_SEEN = {
    "encoding": "the frame itself",
    "posterior": "all frames up to this one",
    "prediction": "first frame and actions",
    "open loop": "first frame and actions",
}


def reconstructions_figure(frames: FloatArray, decoded: Mapping[str, FloatArray]) -> Figure | None:
    """Plot a block of rows for each sequence: the true frames, then the frames decoded from each kind of embedding.

    All rows of a sequence share one grey scale, from its darkest to its brightest true pixel.

    Args:
        frames: the true frames [T, N, C, H, W], as the model sees them. N may exceed the number of decoded sequences.
        decoded: decoded frames [T, n, C, H, W] by kind of embedding.

    Returns:
        The figure; None without decoded frames.
    """
    if not decoded or next(iter(decoded.values())).shape[1] == 0:
        return None
    num_steps, count = next(iter(decoded.values())).shape[:2]
    frames = frames[:, :count]
    steps = np.unique(np.linspace(0, num_steps - 1, min(_COLUMNS, num_steps)).round().astype(int))
    rows = {"true": frames, **decoded}
    figure = Figure(figsize=(1.05 * len(steps) + 1.6, 1.08 * len(rows) * count + 1.2), layout="constrained")
    blocks = figure.subfigures(count, 1, squeeze=False)[:, 0]
    for sequence, block in enumerate(blocks):
        grid = block.subplots(len(rows), len(steps), squeeze=False)
        shown = frames[:, sequence].sum(1)  # [T, H, W]
        low, high = float(shown.min()), float(shown.max())
        for axes, (name, images), colour in zip(grid, rows.items(), ("black", *_COLOURS), strict=False):
            for step, axis in zip(steps, axes, strict=True):
                _frame(axis, images[step, sequence].sum(0), low, high, colour)
            axes[0].set_ylabel(name, fontsize=8, color=colour)
        for step, axis in zip(steps, grid[0], strict=True):
            axis.set_title(f"frame {step}", fontsize=8)
        block.suptitle(f"sequence {sequence + 1}", fontsize=9, x=0.01, ha="left")
    figure.suptitle(_title(frames, decoded), fontsize=10)
    return figure


def _frame(axis: Axes, image: FloatArray, low: float, high: float, colour: str) -> None:
    axis.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set(color=colour, linewidth=1.4)


def _title(frames: FloatArray, decoded: Mapping[str, FloatArray]) -> str:
    """The title: the kinds of embeddings, and the errors of the decoded frames relative to the frames' variance."""
    lines = ["Judged sequences: true frames, and frames decoded from embeddings"]
    variance = float(frames.var()) or 1.0
    for name, images in decoded.items():
        share = float(np.square(images - frames).mean()) / variance
        seen = f" (seen: {_SEEN[name]})" if name in _SEEN else ""
        lines.append(f"{name}{seen}: mean squared error {share:.2f} of the frames' variance")
    return "\n".join(lines)
