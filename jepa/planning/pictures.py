"""Pictures of the first episodes: ``planning.png`` and the animation ``planning.gif``. No pyplot, no global state."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from jepa.files import atomic_path
from jepa.planning.episodes import Played
from jepa.planning.goals import DISTANCES, RADII_PX

PATH, IMAGINED, GOAL = "#d1495b", "#56b4e9", "#edae49"
_MILLISECONDS = 250  # a step of the animation
_TITLES = {"same": "goal frame under the same overlay", "other": "goal frame under another overlay"}

FloatArray = npt.NDArray[np.floating]


def draw_planning(folder: Path, played: Mapping[str, Played], title: str) -> list[Path]:
    """Draw both pictures into ``folder``, and return their paths. title: what was planned with, in words."""
    figure = planning_figure(played, title)
    folder.mkdir(parents=True, exist_ok=True)
    picture, animation = folder / "planning.png", folder / "planning.gif"
    with atomic_path(picture) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    images = [_rendered(step_figure(played["same"], step, title)) for step in range(len(played["same"].locations))]
    with atomic_path(animation) as temporary:
        images[0].save(
            temporary, format="GIF", save_all=True, append_images=images[1:], duration=_MILLISECONDS, loop=0
        )
    return [picture, animation]


def planning_figure(played: Mapping[str, Played], title: str) -> Figure:
    """For each overlay two rows, a column for each episode: the path on the start frame, and the goal frame."""
    count = _count(played["same"])
    figure = Figure(figsize=(1.75 * count + 0.4, 1.9 * 2 * len(played) + 0.9), layout="constrained")
    grid = figure.subplots(2 * len(played), count, squeeze=False)
    for row, (overlay, one) in enumerate(played.items()):
        assert one.frames is not None and one.goal_frames is not None
        for column in range(count):
            above, below = grid[2 * row, column], grid[2 * row + 1, column]
            _image(above, one.frames[0, column].cpu().numpy())
            _image(below, one.goal_frames[column].cpu().numpy())
            _paths(above, one, column, len(one.locations) - 1)
            _goal(below, one, column)
            above.set_title(f"{DISTANCES[column % 3]}: {float(one.distances[-1, column]):.1f} px", fontsize=8)
        grid[2 * row, 0].set_ylabel(f"start\n({_TITLES[overlay]})", fontsize=6.5)
        grid[2 * row + 1, 0].set_ylabel("goal frame", fontsize=7)
    figure.suptitle(f"{title}: first episodes, distance at the end", fontsize=9)
    figure.legend(handles=_handles(), loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def step_figure(played: Played, step: int, title: str) -> Figure:
    """One moment of the animation: what the agent sees in each episode, the path so far, and the goal."""
    assert played.frames is not None
    count = _count(played)
    figure = Figure(figsize=(1.6 * count, 2.1), layout="constrained")
    for column, axis in enumerate(figure.subplots(1, count, squeeze=False)[0]):
        _image(axis, played.frames[step, column].cpu().numpy())
        _paths(axis, played, column, step, imagined=False)
        axis.set_title(f"{float(played.distances[step, column]):.1f} px", fontsize=8)
    figure.suptitle(f"{title}, step {step} of {len(played.locations) - 1}", fontsize=9)
    return figure


def _count(played: Played) -> int:
    assert played.frames is not None
    return int(played.frames.shape[1])


def _image(axis: Axes, frame: FloatArray) -> None:
    """Show ``frame`` [C, H, W]; channels are summed."""
    axis.imshow(frame.sum(0), cmap="gray", interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])


def _paths(axis: Axes, played: Played, column: int, step: int, *, imagined: bool = True) -> None:
    """The true path up to ``step``, the first plan as the model predicts it, and the goal."""
    if imagined and played.imagined is not None:
        x, y = played.imagined[:, column].cpu().numpy().T
        axis.plot(x, y, color=IMAGINED, linewidth=1, marker=".", markersize=3, linestyle="--")
    x, y = played.locations[: step + 1, column].cpu().numpy().T
    axis.plot(x, y, color=PATH, linewidth=1.3, marker=".", markersize=3)
    axis.plot(x[:1], y[:1], color=PATH, marker="s", markersize=4)
    _goal(axis, played, column)
    size = played.frames.shape[-1] if played.frames is not None else 28
    axis.set_xlim(-0.5, size - 0.5)
    axis.set_ylim(size - 0.5, -0.5)


def _goal(axis: Axes, played: Played, column: int) -> None:
    """A circle at the goal, as large as the larger radius of success."""
    x, y = played.goals[column].cpu().numpy()
    angles = np.linspace(0, 2 * np.pi, 40)
    axis.plot(x + RADII_PX[-1] * np.cos(angles), y + RADII_PX[-1] * np.sin(angles), color=GOAL, linewidth=1)


def _handles() -> list[Line2D]:
    return [
        Line2D([], [], color=PATH, marker="s", markersize=4, label="path, from the start"),
        Line2D([], [], color=IMAGINED, linestyle="--", label="first plan, as predicted"),
        Line2D([], [], color=GOAL, label=f"goal, {RADII_PX[-1]} px"),
    ]


def _rendered(figure: Figure) -> Image.Image:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=80, format="png")
    return Image.open(buffer).convert("RGB").quantize(64)
