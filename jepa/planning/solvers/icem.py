"""The improved cross-entropy method."""

from __future__ import annotations

import torch
from torch import Tensor

from jepa.errors import check_count, check_number
from jepa.planning.solvers.base import Solver, chosen
from jepa.planning.solvers.cem import check_elites
from jepa.planning.view import View


class ICEM(Solver):
    """The cross-entropy method with noise that is correlated in time, elites that are kept, and ever fewer samples.

    Source: Pinneri et al. 2020 (arXiv 2008.06389). Candidates carry noise of power 1 / frequency^beta. A share of the
    elites enters the next iteration. The last iteration also judges the mean. The plan is the best candidate.
    """

    def __init__(
        self,
        *,
        num_samples: int,
        num_iterations: int,
        num_elites: int,
        initial_std: float,
        noise_beta: float,
        kept_elites: float,
        decay: float,
        momentum: float,
    ) -> None:
        """Args:
        num_samples: candidates an episode in the first iteration.
        num_iterations: rounds of drawing and fitting.
        num_elites: candidates that the distribution is fitted to, fewer than ``num_samples``.
        initial_std: standard deviation at the start, in units of the longest action.
        noise_beta: exponent of the noise; 0: independent steps.
        kept_elites: share of the elites that enters the next iteration, 0 to 1.
        decay: the number of candidates is divided by this after every iteration, to 2 * num_elites at least.
        momentum: weight of the old mean and standard deviation, 0 to 1.
        """
        self.num_samples = check_count("num_samples", num_samples, minimum=2, maximum=10**6)
        self.num_iterations = check_count("num_iterations", num_iterations, maximum=10_000)
        self.num_elites = check_elites(num_elites, num_samples)
        self.initial_std = check_number("initial_std", initial_std, above=0, maximum=100)
        self.noise_beta = check_number("noise_beta", noise_beta, minimum=0, maximum=10)
        self.kept_elites = check_number("kept_elites", kept_elites, minimum=0, maximum=1)
        self.decay = check_number("decay", decay, minimum=1, maximum=1000)
        self.momentum = check_number("momentum", momentum, minimum=0, below=1)

    @torch.no_grad()
    def solve(self, view: View, before: Tensor | None) -> Tensor:
        cost = self.cost(view)
        shape = (view.horizon, view.num_episodes, view.action_size)
        mean = torch.zeros(shape, device=view.device) if before is None else before
        std = torch.full(shape, self.initial_std * view.limit, device=view.device)
        kept = mean.unsqueeze(2)[:, :, :0]
        for iteration in range(self.num_iterations):
            extra = [kept, mean.unsqueeze(2)] if iteration == self.num_iterations - 1 else [kept]
            count = max(int(self.num_samples / self.decay**iteration), 2 * self.num_elites)
            noise = coloured_noise(view, count, self.noise_beta)
            candidates = view.shorten(mean.unsqueeze(2) + std.unsqueeze(2) * noise)
            candidates = torch.cat([candidates, *extra], dim=2)
            best = cost(candidates).topk(self.num_elites, dim=1, largest=False).indices  # the best one first
            elites = chosen(candidates, best)
            kept = elites[:, :, : int(self.kept_elites * self.num_elites)]
            mean = self.momentum * mean + (1 - self.momentum) * elites.mean(2)
            std = self.momentum * std + (1 - self.momentum) * elites.std(2)
        return view.shorten(elites[:, :, 0])


def coloured_noise(view: View, num_samples: int, beta: float) -> Tensor:
    """Noise [H, B, N, A] of variance 1 whose power falls with the frequency as 1 / frequency^beta.

    Source: Timmer and Koenig 1995. The lowest frequency's power stands for that of frequency 0.
    """
    horizon = view.horizon
    shape = (horizon, view.num_episodes, num_samples, view.action_size)
    white = torch.randn(shape, generator=view.generator, device=view.device)
    if beta == 0 or horizon == 1:
        return white
    spectrum = torch.fft.rfft(white, dim=0)
    frequencies = torch.fft.rfftfreq(horizon, device=view.device).clamp(min=1 / horizon)
    scale = frequencies ** (-beta / 2)
    counted = torch.full_like(scale, 2.0)  # how many frequencies of the full transform an entry stands for
    counted[0] = 1.0
    if horizon % 2 == 0:
        counted[-1] = 1.0
    scale = scale / ((counted * scale.square()).sum() / horizon).sqrt()
    noise: Tensor = torch.fft.irfft(spectrum * scale.view(-1, 1, 1, 1), n=horizon, dim=0)
    return noise
