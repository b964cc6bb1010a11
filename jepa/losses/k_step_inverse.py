"""The k-step inverse term: the error of actions that are inferred from two embeddings k frames apart."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from jepa.errors import check_count
from jepa.losses.base import Embeddings, Sizes, Term, full_precision
from jepa.models.heads import ActionPredictor, check_head


def pairs_apart(encodings: Tensor, max_steps: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """For each k from 1 to ``max_steps``: z_t [T-k, B, D], z_{t+k} [T-k, B, D], and k one-hot [T-k, B, max_steps].

    encodings: [T, B, D], T > max_steps.
    """
    numbers = torch.eye(max_steps, dtype=encodings.dtype, device=encodings.device)
    for k in range(1, max_steps + 1):
        before, after = encodings[:-k], encodings[k:]
        yield before, after, numbers[k - 1].expand(*before.shape[:-1], max_steps)


class KStepInverse(Term):
    """Mean squared error of the action a_t that a network infers from [z_t, z_{t+k}, one-hot k].

    The loss is the mean over k = 1 ... max_steps of the mean over t, which is what drawing k ~ U{1 ... max_steps}
    gives on average; here every k is computed, so that the term draws nothing.
    If actions are independent, as in the moving dots, only the mean of a_t given both frames and k can be learnt.
    Source: Lamb et al. 2022 (AC-State, arXiv 2207.08229), for continuous actions.

    Args:
        coeff: as for :class:`Term`.
        max_steps: the largest distance k in frames.
        head, hidden: the network, see :class:`jepa.models.heads.ActionPredictor`.
    """

    infers_actions = True

    def __init__(self, *, coeff: float | None, max_steps: int, head: str, hidden: str | int) -> None:
        super().__init__(coeff=coeff)
        self.max_steps = check_count("max_steps", max_steps, maximum=1000)
        self.fewest_frames = self.max_steps + 1
        self.hidden = check_head(head, hidden)

    def build(self, sizes: Sizes) -> None:
        self.action_predictor = ActionPredictor(
            input_size=2 * sizes.embedding_size + self.max_steps,
            action_size=sizes.shapes.action_size,
            hidden=self.hidden,
        )

    def forward(self, embeddings: Embeddings) -> Tensor:
        errors = []
        for before, after, number in pairs_apart(embeddings.encodings, self.max_steps):
            inferred = full_precision(self.action_predictor(before, after, number))
            errors.append(F.mse_loss(inferred, embeddings.batch.actions[: len(inferred)]))
        return torch.stack(errors).mean()
