"""The mean and the 95 % confidence interval of a few numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple


class Summary(NamedTuple):
    """The mean of n numbers. half_width: half the 95 % confidence interval by Student's t; None for a single number."""

    mean: float
    half_width: float | None
    n: int


def summarize(values: Sequence[float]) -> Summary | None:
    """The mean of ``values`` and its interval; None for no values."""
    n = len(values)
    if n == 0:
        return None
    mean = math.fsum(values) / n
    if n == 1:
        return Summary(mean, None, 1)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    return Summary(mean, student_t_quantile(n - 1) * deviation / math.sqrt(n), n)


@cache
def student_t_quantile(degrees: int, coverage: float = 0.95) -> float:
    """The t with P(-t < T < t) = ``coverage`` for Student's distribution, to 1e-10.

    degrees: the number of degrees of freedom, a whole number of at least 1.
    """
    low, high = 0.0, 1.0
    while central_probability(high, degrees) < coverage:
        high *= 2
    while high - low > 1e-11 * high:
        middle = (low + high) / 2
        if central_probability(middle, degrees) < coverage:
            low = middle
        else:
            high = middle
    return high


def central_probability(t: float, degrees: int) -> float:
    """P(-t < T < t) for Student's distribution with a whole number of degrees of freedom.

    Source: Abramowitz and Stegun 1964, 26.7.3 and 26.7.4: finite sums in the angle atan(t / sqrt(degrees)).
    """
    angle = math.atan(t / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    if degrees == 1:
        return 2 * angle / math.pi
    term = cosine if odd else 1.0
    total = term
    for k in range(2 + odd, degrees - 1, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
