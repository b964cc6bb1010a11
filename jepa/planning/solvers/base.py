"""The interface of solvers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from jepa.planning.frozen import FrozenModel
from jepa.planning.view import CostFunction, View


class Solver(ABC):
    """Abstract: finds actions for a batch of episodes. It holds settings only, so one object serves many runs."""

    uses_predictor: ClassVar[bool] = True  # False: a run whose predictor takes no actions can be planned with
    uses_encoder: ClassVar[bool] = True  # False: the result is the same for every run

    def prepared(self, model: FrozenModel) -> Solver:
        """The solver for one run. A solver that learns from the run's data returns a new object here."""
        return self

    def cost(self, view: View) -> CostFunction:
        """The cost that the solver minimises; by default the model's."""
        return view.imagined

    @abstractmethod
    def solve(self, view: View, before: Tensor | None) -> Tensor:
        """The plan.

        Args:
            view: the problem.
            before: the rest of the last plan, padded with zeros to [H, B, A], px; None at the start.

        Returns:
            Actions [H, B, A], px, none longer than ``view.limit``.
        """


def gaussian_candidates(view: View, mean: Tensor, std: Tensor, num_samples: int) -> Tensor:
    """Candidates [H, B, N, A] around ``mean`` with ``std`` [H, B, A], px, shortened to what is allowed."""
    shape = (view.horizon, view.num_episodes, num_samples, view.action_size)
    noise = torch.randn(shape, generator=view.generator, device=view.device)
    return view.shorten(mean.unsqueeze(2) + std.unsqueeze(2) * noise)


def chosen(candidates: Tensor, rows: Tensor) -> Tensor:
    """Of ``candidates`` [H, B, N, A], those with the indices ``rows`` [B, E]: [H, B, E, A]."""
    return torch.take_along_dim(candidates, rows[None, :, :, None], dim=2)
