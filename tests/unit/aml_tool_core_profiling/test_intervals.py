"""The intervals cover what they claim to cover."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from aml_tool_core.profiling.histogram import Histogram
from aml_tool_core.profiling.intervals import certified, needed, rank_interval


def exact_coverage(count: int, quantile: float) -> float:
    """Return P(lower <= B < upper) for B binomial, by its definition."""
    ranks = rank_interval(count, quantile)
    first = ranks.lower or 0
    last = count if ranks.upper is None else ranks.upper - 1
    return math.fsum(math.comb(count, k) * quantile**k * (1 - quantile) ** (count - k) for k in range(first, last + 1))


@pytest.mark.parametrize("quantile", [0.5, 0.75, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("count", [1, 2, 5, 6, 30, 59, 298, 299, 300, 368, 369, 600, 900])
def test_exact_coverage_is_at_least_95_percent_and_not_wasteful(count: int, quantile: float) -> None:
    coverage = exact_coverage(count, quantile)
    assert coverage >= 0.95 - 1e-12
    if count >= 600 and quantile <= 0.95:
        assert coverage < 0.965


@pytest.mark.parametrize(("percent", "enough"), [(99.0, 299), (99.9, 2_995), (99.99, 29_956)])
def test_certified_from_the_stated_number_of_requests_on(percent: float, enough: int) -> None:
    assert not certified(enough - 1, percent / 100)
    assert certified(enough, percent / 100)
    assert rank_interval(enough - 1, percent / 100).upper is None
    assert rank_interval(enough, percent / 100).upper == enough
    assert not certified(0, percent / 100)
    assert needed(percent / 100) == enough


def test_without_observations_there_is_no_bound() -> None:
    assert rank_interval(0, 0.5).lower is None
    assert rank_interval(0, 0.5).upper is None


def test_a_hundred_million_observations_give_a_narrow_interval() -> None:
    ranks = rank_interval(100_000_000, 0.99)
    assert ranks.lower is not None and ranks.upper is not None
    half_width = 1.96 * math.sqrt(1e8 * 0.99 * 0.01)
    assert ranks.lower == pytest.approx(99e6 - half_width, abs=5)
    assert ranks.upper == pytest.approx(99e6 + half_width, abs=5)


DISTRIBUTIONS: dict[str, tuple[Callable[[random.Random], float], Callable[[float], float]]] = {
    # name: (draw one value in milliseconds, its quantile function)
    "exponential": (lambda draw: draw.expovariate(1 / 20), lambda q: -20 * math.log(1 - q)),
    "pareto": (lambda draw: 5 * draw.paretovariate(1.5), lambda q: 5 * (1 - q) ** (-1 / 1.5)),
    "uniform": (lambda draw: draw.uniform(10, 30), lambda q: 10 + 20 * q),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_intervals_of_histograms_cover_the_true_percentile(name: str) -> None:
    draw_one, true_ms = DISTRIBUTIONS[name]
    draw = random.Random(20260331)
    runs, size = 2_000, 400
    covered = dict.fromkeys((50.0, 90.0, 95.0, 99.0), 0)
    for _ in range(runs):
        histogram = Histogram.of((round(1000 * draw_one(draw)), 1) for _ in range(size))
        for percent in covered:
            percentile = histogram.percentile(percent)
            assert percentile.lower_us is not None and percentile.upper_us is not None
            covered[percent] += percentile.lower_us <= 1000 * true_ms(percent / 100) <= percentile.upper_us
    # The exact coverage is tested above; here it is estimated, with an error of its own.
    standard_error = math.sqrt(0.95 * 0.05 / runs)
    for percent, times in covered.items():
        assert times / runs >= 0.95 - 2 * standard_error, f"p{percent:g}: {times / runs:.1%}"
    assert sum(covered.values()) / runs / len(covered) >= 0.95
