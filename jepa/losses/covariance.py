"""Covariance: features are not to vary together."""

from __future__ import annotations

import torch
from torch import Tensor

from jepa.errors import check_flag
from jepa.losses.base import Embeddings, Term, check_space


def covariance_loss(centered: Tensor) -> Tensor:
    """Mean over time steps of the sum of squared off-diagonal covariances over F; divisor B - 1.

    centered: [T, B, F], each feature's mean over the batch removed; returns [].
    With fewer samples than features, X X^T [B, B] has the sum of squares of X^T X [F, F], less the latter's diagonal.
    Source: Bardes et al. 2022 (arXiv 2105.04906), eq. 3-4.
    """
    batch_size, num_features = centered.shape[-2:]
    scaled = centered / (batch_size - 1) ** 0.5
    if batch_size < num_features:
        squares = (scaled @ scaled.mT).square().sum(dim=(-2, -1)) - scaled.square().sum(dim=-2).square().sum(dim=-1)
    else:
        diagonal = torch.eye(num_features, dtype=torch.bool, device=centered.device)
        squares = (scaled.mT @ scaled).masked_fill(diagonal, 0).square().sum(dim=(-2, -1))
    loss: Tensor = squares.mean() / num_features
    return loss


class Covariance(Term):
    """``covariance_loss`` of each time step's features.

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
            return covariance_loss(embeddings.centered(self.space, skip_first_step=self.skip_first_step))
