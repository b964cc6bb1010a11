"""The published study's figure 3 and table 1 as data: each run's panel, method, strength of noise and errors by dot."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jepa.results.axes import SEED, axis_value, varying_axes
from jepa.results.intervals import Summary, summarize
from jepa.results.records import ResultsError, Run
from jepa.results.reference import CENTRE_LINE, common_levels, run_reference
from jepa.results.tables import without_repeats
from jepa.store.result import is_number

PANELS = ("changing uniform", "changing structured", "fixed uniform", "fixed structured")
METHODS = ("vicreg", "simclr", "rssm", "idm", "supervised", "random")  # of the study, in the order of its legend
DOTS = ("action", "random", "stationary")
IMAGE_PX = 28  # the published table divides the RMSE by the image's width
# Sobal et al. 2022: RMSE / 28 of the prediction probe for three dots, by method and dot.
PUBLISHED: Mapping[str, tuple[float | None, float | None, float | None]] = {
    "vicreg": (0.277, 0.273, 0.066),
    "simclr": (0.193, 0.193, 0.025),
    "idm": (0.035, None, 0.272),
    "rssm": (0.021, None, 0.026),
    "supervised": (0.010, None, 0.005),
}
_WORLD = "MovingDots"
_TEXTURES = {"Uniform": "uniform", "Cifar10": "structured", "Photos": "structured"}
_DATASET = re.compile(r"single_(changing|fixed)_(uniform|structured)")


@dataclass(frozen=True)
class Cell:
    """The finished runs of one method at one strength of one kind of noise. summary: of their metric, over seeds."""

    scale: str  # "" for runs without one
    panel: str
    method: str
    strength: float
    summary: Summary
    runs: tuple[Run, ...]


def scale_of(run: Run) -> str:
    """The name of the run's scale; empty if it has none."""
    return str(run.config.get("scale") or "")


def scale_words(runs: Sequence[Run]) -> str:
    """The scales of some runs in words, with counts if there are several; empty if no run has one."""
    counts = Counter(scale_of(run) for run in runs if run.config)
    if not any(counts):
        return ""
    if len(counts) == 1:
        return f"scale: {next(iter(counts))}"
    return "scales: " + ", ".join(f"{name or 'none'} ({count} runs)" for name, count in sorted(counts.items()))


def noise_of(run: Run) -> tuple[str, float] | None:
    """The panel of a run and its strength of noise; None for another world or noise than those of the study.

    That is a run with three dots, with two kinds of noise or neither, with another law of motion, with further
    distractors, with an overlay that rolls, or with another texture.
    """
    texture = _texture(run)
    if texture is None or _is_of_another_world(run):
        return None
    changing, fixed = (run.config.get(f"dataset.{key}") for key in ("noise", "static_noise"))
    if run.config.get("dataset.num_dots") != 1 or not is_number(changing) or not is_number(fixed):
        return None
    if changing and fixed:
        return None
    match = _DATASET.fullmatch(str(run.choices.get("dataset")))
    motion = "changing" if changing else "fixed" if fixed else match[1] if match else None
    if motion is None:
        return None
    return f"{motion} {texture}", float(changing if is_number(changing) and changing else fixed or 0.0)


def _texture(run: Run) -> str | None:
    """"uniform" or "structured"; None for another texture."""
    chosen = run.config.get("dataset.texture._target_")
    if chosen is None:
        return "structured" if run.config.get("dataset.structured_noise") else "uniform"
    return _TEXTURES.get(str(chosen).rpartition(".")[2])


def _is_of_another_world(run: Run) -> bool:
    world = str(run.config.get("dataset._target_") or _WORLD).rpartition(".")[2]
    further = any(key.startswith("dataset.distractors.") for key in run.config)
    return world != _WORLD or further or bool(run.config.get("dataset.static_noise_speed"))


def cells(runs: Sequence[Run], metric: str) -> list[Cell]:
    """The cells of figure 3, by scale, panel, method and strength. Runs without noise have a cell in each panel.

    Raises:
        ResultsError: runs of one cell differ in more than their seed.
    """
    kept = [run for run in without_repeats(runs) if run.status == "finished" and is_number(run.value(metric))]
    groups: dict[tuple[str, str, str, float], list[Run]] = {}
    for run in kept:
        noise = noise_of(run)
        if noise is not None:
            groups.setdefault((scale_of(run), noise[0], str(run.choices.get("model")), noise[1]), []).append(run)
    axes = [key for key in varying_axes(kept) if key not in (SEED, "dataset")]
    found = []
    for key, group in sorted(groups.items(), key=lambda item: _place(item[0])):
        mixed = [axis for axis in axes if len({str(axis_value(run, axis)) for run in group}) > 1]
        if mixed:
            words = f"{key[2]} at {key[1]} noise of {key[3]:g}"
            raise ResultsError(f"--figure figure3: runs of {words} differ in {', '.join(mixed)}: choose with --where")
        summary = summarize([run.value(metric) for run in group])
        assert summary is not None
        found.append(Cell(*key, summary, tuple(group)))
    everywhere = found + _clean_elsewhere(found)
    return sorted(everywhere, key=lambda cell: _place((cell.scale, cell.panel, cell.method, cell.strength)))


def _clean_elsewhere(found: Sequence[Cell]) -> list[Cell]:
    """The cells without noise again, for the other panels with the method: clean data are the same for all kinds."""
    there = {(cell.scale, cell.panel, cell.method, cell.strength) for cell in found}
    lines = dict.fromkeys((cell.scale, cell.panel, cell.method) for cell in found)
    clean = {(cell.scale, cell.method): cell for cell in found if cell.strength == 0}
    return [
        replace(clean[scale, method], panel=panel)
        for scale, panel, method in lines
        if (scale, method) in clean and (scale, panel, method, 0.0) not in there
    ]


def _place(key: tuple[str, str, str, float]) -> tuple[Any, ...]:
    scale, panel, method, strength = key
    order = METHODS.index(method) if method in METHODS else len(METHODS)
    return scale, PANELS.index(panel), order, method, strength


def cell_rows(found: Sequence[Cell], metric: str) -> list[dict[str, Any]]:
    """The data of the figure, one row for each cell, for a csv file."""
    return [
        {
            "scale": cell.scale,
            "noise": cell.panel,
            "strength": cell.strength,
            "method": cell.method,
            metric: cell.summary.mean,
            f"{metric}_ci95": cell.summary.half_width,
            "n": cell.summary.n,
            "folders": [run.folder for run in cell.runs],
        }
        for cell in found
    ]


# --- table 1 --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DotsRow:
    """One method of table 1: for each dot, the RMSE / 28 of our runs, and the published one."""

    scale: str
    method: str
    ours: tuple[Summary | None, ...]
    published: tuple[float | None, ...]
    runs: tuple[Run, ...]


def dots_rows(runs: Sequence[Run]) -> list[DotsRow]:
    """The rows of table 1, in the published order.

    Raises:
        ResultsError: no finished run has three clean dots, or runs of one method differ in more than their seed.
    """
    kept = [
        run
        for run in without_repeats(runs)
        if run.status == "finished" and run.config.get("dataset.num_dots") == 3 and not _noisy(run)
    ]
    if not kept:
        raise ResultsError("--table table1: no finished run has three dots without noise; +sweep=table1 makes them")
    axes = [key for key in varying_axes(kept) if key != SEED]
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in kept:
        groups.setdefault((scale_of(run), str(run.choices.get("model"))), []).append(run)
    rows = []
    for (scale, method), group in sorted(groups.items(), key=lambda item: _row_place(*item[0])):
        mixed = [axis for axis in axes if len({str(axis_value(run, axis)) for run in group}) > 1]
        if mixed:
            raise ResultsError(f"--table table1: runs of {method} differ in {', '.join(mixed)}: choose with --where")
        ours = tuple(_over_image(group, dot) for dot in range(3))
        rows.append(DotsRow(scale, method, ours, PUBLISHED.get(method, (None,) * 3), tuple(group)))
    return rows


def centre_over_image(runs: Sequence[Run]) -> list[float | None]:
    """For each dot, the RMSE / 28 of always answering the centre; None if the runs have no common line."""
    found: list[float | None] = []
    for dot in range(3):
        shared = common_levels([run_reference(run) for run in runs], f"prediction_rmse_px_per_dot.{dot}")
        value = dict(shared or []).get(CENTRE_LINE)
        found.append(None if value is None else value / IMAGE_PX)
    return found


def _noisy(run: Run) -> bool:
    return bool(run.config.get("dataset.noise") or run.config.get("dataset.static_noise")) or _is_of_another_world(run)


def _row_place(scale: str, method: str) -> tuple[Any, ...]:
    order = [*PUBLISHED, method]
    return scale, order.index(method), method


def _over_image(runs: Sequence[Run], dot: int) -> Summary | None:
    values = [run.value(f"prediction_rmse_px_per_dot.{dot}") for run in runs]
    return summarize([value / IMAGE_PX for value in values if is_number(value)])
