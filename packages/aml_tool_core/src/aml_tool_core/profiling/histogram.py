"""A latency histogram: what an engine counted, in microseconds, and what follows from it."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from hdrh.histogram import HdrHistogram

from aml_tool_core.profiling.intervals import certified, rank_interval

PERCENTILES = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99)
ENCODING = "HdrHistogram V2 compressed, base64"

# One range for every report, so that any two histograms can be added: 1 us to one hour, three significant digits.
_LOWEST_US = 1
_HIGHEST_US = 3_600_000_000
_SIGNIFICANT_DIGITS = 3


def nearest_rank(count: int, percent: float) -> int:
    """Return the rank (from 1) of the observation that HdrHistogram takes for a percentile."""
    return max(1, int(percent / 100 * count + 0.5))


@dataclass(frozen=True)
class Percentile:
    """A percentile with its 95 % interval; a bound that the sample cannot give is None."""

    value_us: int
    lower_us: int | None
    upper_us: int | None
    certified: bool


@dataclass(frozen=True)
class Histogram:
    """Counts by value: (microseconds, how many), ascending, no value twice, no count of 0.

    Mean and standard deviation follow from the counts, unless the engine kept exact ones.
    """

    counts: tuple[tuple[int, int], ...]
    exact_mean_us: float | None = None
    exact_stdev_us: float | None = None

    @staticmethod
    def of(
        pairs: Iterable[tuple[int, int]], *, mean_us: float | None = None, stdev_us: float | None = None
    ) -> Histogram:
        """Return the histogram of (microseconds, count) pairs in any order."""
        summed: dict[int, int] = {}
        for value_us, count in pairs:
            if count:
                summed[value_us] = summed.get(value_us, 0) + count
        return Histogram(tuple(sorted(summed.items())), mean_us, stdev_us)

    @cached_property
    def total(self) -> int:
        """How many observations there are."""
        return sum(count for _, count in self.counts)

    @cached_property
    def mean_us(self) -> float:
        """The mean; there must be an observation."""
        if self.exact_mean_us is not None:
            return self.exact_mean_us
        return sum(value * count for value, count in self.counts) / self.total

    @cached_property
    def stdev_us(self) -> float:
        """The standard deviation; 0 for one observation."""
        if self.exact_stdev_us is not None:
            return self.exact_stdev_us
        if self.total < 2:
            return 0.0
        return math.sqrt(sum(count * (value - self.mean_us) ** 2 for value, count in self.counts) / (self.total - 1))

    @property
    def min_us(self) -> int:
        """The smallest value, at the resolution of the encoded histogram."""
        return int(self._hdr.get_lowest_equivalent_value(self.counts[0][0]))

    @property
    def max_us(self) -> int:
        """The largest value, at the resolution of the encoded histogram: no percentile exceeds it."""
        return self._upper_edges[-1]

    def percentile(self, percent: float) -> Percentile:
        """Return a percentile by HdrHistogram's rule (nearest rank, upper edge of its bucket) with its interval."""
        found = self.percentile_with(percent, 0)
        assert found is not None, "a histogram without observations has no percentile"
        return found

    def percentile_with(self, percent: float, larger: int) -> Percentile | None:
        """Return a percentile of these observations and so many larger ones; None where it is one of the larger."""
        count = self.total + larger
        rank = nearest_rank(count, percent)
        if rank > self.total:
            return None
        ranks = rank_interval(count, percent / 100)
        has_upper = ranks.upper is not None and ranks.upper <= self.total
        return Percentile(
            value_us=self._upper_edges[self._bucket(rank)],
            lower_us=None if ranks.lower is None else self._lower_edges[self._bucket(ranks.lower)],
            upper_us=self._upper_edges[self._bucket(ranks.upper)] if has_upper and ranks.upper is not None else None,
            certified=certified(count, percent / 100),
        )

    def encoded(self) -> str:
        """Return the HdrHistogram V2 compressed encoding, base64."""
        text: bytes = self._hdr.encode()
        return text.decode("ascii")

    @cached_property
    def _hdr(self) -> HdrHistogram:
        hdr = HdrHistogram(_LOWEST_US, _HIGHEST_US, _SIGNIFICANT_DIGITS)
        for value_us, count in self.counts:
            hdr.record_value(min(value_us, _HIGHEST_US), count)
        return hdr

    @cached_property
    def _buckets(self) -> tuple[tuple[int, int], ...]:
        buckets: dict[int, int] = {}
        for value_us, count in self.counts:
            edge = int(self._hdr.get_lowest_equivalent_value(min(value_us, _HIGHEST_US)))
            buckets[edge] = buckets.get(edge, 0) + count
        return tuple(buckets.items())

    @cached_property
    def _lower_edges(self) -> tuple[int, ...]:
        return tuple(edge for edge, _ in self._buckets)

    @cached_property
    def _upper_edges(self) -> tuple[int, ...]:
        return tuple(int(self._hdr.get_highest_equivalent_value(edge)) for edge, _ in self._buckets)

    @cached_property
    def _cumulative(self) -> tuple[int, ...]:
        return tuple(accumulate(count for _, count in self._buckets))

    def _bucket(self, rank: int) -> int:
        return bisect_left(self._cumulative, rank)
