"""Histograms agree with the library that decodes them, and with each other."""

from __future__ import annotations

import random
import statistics
from dataclasses import replace

import pytest
from aml_tool_core.profiling.histogram import PERCENTILES, Histogram
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

PAIRS = st.lists(st.tuples(st.integers(1, 3_600_000_000), st.integers(1, 10_000)), min_size=1, max_size=50)


@given(PAIRS)
def test_percentiles_are_those_of_the_decoded_histogram(pairs: list[tuple[int, int]]) -> None:
    histogram = Histogram.of(pairs)
    decoded = HdrHistogram.decode(histogram.encoded())
    assert decoded.get_total_count() == histogram.total
    assert decoded.get_max_value() == histogram.max_us
    for percent in PERCENTILES:
        assert histogram.percentile(percent).value_us == decoded.get_value_at_percentile(percent)


@given(PAIRS)
def test_figures_are_ordered_and_within_a_thousandth_of_the_truth(pairs: list[tuple[int, int]]) -> None:
    histogram = Histogram.of(pairs)
    true_min, true_max = min(value for value, _ in pairs), max(value for value, _ in pairs)
    assert true_min * 0.999 - 1 <= histogram.min_us <= true_min
    assert true_max <= histogram.max_us <= true_max * 1.001 + 1
    values = [histogram.percentile(percent).value_us for percent in PERCENTILES]
    assert [histogram.min_us, *values, histogram.max_us] == sorted([histogram.min_us, *values, histogram.max_us])
    for percent in PERCENTILES:
        percentile = histogram.percentile(percent)
        assert (percentile.lower_us or 0) <= percentile.value_us
        assert percentile.upper_us is None or percentile.value_us <= percentile.upper_us


@given(PAIRS, st.integers(0, 30_000), st.sampled_from([50.0, 99.0, 99.9, 99.99]))
def test_a_percentile_with_larger_ones_is_that_of_a_histogram_that_has_them(
    pairs: list[tuple[int, int]], larger: int, percent: float
) -> None:
    longest = 3_600_000_000
    pairs = [(min(value, longest // 2), count) for value, count in pairs]
    found = Histogram.of(pairs).percentile_with(percent, larger)
    whole = Histogram.of([*pairs, (longest, larger)]).percentile(percent)
    if found is None:
        assert whole.value_us > longest // 2 * 1.5
        return
    has_upper = whole.upper_us is not None and whole.upper_us < longest // 2 * 1.5
    assert found == (whole if has_upper else replace(whole, upper_us=None))


@pytest.mark.parametrize(("percent", "count", "allowed"), [(99.0, 1000, 10), (99.9, 1000, 1), (99.9, 10_000, 10)])
def test_as_many_may_be_larger_as_a_percentile_leaves_out(percent: float, count: int, allowed: int) -> None:
    def found(larger: int) -> object:
        return Histogram.of([(1_000, count - larger)]).percentile_with(percent, larger)

    assert found(allowed) is not None
    assert found(allowed + 1) is None


def test_two_halves_added_are_the_whole() -> None:
    draw = random.Random(7)
    values = [round(draw.lognormvariate(9, 0.5)) for _ in range(10_000)]
    whole = Histogram.of((value, 1) for value in values)
    first, second = (Histogram.of((value, 1) for value in half) for half in (values[:5_000], values[5_000:]))
    added = HdrHistogram.decode(first.encoded())
    added.add(HdrHistogram.decode(second.encoded()))
    for percent in PERCENTILES:
        assert added.get_value_at_percentile(percent) == whole.percentile(percent).value_us


def test_mean_and_deviation_are_exact() -> None:
    values = [1_000, 1_000, 2_003, 9_999]
    histogram = Histogram.of((value, 1) for value in values)
    assert histogram.mean_us == pytest.approx(statistics.fmean(values))
    assert histogram.stdev_us == pytest.approx(statistics.stdev(values))
    assert Histogram.of([(5, 1)]).stdev_us == 0


def test_pairs_are_summed_sorted_and_rid_of_zeros() -> None:
    assert Histogram.of([(7, 1), (3, 2), (7, 4), (5, 0)]).counts == ((3, 2), (7, 5))


def test_a_value_of_zero_microseconds_is_kept() -> None:
    assert Histogram.of([(0, 3)]).percentile(50).value_us == 0


def test_beyond_an_hour_is_an_hour() -> None:
    assert Histogram.of([(7_200_000_000, 1)]).max_us == pytest.approx(3_600_000_000, rel=1e-3)
