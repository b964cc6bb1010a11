"""The covariance term: penalises features that vary together."""

from __future__ import annotations

import torch
from torch import Tensor

from jepa.losses.base import CenteredTerm


def covariance_loss(centered: Tensor, *, freedom: int | None = None) -> Tensor:
    """Mean over time steps of the sum of squared off-diagonal covariances over F.

    centered: [T, B, F], each feature's mean over the batch removed; returns [].
    freedom: divides the sums of products; None: B - 1.
    If B < F, the smaller matrix X X^T [B, B] is used: its sum of squares equals that of X^T X [F, F]. The squared
    diagonal of X^T X is then subtracted.
    Source: Bardes et al. 2022 (arXiv 2105.04906), eq. 3-4.
    """
    batch_size, num_features = centered.shape[-2:]
    scaled = centered / (batch_size - 1 if freedom is None else freedom) ** 0.5
    if batch_size < num_features:
        squares = (scaled @ scaled.mT).square().sum(dim=(-2, -1)) - scaled.square().sum(dim=-2).square().sum(dim=-1)
    else:
        diagonal = torch.eye(num_features, dtype=torch.bool, device=centered.device)
        squares = (scaled.mT @ scaled).masked_fill(diagonal, 0).square().sum(dim=(-2, -1))
    loss: Tensor = squares.mean() / num_features
    return loss


class Covariance(CenteredTerm):
    """``covariance_loss`` of each time step's features; arguments as for :class:`CenteredTerm`."""

    smallest_batch = 2

    def of_centered(self, centered: Tensor) -> Tensor:
        return covariance_loss(centered)
