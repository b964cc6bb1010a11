"""The floor: actions that know nothing of the goal."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from jepa.planning.solvers.base import Solver
from jepa.planning.view import View


class RandomActions(Solver):
    """Independent actions, in the plane of uniform direction and of uniform length up to the longest action."""

    uses_predictor = False
    uses_encoder = False

    def solve(self, view: View, before: Tensor | None) -> Tensor:
        shape = (view.horizon, view.num_episodes, view.action_size)
        directions = torch.randn(shape, generator=view.generator, device=view.device)
        lengths = torch.rand((*shape[:2], 1), generator=view.generator, device=view.device) * view.limit
        norms = torch.linalg.vector_norm(directions, dim=-1, keepdim=True).clamp(min=math.ulp(1.0))
        actions: Tensor = directions / norms * lengths
        return actions
