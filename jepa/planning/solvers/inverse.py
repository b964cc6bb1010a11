"""A learnt inverse model on frozen embeddings, in place of a search."""

from __future__ import annotations

import torch
from torch import Tensor

from jepa.data.stream import Stream
from jepa.errors import check_count, check_number
from jepa.planning.frozen import FrozenModel
from jepa.planning.solvers.base import Solver
from jepa.planning.view import View
from jepa.seeding import derive_seed


class InverseModel(Solver):
    """The next action from the embeddings of the present frame and the goal, and the number of steps between them.

    The model is linear in [z_t, z_goal, 1] and in [z_t, z_goal, 1] / k, where k is the number of steps, and is fitted
    by least squares on true encodings of new sequences of the run's own data. Source: goal-conditioned inverse
    dynamics (arXiv 2605.08732); linear here, as the probes are.
    """

    uses_predictor = False

    def __init__(self, *, num_sequences: int, ridge: float) -> None:
        """Args:
        num_sequences: sequences that the model is fitted on.
        ridge: penalty on the squared weights, as a share of the features' mean square.
        """
        self.num_sequences = check_count("num_sequences", num_sequences, minimum=2, maximum=10**7)
        self.ridge = check_number("ridge", ridge, minimum=0, maximum=1e6)

    def prepared(self, model: FrozenModel) -> Solver:
        return FittedInverse(self._fitted(model), model)

    def solve(self, view: View, before: Tensor | None) -> Tensor:
        raise NotImplementedError("prepared() returns the solver that has been fitted")

    @torch.no_grad()
    def _fitted(self, model: FrozenModel) -> Tensor:
        """The weights [F, A], float64 on the CPU."""
        environment = model.environment
        stream = Stream(
            environment, derive_seed(model.seed, "planning/inverse"), "train", model.normalizer, model.device
        )
        pairs = torch.Generator().manual_seed(derive_seed(model.seed, "planning/inverse/pairs"))
        gram, product = torch.zeros(()), torch.zeros(())
        left = self.num_sequences
        while left > 0:
            batch = stream.next()
            num_steps, batch_size = batch.states.shape[:2]
            encodings = model.encode(batch.states).cpu()
            actions = batch.actions.double().cpu()
            first = torch.arange(num_steps - 1).repeat(batch_size, 1).T  # [T-1, B], every frame but the last
            span = (torch.rand(first.shape, generator=pairs) * (num_steps - 1 - first)).long() + 1  # k, 1 ... T-1-t
            sequences = torch.arange(batch_size)
            rows = features(encodings[:-1], encodings[first + span, sequences], span)[:, :left].flatten(0, 1)
            gram = gram + rows.T @ rows
            product = product + rows.T @ actions[:, :left].flatten(0, 1)
            left -= batch_size
        penalty = self.ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
        weights: Tensor = torch.linalg.lstsq(gram + penalty, product, driver="gelsd").solution
        return weights


class FittedInverse(Solver):
    """An inverse model that has been fitted to one run. A plan repeats its next action."""

    uses_predictor = False

    def __init__(self, weights: Tensor, model: FrozenModel) -> None:
        """weights: [F, A], float64 on the CPU."""
        self._weights = weights
        self._environment = model.environment

    def solve(self, view: View, before: Tensor | None) -> Tensor:
        assert view.embeddings is not None and view.goal_embeddings is not None
        span = torch.full((view.num_episodes,), min(view.steps_left, self._environment.num_steps - 1))
        rows = features(view.embeddings.cpu(), view.goal_embeddings.cpu(), span)
        first = self._environment.unnormalize_actions((rows @ self._weights).float().to(view.device))
        return view.shorten(first).expand(view.horizon, *first.shape)


def features(present: Tensor, goal: Tensor, span: Tensor) -> Tensor:
    """The inputs of the inverse model [..., 4D + 2], float64, from embeddings [..., D] and steps between them [...]."""
    base = torch.cat((present, goal, torch.ones_like(present[..., :1])), dim=-1).double()
    return torch.cat((base, base / span.unsqueeze(-1)), dim=-1)
