"""Student's t against SciPy; the interval against its textbook formula."""

from __future__ import annotations

import math
import statistics

import pytest

from jepa.results.intervals import central_probability, student_t_quantile, summarize

stats = pytest.importorskip("scipy.stats")


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 8, 15, 30, 99, 1000])
def test_quantile_is_scipys(degrees: int) -> None:
    assert student_t_quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-9)
    assert student_t_quantile(degrees, 0.5) == pytest.approx(stats.t.ppf(0.75, degrees), rel=1e-9)


@pytest.mark.parametrize("degrees", [1, 2, 3, 6, 7, 40])
@pytest.mark.parametrize("t", [0.1, 1.0, 3.0, 12.0])
def test_probability_is_scipys(degrees: int, t: float) -> None:
    assert central_probability(t, degrees) == pytest.approx(2 * stats.t.cdf(t, degrees) - 1, rel=1e-12)


def test_summary() -> None:
    values = [1.0, 2.5, 4.0]
    summary = summarize(values)
    assert summary is not None and summary.n == 3
    assert summary.mean == pytest.approx(2.5)
    expected = stats.t.ppf(0.975, 2) * statistics.stdev(values) / math.sqrt(3)
    assert summary.half_width == pytest.approx(expected, rel=1e-9)


def test_one_number_has_no_interval_and_none_no_mean() -> None:
    assert summarize([4.0]) == (4.0, None, 1)
    assert summarize([]) is None
