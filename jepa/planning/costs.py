"""Costs: how far the predicted end of candidate actions is from the goal."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from jepa.errors import ConfigError, check_choice
from jepa.planning.frozen import FrozenModel

MOMENTS = ("last", "sum")


class Goal(NamedTuple):
    """What a cost may know of the goal of each episode."""

    embeddings: Tensor  # [B, D], of the goal frame
    locations: Tensor  # [B, 2], px; the truth


class Cost(ABC):
    """Abstract: the distance of each predicted step to the goal, at the last step or as the mean over all steps."""

    reads_locations: bool = True  # whether the run's location probe is needed

    def __init__(self, *, at: str) -> None:
        """at: ``last``: the distance at the last step of the plan; ``sum``: the mean over its steps."""
        self.at = check_choice("at", at, MOMENTS)

    def __call__(self, model: FrozenModel, predicted: Tensor, goal: Goal) -> Tensor:
        """Costs [B, N] of ``predicted`` [H, B, N, D]."""
        distances = self.distances(model, predicted[-1:] if self.at == "last" else predicted, goal)
        return distances.mean(0)

    @abstractmethod
    def distances(self, model: FrozenModel, predicted: Tensor, goal: Goal) -> Tensor:
        """Distances [H, B, N] of ``predicted`` [H, B, N, D] to ``goal``."""


class Latent(Cost):
    """The mean squared difference between predicted embeddings and the embedding of the goal frame."""

    reads_locations = False

    def distances(self, model: FrozenModel, predicted: Tensor, goal: Goal) -> Tensor:
        return (predicted - goal.embeddings[:, None]).square().mean(-1)


class Probe(Cost):
    """The squared distance, px², between the location read from predictions and that of the goal.

    Source: the original's planning probe (docs/science.md), which knows the goal's true location.
    """

    def __init__(self, *, at: str, goal: str, goal_dot: int | None = None) -> None:
        """Args:
        at: as for :class:`Cost`.
        goal: ``seen``: the goal is read from the goal frame by the encoder probe; ``told``: the true location is given.
        goal_dot: index of the dot that is read from the goal frame; None: the action dot.
        """
        super().__init__(at=at)
        self.goal = check_choice("goal", goal, ("seen", "told"))
        self.goal_dot = goal_dot or 0

    def distances(self, model: FrozenModel, predicted: Tensor, goal: Goal) -> Tensor:
        located = model.read(predicted)[..., 0, :]  # [H, B, N, 2], the action dot
        return (located - self.target(model, goal)[:, None]).square().sum(-1)

    def target(self, model: FrozenModel, goal: Goal) -> Tensor:
        """The location [B, 2], px, that the planner steers to."""
        if self.goal == "told":
            return goal.locations
        with torch.no_grad():
            return model.read(goal.embeddings, "encoder")[:, self.goal_dot]


def check_dot(key: str, value: int, num_dots: int) -> int:
    """Return ``value`` if it is the index of a dot other than the action dot.

    Raises:
        ConfigError: names ``key``.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < num_dots:
        needs = f"1 to {num_dots - 1}" if num_dots > 1 else "null, because the world has one dot; take dataset=multiple"
        raise ConfigError(f"{key}={value!r}: must be {needs}")
    return value
