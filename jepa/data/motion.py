"""The actions of moving dots: steps around a mean direction (docs/science.md).

All functions are pure. Random numbers enter as uniforms in [0, 1), drawn once for all steps. The functions work under
``torch.func.vmap`` and do not wait for the device.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

MAX_STEP_PX = 4.0  # lengths of steps ~ U[0, MAX_STEP_PX]
DIRECTION_CONCENTRATION = 0.2  # kappa of the von Mises distribution of directions around a sequence's mean direction
ACTION_STD = 0.4102 * MAX_STEP_PX + 1e-7  # standard deviation of an action's coordinate, px; the original's constant

_QUANTILE_TERMS = 12  # the truncated sine series is within 1e-8 rad for kappa = 0.2
_QUADRATURE_POINTS = 256  # the trapezoid rule is exact to rounding for a periodic analytic integrand


def sample_actions(mean_uniforms: Tensor, direction_uniforms: Tensor, length_uniforms: Tensor) -> Tensor:
    """Actions from uniform numbers in [0, 1). Source: docs/science.md.

    Args:
        mean_uniforms: [B, K], for the mean direction of each sequence.
        direction_uniforms: [T-1, B, K], for the steps' deviations from the mean direction, by von Mises.
        length_uniforms: [T-1, B, K], for the steps' lengths.

    Returns:
        Displacements (x, y) before clipping, [T-1, B, K, 2], px.
    """
    directions = 2 * math.pi * mean_uniforms + von_mises_quantile(direction_uniforms)
    lengths = MAX_STEP_PX * length_uniforms
    return torch.stack((lengths * directions.cos(), lengths * directions.sin()), dim=-1)


def shortened(actions: Tensor, limit: float) -> Tensor:
    """``actions`` [..., A]; those longer than ``limit`` keep their direction and get this length."""
    lengths = torch.linalg.vector_norm(actions, dim=-1, keepdim=True)
    short: Tensor = actions * (limit / lengths.clamp(min=limit))
    return short


def von_mises_quantile(uniforms: Tensor, concentration: float = DIRECTION_CONCENTRATION) -> Tensor:
    """Quantiles of the von Mises distribution with mean 0, in rad, at ``uniforms``; the shape is kept.

    Inversion turns one uniform number into one angle, without rejection or a data-dependent branch. The quantile is
    ``v + sum_j b_j sin(j v)`` with ``v = 2 pi u - pi``; the series is summed by Clenshaw's recurrence. The error is
    below 1e-8 rad for concentrations up to 0.2, which is what this environment uses.
    """
    base = 2 * math.pi * uniforms - math.pi
    twice_cosine = 2 * base.cos()
    coefficients = _quantile_coefficients(concentration)
    current, previous = torch.full_like(base, coefficients[-1]), torch.zeros_like(base)
    for coefficient in reversed(coefficients[:-1]):
        current, previous = torch.addcmul(coefficient - previous, twice_cosine, current), current
    return torch.addcmul(base, current, base.sin())


@functools.lru_cache(maxsize=16)
def _quantile_coefficients(concentration: float) -> tuple[float, ...]:
    """The sine coefficients b_1, b_2, ... of the quantile function.

    With the distribution function ``v(theta) = theta + sum_k 2 r_k sin(k theta) / k``, r_k = I_k / I_0 (kappa),
    integration by parts gives ``b_j = 1 / (pi j) * integral over a period of cos(j v(theta))``.
    """
    ratios = _bessel_ratios(concentration, num_terms=20)
    angles = [2 * math.pi * point / _QUADRATURE_POINTS for point in range(_QUADRATURE_POINTS)]
    values = [
        angle + sum(2 * ratio * math.sin(k * angle) / k for k, ratio in enumerate(ratios, start=1)) for angle in angles
    ]
    return tuple(
        2 / (j * _QUADRATURE_POINTS) * math.fsum(math.cos(j * value) for value in values)
        for j in range(1, _QUANTILE_TERMS + 1)
    )


def _bessel_ratios(concentration: float, num_terms: int) -> list[float]:
    """I_k / I_0 at ``concentration`` for k = 1 ... num_terms, by the power series of the modified Bessel functions."""

    def bessel(order: int) -> float:
        half = concentration / 2
        return math.fsum(half ** (2 * i + order) / (math.factorial(i) * math.factorial(i + order)) for i in range(30))

    return [bessel(k) / bessel(0) for k in range(1, num_terms + 1)]
