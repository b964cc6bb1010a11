"""The cross-entropy method."""

from __future__ import annotations

import torch
from torch import Tensor

from jepa.errors import ConfigError, check_count, check_number
from jepa.planning.solvers.base import Solver, chosen, gaussian_candidates
from jepa.planning.view import View


class CEM(Solver):
    """Draws candidates from a normal distribution and fits the distribution to the best ones, again and again.

    Source: Rubinstein 1999; for planning with learnt models Chua et al. 2018 (arXiv 1805.12114). The plan is the mean
    of the last elites.
    """

    def __init__(self, *, num_samples: int, num_iterations: int, num_elites: int, initial_std: float) -> None:
        """Args:
        num_samples: candidates an episode and iteration.
        num_iterations: rounds of drawing and fitting.
        num_elites: candidates that the distribution is fitted to, fewer than ``num_samples``.
        initial_std: standard deviation at the start, in units of the longest action.
        """
        self.num_samples = check_count("num_samples", num_samples, minimum=2, maximum=10**6)
        self.num_iterations = check_count("num_iterations", num_iterations, maximum=10_000)
        self.num_elites = check_elites(num_elites, num_samples)
        self.initial_std = check_number("initial_std", initial_std, above=0, maximum=100)

    @torch.no_grad()
    def solve(self, view: View, before: Tensor | None) -> Tensor:
        cost = self.cost(view)
        shape = (view.horizon, view.num_episodes, view.action_size)
        mean = torch.zeros(shape, device=view.device) if before is None else before
        std = torch.full(shape, self.initial_std * view.limit, device=view.device)
        for _ in range(self.num_iterations):
            candidates = gaussian_candidates(view, mean, std, self.num_samples)
            best = cost(candidates).topk(self.num_elites, dim=1, largest=False).indices
            elites = chosen(candidates, best)
            mean, std = elites.mean(2), elites.std(2)
        return view.shorten(mean)


def check_elites(num_elites: int, num_samples: int) -> int:
    """Return ``num_elites`` if it is 2 or more and below ``num_samples``; raise ConfigError otherwise."""
    if check_count("num_elites", num_elites, minimum=2) >= num_samples:
        raise ConfigError(f"num_elites={num_elites}: must be below num_samples={num_samples}")
    return num_elites
