"""Dots with momentum, which bounce off the borders."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from jepa.data.dots import DotWorld
from jepa.errors import check_number


class BouncingDots(DotWorld):
    """Dots that actions push; ``conf/dataset/bouncing.yaml`` holds the values.

    A dot starts at rest. An action (a push) is added to the velocity, friction reduces the velocity, and a border
    reflects it. Pushes are independent: directions are uniform on the circle, lengths uniform from 0 to ``push``. At
    every step locations are uniform in the area, because pushes have no preferred direction. Source: docs/science.md.
    """

    def __init__(self, *, friction: float, push: float, **shared: Any) -> None:
        """Args:
            friction: share of the velocity that is lost at each step, 0 to 1.
            push: the largest length of a push, px a frame.
            shared: the arguments of :class:`DotWorld`.

        Raises:
            ConfigError: a value is out of range.
        """
        super().__init__(**shared)
        self.friction = check_number("dataset.friction", friction, minimum=0, maximum=1)
        self.push = check_number("dataset.push", push, minimum=0.01, maximum=100)

    @property
    def action_std(self) -> float:
        """√(push² / 6): the mean square length, push² / 3, is shared by two coordinates."""
        return self.push / math.sqrt(6)

    @property
    def num_uniforms(self) -> int:
        """T-1 directions, then T-1 lengths."""
        return 2 * (self.num_steps - 1)

    def sample_actions(self, uniforms: Tensor) -> Tensor:
        directions, lengths = uniforms.chunk(2)
        angles = 2 * math.pi * directions
        return torch.stack((angles.cos(), angles.sin()), dim=-1) * (self.push * lengths).unsqueeze(-1)

    def start(self, locations: Tensor, layouts: Tensor | None = None) -> Tensor:
        """States [..., 4]: location (px), then velocity (px a frame), which is 0."""
        return torch.cat((locations, torch.zeros_like(locations)), dim=-1)

    def location_of(self, states: Tensor) -> Tensor:
        return states[..., :2]

    def step(self, states: Tensor, actions: Tensor) -> Tensor:
        locations, velocities = states.chunk(2, dim=-1)
        velocities = (1 - self.friction) * velocities + actions
        return torch.cat(reflected(locations + velocities, velocities, self.area.low, self.area.high), dim=-1)


def reflected(locations: Tensor, velocities: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Locations and velocities after any number of reflections at ``low`` and ``high`` (px).

    A location beyond a border is folded back; each fold changes the sign of the velocity. Both tensors have one shape;
    the function works element by element.
    """
    width = high - low
    rest = width - torch.remainder(locations - low, 2 * width)  # in (-width, width]; < 0 after an odd number of folds
    return high - rest.abs(), torch.where(rest < 0, -velocities, velocities)
