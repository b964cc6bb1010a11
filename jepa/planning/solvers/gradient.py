"""Gradient descent on the actions, through the predictor."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from jepa.errors import check_count, check_number
from jepa.planning.solvers.base import Solver
from jepa.planning.view import View


class Gradient(Solver):
    """Adam on directions and speeds, from random ones; the best of several restarts and steps is the plan.

    Source: the original's planning probe (docs/science.md): an action is a direction, normalised to length 1, times a
    speed between 0 and the longest action; 100 steps of Adam at 0.1. Deviations: the best actions of all steps are
    kept, not the last ones, and a later plan starts from the rest of the plan before.
    """

    def __init__(self, *, num_steps: int, learning_rate: float, num_restarts: int) -> None:
        """Args:
        num_steps: steps of Adam.
        learning_rate: of Adam; directions have length 1, speeds are in px.
        num_restarts: random starts, optimised side by side.
        """
        self.num_steps = check_count("num_steps", num_steps, maximum=100_000)
        self.learning_rate = check_number("learning_rate", learning_rate, above=0, maximum=1000)
        self.num_restarts = check_count("num_restarts", num_restarts, maximum=10_000)

    def solve(self, view: View, before: Tensor | None) -> Tensor:
        cost = self.cost(view)
        directions, speeds = self._begin(view, before)
        best_cost = torch.full((view.num_episodes, self.num_restarts), math.inf, device=view.device)
        best = torch.zeros_like(directions)
        optimizer = torch.optim.Adam([directions, speeds], lr=self.learning_rate)
        for step in range(self.num_steps + 1):
            with torch.enable_grad():
                actions = _actions(directions, speeds)
                costs = cost(actions)
            with torch.no_grad():
                better = costs < best_cost
                best = torch.where(better[None, :, :, None], actions, best)
                best_cost = torch.where(better, costs, best_cost)
            if step < self.num_steps:
                # Episodes and restarts do not share parameters, so each descends its own cost.
                directions.grad, speeds.grad = torch.autograd.grad(costs.sum(), [directions, speeds])
                optimizer.step()
                with torch.no_grad():
                    speeds.clamp_(0, view.limit)
        return torch.take_along_dim(best, best_cost.argmin(1)[None, :, None, None], dim=2).squeeze(2).detach()

    def _begin(self, view: View, before: Tensor | None) -> tuple[Tensor, Tensor]:
        """Random directions [H, B, R, A] and speeds [H, B, R, 1]; the first restart is ``before``, if it is given."""
        shape = (view.horizon, view.num_episodes, self.num_restarts, view.action_size)
        directions = torch.randn(shape, generator=view.generator, device=view.device)
        speeds = torch.rand((*shape[:3], 1), generator=view.generator, device=view.device) * view.limit
        if before is not None:
            lengths = torch.linalg.vector_norm(before, dim=-1, keepdim=True)
            moves = lengths > 1e-6  # a step of length 0 has no direction; the random one stays
            directions[:, :, 0] = torch.where(moves, before / lengths.clamp(min=1e-6), directions[:, :, 0])
            speeds[:, :, 0] = lengths
        return directions.requires_grad_(), speeds.requires_grad_()


def _actions(directions: Tensor, speeds: Tensor) -> Tensor:
    norms = torch.linalg.vector_norm(directions, dim=-1, keepdim=True).clamp(min=1e-6)
    actions: Tensor = directions / norms * speeds
    return actions
