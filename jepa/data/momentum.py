"""Dots with inertia: the study's actions are forces that a velocity follows slowly."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from jepa.data.dots import DotWorld
from jepa.data.motion import ACTION_STD, sample_actions
from jepa.errors import check_number


class MomentumDots(DotWorld):
    """The study's dots with inertia; ``conf/dataset/momentum.yaml`` holds the values.

    A dot starts at rest. Each step is v <- momentum · v + (1 - momentum) · action, then location <- location + v. The
    location is clipped to the area; a coordinate that is clipped loses its velocity. Actions have the study's
    distribution. With ``momentum`` 0 the environment is :class:`jepa.data.moving_dots.MovingDots`.
    """

    def __init__(self, *, momentum: float, **shared: Any) -> None:
        """Args:
            momentum: share of the velocity that is kept at each step, 0 to 0.99.
            shared: the arguments of :class:`DotWorld`.

        Raises:
            ConfigError: a value is out of range.
        """
        super().__init__(**shared)
        self.momentum = check_number("dataset.momentum", momentum, minimum=0, maximum=0.99)

    @property
    def action_std(self) -> float:
        return ACTION_STD

    @property
    def num_uniforms(self) -> int:
        """One for the mean direction, T-1 for directions, T-1 for lengths."""
        return 1 + 2 * (self.num_steps - 1)

    def sample_actions(self, uniforms: Tensor) -> Tensor:
        return sample_actions(uniforms[0], *uniforms[1:].chunk(2))

    def start(self, locations: Tensor, layouts: Tensor | None = None) -> Tensor:
        """States [..., 4]: location (px), then velocity (px a frame), which is 0."""
        return torch.cat((locations, torch.zeros_like(locations)), dim=-1)

    def location_of(self, states: Tensor) -> Tensor:
        return states[..., :2]

    def step(self, states: Tensor, actions: Tensor) -> Tensor:
        locations, velocities = states.chunk(2, dim=-1)
        velocities = self.momentum * velocities + (1 - self.momentum) * actions
        free = locations + velocities
        clipped = free.clamp(self.area.low, self.area.high)
        return torch.cat((clipped, torch.where(clipped == free, velocities, 0.0)), dim=-1)
