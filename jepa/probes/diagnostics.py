"""Numbers that describe a frozen representation without a probe, and what a loss gains from a copy of the overlay.

All functions are pure. Encodings are [T, N, D]: T frames of N sequences.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from jepa.probes.features import to_float64
from jepa.probes.report import Metrics

NUM_SEQUENCES = 256  # sequences that diagnostics are computed from, rounded up to whole batches
SPECTRUM_LENGTH = 20  # components of the covariance spectrum that are reported
COVERED_SHARE = 0.9  # the share of the variance that ``components_90_percent`` counts components for
ROUNDING = 1e-3  # a projected overlay with a smaller standard deviation is a difference of two equal overlays

# Names of the numbers, in the order of ``result.json``. A number that is not defined for a run is left out.
OF_ENCODINGS = ("variance_between_share", "rankme", "components_90_percent")
OF_OVERLAY = ("allocation_ratio",)
OF_LOSSES = ("final_loss", "shuffled_actions_loss")
OF_TRIVIAL = ("trivial_loss", "collapsed_loss")


def variance_between_share(encodings: Tensor) -> float:
    """The share of the encodings' variance that lies between sequences, 0 to 1; NaN if nothing varies.

    The variance (population, summed over D) is that of the sequences' means plus the mean of the variances within
    sequences (law of total variance). It is 1 for encodings that never change within a sequence, and about 1/T for
    frames that are independent.
    """
    z = to_float64(encodings)
    means = z.mean(0)
    between = (means - means.mean(0)).square().mean(0).sum()
    total = (z - means.mean(0)).square().mean((0, 1)).sum()
    return float(between / total)


def rankme(encodings: Tensor) -> float:
    """The effective rank: exp of the entropy of the singular values' shares, 1 to D; NaN for encodings of zeros.

    Source: Garrido et al. 2023, RankMe (arXiv 2210.02885), eq. 1; the matrix [T·N, D] is not centred.
    """
    z = to_float64(encodings).flatten(0, 1)
    values = torch.linalg.eigvalsh(z.mT @ z).clamp(min=0).sqrt()
    shares = values / values.sum()
    return float(torch.special.entr(shares).sum().exp())


def spectrum(encodings: Tensor) -> Tensor:
    """The shares [D] of the principal components in the variance, largest first; NaN if nothing varies."""
    z = to_float64(encodings).flatten(0, 1)
    z = z - z.mean(0)
    values: Tensor = torch.linalg.eigvalsh(z.mT @ z).clamp(min=0).flip(0)
    return values / values.sum()


def components_for(shares: Tensor, covered: float = COVERED_SHARE) -> float:
    """The number of leading components that hold the share ``covered`` of the variance; interpolated, so 0 to D.

    shares: [D], as :func:`spectrum` returns them.
    """
    total = 0.0
    for count, share in enumerate(shares.tolist()):
        if total + share >= covered:
            return float(count + (covered - total) / share)
        total += share
    return math.nan if math.isnan(total) else float(len(shares))


def allocation_ratio(encodings: Tensor, other_overlay: Tensor, other_dots: Tensor) -> float:
    """How far an embedding moves if only the overlay changes, divided by how far it moves if only the dots change.

    Distances are root mean squares over the rows. Each argument is [..., D]: embeddings of frames, of the same dots
    under another overlay, and of other dots under the same overlay. NaN or infinite if the dots move nothing.
    """
    z = to_float64(encodings)
    by_overlay, by_dots = ((to_float64(other) - z).square().sum(-1).mean() for other in (other_overlay, other_dots))
    return float((by_overlay / by_dots).sqrt())


def copies_of(overlay: Tensor, projection: Tensor) -> Tensor:
    """Embeddings [..., T, B, D] that copy the overlay: a random projection of it, each feature with mean 0, variance 1.

    Args:
        overlay: [..., T, B, C, H, W].
        projection: [..., P, D] standard normals, P = C·H·W.

    Mean and variance are those over T and B. A feature that does not vary (ROUNDING) is 0.
    """
    projected = overlay.flatten(-3) @ projection.unsqueeze(-3)
    centred = projected - projected.mean((-3, -2), keepdim=True)
    deviation = centred.square().mean((-3, -2), keepdim=True).sqrt()
    return torch.where(deviation > ROUNDING, centred / deviation.clamp(min=ROUNDING), 0.0)


def best_scale(loss: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """The scale with the smallest ``loss``, on a grid of 0.01 to 100, then on a finer grid around the best point.

    Args:
        loss: maps scales [...] (one for each job) to losses [...]. A loss that is NaN is never the smallest.
        like: a tensor [...] of the type and on the device of scales.
    """
    best = torch.ones_like(like)
    for exponents in (torch.linspace(-2, 2, 9), torch.linspace(-0.4, 0.4, 9)):
        candidates = torch.stack([best * 10.0 ** float(exponent) for exponent in exponents])
        losses = torch.stack([loss(scale) for scale in candidates]).nan_to_num(nan=torch.inf)
        best = candidates.gather(0, losses.argmin(0, keepdim=True)).squeeze(0)
    return best


def of_encodings(encodings: Tensor) -> Metrics:
    """The metrics of one job that need its encodings [T, N, D] alone; those that are not finite are left out."""
    if not bool(encodings.isfinite().all()):
        return {}
    shares = spectrum(encodings)
    values = (variance_between_share(encodings), rankme(encodings), components_for(shares))
    metrics: Metrics = finite(dict(zip(OF_ENCODINGS, values, strict=True)))
    if bool(shares.isfinite().all()):
        metrics["covariance_spectrum"] = shares[:SPECTRUM_LENGTH].tolist()
    return metrics


def finite(values: dict[str, float]) -> Metrics:
    """The entries that are finite numbers."""
    return {name: value for name, value in values.items() if math.isfinite(value)}
