"""The variance term: penalises features that vary too little within a batch."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from jepa.losses.base import CenteredTerm


def variance_loss(centered: Tensor, *, target: Tensor | float = 1, freedom: int | None = None) -> Tensor:
    """Mean over features and time steps of relu(target - sqrt(Var + 1e-4)), Var unbiased over the batch.

    Args:
        centered: [T, B, F], each feature's mean over the batch removed.
        target: the standard deviation below which a feature is penalised, [].
        freedom: divides the sum of squares; None: B - 1.

    Returns:
        [].

    Source: Bardes et al. 2022 (arXiv 2105.04906), eq. 1-2.
    """
    variance = centered.square().sum(dim=-2) / (centered.shape[-2] - 1 if freedom is None else freedom)
    return F.relu(target - (variance + 1e-4).sqrt()).mean()


class Variance(CenteredTerm):
    """``variance_loss`` of each time step's features; arguments as for :class:`CenteredTerm`."""

    smallest_batch = 2

    def of_centered(self, centered: Tensor) -> Tensor:
        return variance_loss(centered)
