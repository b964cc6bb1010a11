"""The environment of the study: dots on a random walk with a mean direction, clipped at the borders."""

from __future__ import annotations

import torch
from torch import Tensor

from jepa.data.dots import DotWorld
from jepa.data.motion import ACTION_STD, MAX_STEP_PX, sample_actions


class MovingDots(DotWorld):
    """Dots that move by one action a step; ``conf/dataset/single.yaml`` holds and explains the values.

    Source: Sobal et al. 2022 (arXiv 2211.10831), section 3, and docs/science.md.
    """

    @property
    def action_std(self) -> float:
        return ACTION_STD

    @property
    def action_limit(self) -> float:
        return MAX_STEP_PX

    @property
    def num_uniforms(self) -> int:
        """One for the mean direction, T-1 for directions, T-1 for lengths."""
        return 1 + 2 * (self.num_steps - 1)

    def sample_actions(self, uniforms: Tensor) -> Tensor:
        return sample_actions(uniforms[0], *uniforms[1:].chunk(2))

    def step(self, states: Tensor, actions: Tensor) -> Tensor:
        """Add the action to the location and clip each coordinate to the area. The state is the location."""
        return (states + actions).clamp(self.area.low, self.area.high)

    def guesses(self, start: Tensor, actions: Tensor) -> dict[str, Tensor]:
        limit = self.area.centre - self.area.low
        summed = torch.cat((start.unsqueeze(0), actions)).cumsum(0)
        return {"start plus summed actions, clipped once": summed.clamp(-limit, limit)}
