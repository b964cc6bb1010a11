"""Model predictive path integral control."""

from __future__ import annotations

import torch
from torch import Tensor

from jepa.errors import check_count, check_number
from jepa.planning.solvers.base import Solver, gaussian_candidates
from jepa.planning.view import View


class MPPI(Solver):
    """The mean of candidates around the last plan, weighted by exp(-cost / temperature).

    Source: Williams et al. 2017 (arXiv 1707.02342). Deviation: costs are divided by their standard deviation over an
    episode's candidates, so that one temperature suits embeddings of every scale.
    """

    def __init__(self, *, num_samples: int, num_iterations: int, temperature: float, std: float) -> None:
        """Args:
        num_samples: candidates an episode and iteration.
        num_iterations: how often the plan is replaced by the weighted mean.
        temperature: of the weights, in standard deviations of the cost.
        std: standard deviation of the candidates, in units of the longest action.
        """
        self.num_samples = check_count("num_samples", num_samples, minimum=2, maximum=10**6)
        self.num_iterations = check_count("num_iterations", num_iterations, maximum=10_000)
        self.temperature = check_number("temperature", temperature, above=0, maximum=1e6)
        self.std = check_number("std", std, above=0, maximum=100)

    @torch.no_grad()
    def solve(self, view: View, before: Tensor | None) -> Tensor:
        cost = self.cost(view)
        shape = (view.horizon, view.num_episodes, view.action_size)
        mean = torch.zeros(shape, device=view.device) if before is None else before
        std = torch.full(shape, self.std * view.limit, device=view.device)
        for _ in range(self.num_iterations):
            candidates = gaussian_candidates(view, mean, std, self.num_samples)
            costs = cost(candidates)
            spread = costs.std(1, keepdim=True)
            spread = torch.where(spread > 0, spread, torch.ones_like(spread))  # a collapsed model: all costs are equal
            weights = torch.softmax(-costs / (self.temperature * spread), dim=1)  # [B, N]
            mean = (candidates * weights[None, :, :, None]).sum(2)
        return view.shorten(mean)
