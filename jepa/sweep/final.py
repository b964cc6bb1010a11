"""The final runs of a search: a grid of jobs (``sweep.final``) that all have the winner's parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jepa.errors import ConfigError, choice_error
from jepa.sweep import points
from jepa.sweep.arguments import Arguments, Point, bare
from jepa.sweep.points import Grid

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

BLOCKS = ("axes", "zipped", "points", "overrides")


def final_grid(final: Mapping[str, Any]) -> Grid | None:
    """The grid of ``sweep.final``, which has the syntax of a grid in a sweep file; None if there is none.

    Raises:
        ConfigError: an unknown key, or a block that is refused in a sweep file too.
    """
    for key in final:
        if key not in BLOCKS:
            raise choice_error("sweep.final", key, BLOCKS)
    if not any(final.values()):
        return None
    try:
        return points.build_grid(final, Arguments({}, [], {}, {}))
    except ConfigError as error:
        raise ConfigError(re.sub(r"^sweep\.", "sweep.final.", str(error))) from error


def winner(
    best: FrozenTrial, finished: Sequence[FrozenTrial], *, preset: Mapping[str, Any] | None, margin: float
) -> FrozenTrial:
    """The trial whose parameters the final runs have: ``best``, or the one with the preset's own values.

    The preset's trial stays unless the objective of ``best`` is smaller by ``margin`` times its own: one seed tells no
    smaller difference from chance.
    """
    own = next((trial for trial in finished if trial.params == preset), best)
    best_value, own_value = float(best.value or 0.0), float(own.value or 0.0)
    return best if own_value - best_value >= margin * abs(own_value) else own


def final_points(grid: Grid, trial: Point, *, searched: set[str], seed: object) -> list[Point]:
    """The point of each final run: the values of ``trial``, replaced where the grid sets a key.

    Args:
        grid: from :func:`final_grid`.
        trial: all values of the winner.
        searched: the dimensions of the search, which a final run takes from the trial.
        seed: of the trials.

    Raises:
        ConfigError: the grid sets a dimension of the search, or repeats the seed of the trials.
    """
    found = []
    for point in grid.points:
        own = {**grid.fixed, **point}
        keys = {bare(key) for key in own}
        for key in sorted(keys & searched):
            raise ConfigError(f"sweep.final: {key}: a dimension of the search; final runs have the winner's value")
        if own.get("seed") == str(seed):
            raise ConfigError(f"sweep.final: seed={seed}: the seed of the trials; final runs need seeds of their own")
        found.append({**{key: value for key, value in trial.items() if bare(key) not in keys}, **own})
    return found
