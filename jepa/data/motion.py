"""How dots move: a random walk with a mean direction, clipped at the borders (docs/science.md).

Everything is a pure function of tensors. Random numbers enter as uniforms in [0, 1), drawn once for all steps by
``draw_motion``; the rest runs under ``torch.func.vmap`` and never waits for the device.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

IMAGE_SIZE = 28  # H = W, pixels; pixel centres at 0 ... 27
MAX_STEP_PX = 4.0  # lengths of steps ~ U[0, MAX_STEP_PX]
DIRECTION_CONCENTRATION = 0.2  # kappa of the von Mises law of directions around a sequence's mean direction
DOT_NAMES = ("action", "random", "stationary")  # the model is given the first dot's actions; the third never moves
NUM_MOVING_DOTS = 2  # dots of a higher index are stationary

_QUANTILE_TERMS = 12  # the truncated sine series is within 1e-8 rad for kappa = 0.2
_QUADRATURE_POINTS = 256  # the trapezoid rule is exact to rounding for a periodic analytic integrand


def draw_motion(
    generator: torch.Generator, *, num_steps: int, batch_size: int, num_dots: int, device: torch.device | str
) -> Tensor:
    """All uniforms that ``trajectories`` needs, in one draw: [3 + 2(T-1), B, K] in [0, 1), float32.

    Rows: start x, start y, mean direction, then T-1 directions, then T-1 lengths. A stationary dot's last rows go
    unused, so that the layout is the same for every dot.
    """
    rows = 3 + 2 * (num_steps - 1)
    return torch.rand(rows, batch_size, num_dots, generator=generator, device=device)


def trajectories(uniforms: Tensor, *, padding: float) -> tuple[Tensor, Tensor]:
    """Locations [T, B, K, 2] and actions [T-1, B, K, 2], (x, y) in pixels, from the ``uniforms`` of ``draw_motion``.

    ``padding`` (px) is the margin that no dot enters. A stationary dot's actions are zero. Source: docs/science.md.
    """
    num_transitions = (uniforms.shape[0] - 3) // 2
    start = sample_start(uniforms[:2].movedim(0, -1), padding=padding)
    moving = uniforms[2:, :, :NUM_MOVING_DOTS]
    directions, lengths = moving[1 : 1 + num_transitions], moving[1 + num_transitions :]
    actions = sample_actions(moving[0], directions, lengths)
    locations = walk(start[:, :NUM_MOVING_DOTS], actions, padding=padding)
    num_stationary = uniforms.shape[-1] - moving.shape[-1]
    if num_stationary:
        resting = start[:, NUM_MOVING_DOTS:]
        locations = torch.cat((locations, resting.expand(num_transitions + 1, *resting.shape)), dim=-2)
        actions = torch.cat((actions, torch.zeros_like(actions[:, :, :num_stationary])), dim=-2)
    return locations, actions


def sample_start(uniforms: Tensor, *, padding: float) -> Tensor:
    """Start locations [..., 2] (px), uniform in [padding, 27 - padding]^2, from ``uniforms`` [..., 2]."""
    return uniforms * (IMAGE_SIZE - 1 - 2 * padding) + padding


def sample_actions(mean_uniforms: Tensor, direction_uniforms: Tensor, length_uniforms: Tensor) -> Tensor:
    """Actions [T-1, B, K, 2] in px: (x, y) displacements asked for, before clipping.

    ``mean_uniforms`` [B, K] give each sequence's mean direction, ``direction_uniforms`` [T-1, B, K] the steps'
    von Mises deviations from it, ``length_uniforms`` [T-1, B, K] the steps' lengths. Source: docs/science.md.
    """
    directions = 2 * math.pi * mean_uniforms + von_mises_quantile(direction_uniforms)
    lengths = MAX_STEP_PX * length_uniforms
    return torch.stack((lengths * directions.cos(), lengths * directions.sin()), dim=-1)


def walk(start: Tensor, actions: Tensor, *, padding: float) -> Tensor:
    """Locations [T, ..., 2] (px) that ``actions`` [T-1, ..., 2] lead to from ``start`` [..., 2].

    Each step ends with a clip to [padding, 27 - padding], coordinate by coordinate. Source: docs/science.md.
    """
    locations = [start]
    for action in actions.unbind(0):
        locations.append((locations[-1] + action).clamp(padding, IMAGE_SIZE - 1 - padding))
    return torch.stack(locations)


def von_mises_quantile(uniforms: Tensor, concentration: float = DIRECTION_CONCENTRATION) -> Tensor:
    """The angle (rad, mean 0) below which a share ``uniforms`` of the von Mises law lies; shape as given.

    Exact inversion, so that one uniform gives one angle without rejection or a data-dependent branch. The quantile
    is ``v + sum_j b_j sin(j v)`` with ``v = 2 pi u - pi``; the series is summed by Clenshaw's recurrence.
    Meant for the small concentrations of this environment: the error is below 1e-8 rad up to kappa = 0.2.
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
