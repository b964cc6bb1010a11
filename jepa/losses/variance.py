"""Variance: every feature is to vary within a batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from jepa.errors import check_flag
from jepa.losses.base import Embeddings, Term, check_space


def variance_loss(centered: Tensor) -> Tensor:
    """Mean over features and time steps of relu(1 - sqrt(Var + 1e-4)), Var unbiased over the batch.

    centered: [T, B, F], each feature's mean over the batch removed; returns [].
    Source: Bardes et al. 2022 (arXiv 2105.04906), eq. 1-2.
    """
    variance = centered.square().sum(dim=-2) / (centered.shape[-2] - 1)
    return F.relu(1 - (variance + 1e-4).sqrt()).mean()


class Variance(Term):
    """``variance_loss`` of each time step's features.

    Args:
        coeff: weight in the method's loss; None: it counts as it is.
        space: features of embeddings or of projections.
        skip_first_step: leave out frame 0, which nothing predicts (as published).
    """

    smallest_batch = 2

    def __init__(self, *, coeff: float | None, space: str, skip_first_step: bool) -> None:
        super().__init__(coeff=coeff)
        self.space = check_space(space)
        self.skip_first_step = check_flag("skip_first_step", skip_first_step)

    def forward(self, embeddings: Embeddings) -> Tensor:
        with torch.autocast(embeddings.encodings.device.type, enabled=False):
            return variance_loss(embeddings.centered(self.space, skip_first_step=self.skip_first_step))
