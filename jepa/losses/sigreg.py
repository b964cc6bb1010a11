"""SIGReg: each time step's embeddings are to be a standard normal cloud, seen from random directions."""

from __future__ import annotations

import torch
from torch import Tensor

from jepa.errors import check_count
from jepa.losses.base import Embeddings, Sizes, Term, check_space, full_precision

NUM_KNOTS, LARGEST_KNOT = 17, 3.0


def sigreg_loss(features: Tensor, directions: Tensor) -> Tensor:
    """Epps-Pulley statistic of random projections: B times the squared distance of characteristic functions.

    For a projection x_b of the B embeddings of a time step it is B·sum_k w_k·[(mean_b cos(x_b τ_k) - e^{-τ_k²/2})²
    + (mean_b sin(x_b τ_k))²] with 17 knots τ_k on [0, 3]. The weights w_k are those of the trapezoid rule on [-3, 3],
    whose halves are alike, times e^{-τ_k²/2}. Mean over time steps and projections.

    Args:
        features: [T, B, F].
        directions: unit vectors [F, M].

    Returns:
        [].

    Source: Balestriero and LeCun 2025 (arXiv 2511.08544); per time step as in LeWorldModel (arXiv 2603.19312).
    """
    knots = torch.linspace(0, LARGEST_KNOT, NUM_KNOTS, dtype=features.dtype, device=features.device)
    normal = (-knots.square() / 2).exp()
    spacing = torch.full_like(knots, 2 * LARGEST_KNOT / (NUM_KNOTS - 1))
    ends = torch.ones_like(knots)
    ends[0] = ends[-1] = 0.5
    angles = (features @ directions).unsqueeze(-1) * knots  # [T, B, M, knots]
    distance = (angles.cos().mean(dim=-3) - normal).square() + angles.sin().mean(dim=-3).square()  # [T, M, knots]
    return features.shape[-2] * (distance @ (spacing * ends * normal)).mean()


class SIGReg(Term):
    """``sigreg_loss`` along directions that are drawn anew for each batch, from the run's own stream of random numbers.

    Args:
        coeff: as for :class:`Term`.
        space: the features to use: "embedding" or "projection".
        num_projections: number M of directions.
    """

    smallest_batch = 2

    def __init__(self, *, coeff: float | None, space: str, num_projections: int) -> None:
        super().__init__(coeff=coeff)
        self.space = check_space(space)
        self.num_projections = check_count("num_projections", num_projections, maximum=10**5)

    def build(self, sizes: Sizes) -> None:
        self.num_features = sizes.projection_size if self.space == "projection" else sizes.embedding_size
        self.num_normals = self.num_features * self.num_projections

    def forward(self, embeddings: Embeddings) -> Tensor:
        assert embeddings.normals is not None, "SIGReg needs normals"
        directions = embeddings.normals[: self.num_normals].view(self.num_features, self.num_projections)
        directions = directions / directions.norm(dim=0)
        with torch.autocast(embeddings.encodings.device.type, enabled=False):
            return sigreg_loss(full_precision(embeddings.features(self.space)), directions)
