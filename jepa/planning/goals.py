"""The frozen list of starts and goals. A seed and a version decide it; no run trains or probes on its draws."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from jepa.data.area import Area
from jepa.data.dots import DotWorld
from jepa.errors import ConfigError
from jepa.seeding import generator

VERSION = 1  # changes whenever the same seed gives another list
RADII_PX = (1.4, 1.9)  # an episode succeeds within this distance of the goal
DISTANCES = ("near", "middle", "far")
# Limits of the distance from start to goal, as shares of the side of the area.
_LIMITS = (0.15, 0.35, 0.6)
_ROOM_POOL = 200  # pairs that are drawn for each episode in two rooms
_POOL = 64  # pairs that are drawn for each episode; far pairs are a seventh of all


class GoalList(NamedTuple):
    """Starts and goals. Episode ``i`` has the distance ``DISTANCES[i % 3]``."""

    starts: Tensor  # [B, 2], px
    goals: Tensor  # [B, 2], px
    kinds: Tensor  # [B], int64: the index of the distance in DISTANCES
    layouts: Tensor | None = None  # [B, L], of the environment; None: it has none


def goals_in(environment: DotWorld, *, seed: int, num_episodes: int) -> GoalList:
    """The first ``num_episodes`` pairs of the list of ``seed`` in ``environment``, on the CPU.

    In two rooms every episode has a layout of its own, which this list decides, too. A near or middle goal is in the
    room of its start; middle is everything farther than near. A far goal is in the other room, and not near.

    Raises:
        ConfigError: the area is so small that near goals are solved at the start, or a wall leaves no room for a goal.
    """
    source = generator(seed, f"planning/layouts/{VERSION}")
    layouts = environment.layouts_from(torch.rand(num_episodes, 2, generator=source, dtype=torch.float64))
    if layouts is None:
        return goal_list(environment.area, seed=seed, num_episodes=num_episodes)
    _check_area(environment.area)
    source = generator(seed, f"planning/rooms/{VERSION}")
    pairs = torch.rand(num_episodes, _ROOM_POOL, 4, generator=source, dtype=torch.float64)
    places = layouts.unsqueeze(1).expand(-1, _ROOM_POOL, -1)
    starts, goals = (environment.place(uniforms, places) for uniforms in (pairs[..., :2], pairs[..., 2:]))
    distances = torch.linalg.vector_norm(goals - starts, dim=-1) / environment.area.width
    parted = environment.parted(starts, goals, places)  # [B, pool], as all below
    near = (distances >= _LIMITS[0]) & (distances < _LIMITS[1])
    farther = distances >= _LIMITS[1]
    fitting = torch.stack((near & ~parted, farther & ~parted, farther & parted))  # [kinds, B, pool]
    kinds = torch.arange(num_episodes) % len(DISTANCES)
    rows = torch.arange(num_episodes)
    chosen = fitting[kinds, rows].int().argmax(-1)  # the first that fits
    missing = ~fitting[kinds, rows, chosen]
    if bool(missing.any()):
        row = int(missing.int().argmax())
        raise ConfigError(
            f"plan: no {DISTANCES[int(kinds[row])]} goal fits beside the wall at {float(layouts[row, 0]):.1f} px; "
            "move dataset.wall_column to the middle"
        )
    return GoalList(starts[rows, chosen].float(), goals[rows, chosen].float(), kinds, layouts.float())


def goal_list(area: Area, *, seed: int, num_episodes: int) -> GoalList:
    """The first ``num_episodes`` pairs of the list of ``seed``, on the CPU.

    Starts and goals are uniform in ``area``, under the condition that their distance is near, middle or far. No goal is
    within the larger radius of its start.

    Raises:
        ConfigError: the area is so small that near goals are solved at the start.
    """
    _check_area(area)
    source = generator(seed, f"planning/list/{VERSION}")
    per_kind = -(-num_episodes // len(DISTANCES))
    pairs = torch.rand(_POOL * per_kind * len(DISTANCES), 4, generator=source, dtype=torch.float64)
    starts, goals = area.locate(pairs[:, :2]), area.locate(pairs[:, 2:])
    distances = torch.linalg.vector_norm(goals - starts, dim=-1) / area.width
    kinds = torch.bucketize(distances, torch.tensor(_LIMITS, dtype=torch.float64)) - 1  # -1: too near
    rows = torch.stack([torch.nonzero(kinds == kind)[:per_kind, 0] for kind in range(len(DISTANCES))], dim=1)
    chosen = rows.flatten()[:num_episodes]
    return GoalList(starts[chosen].float(), goals[chosen].float(), kinds[chosen])


def _check_area(area: Area) -> None:
    nearest = _LIMITS[0] * area.width
    if nearest <= max(RADII_PX):
        raise ConfigError(
            f"plan: the dots' area is {area.width:.1f} px wide; at least {max(RADII_PX) / _LIMITS[0]:.1f} px are "
            "needed, so that no goal is reached at the start"
        )
