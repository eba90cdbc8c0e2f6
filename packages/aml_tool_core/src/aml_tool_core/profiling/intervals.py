"""Distribution-free confidence intervals of a percentile, from the binomial law of order statistics.

Of n independent observations, the number below the true q-quantile is binomial(n, q); so the l-th smallest lies above
it with probability P(B < l) and the u-th smallest below it with P(B >= u), whatever the distribution (David &
Nagaraja, Order Statistics, 3rd ed., section 7.1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

CONFIDENCE = 0.95
_WINDOW_SIGMAS = 10.0  # beyond it lies less than 1e-20 of a binomial's mass
_WINDOW_EXTRA = 40  # for the skewed case of a few expected observations


@dataclass(frozen=True)
class RankInterval:
    """Order statistics (1-based ranks) that bracket a quantile; None where the sample is too small for that side."""

    lower: int | None
    upper: int | None


def certified(count: int, quantile: float) -> bool:
    """Tell whether the sample's maximum bounds the quantile from above at 95 %: q^n <= 0.05 (p99: from 299 on)."""
    return count > 0 and count * math.log(quantile) <= math.log(1 - CONFIDENCE)


def needed(quantile: float) -> int:
    """Return the smallest sample that certifies a quantile."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(quantile))


def rank_interval(count: int, quantile: float) -> RankInterval:
    """Return ranks whose observations cover the quantile at least 95 % of the time.

    The 5 % are split evenly; where even the maximum misses more often than 2.5 %, the upper side takes what it needs
    and the lower side the rest, so that a percentile that can be certified always has its upper bound.
    """
    miss = 1 - CONFIDENCE
    if count <= 0:
        return RankInterval(None, None)
    if not certified(count, quantile):
        return RankInterval(_lower_rank(count, quantile, miss), None)
    upper_miss = max(miss / 2, quantile**count)
    return RankInterval(_lower_rank(count, quantile, miss - upper_miss), _upper_rank(count, quantile, upper_miss))


def _lower_rank(count: int, quantile: float, miss: float) -> int | None:
    """Return the largest l with P(B < l) <= miss, None when it is 0."""
    first, masses = _window(count, quantile)
    below, rank = 0.0, first
    for mass in masses:
        if below + mass > miss:
            break
        below += mass
        rank += 1
    return rank if rank >= 1 else None


def _upper_rank(count: int, quantile: float, miss: float) -> int:
    """Return the smallest u <= count with P(B >= u) <= miss; the caller knows that P(B >= count) is."""
    first, masses = _window(count, quantile)
    above, rank = 0.0, first + len(masses)
    for mass in reversed(masses):
        if above + mass > miss * (1 + 1e-9):  # the mass of the maximum alone is allowed, rounding included
            break
        above += mass
        rank -= 1
    return min(rank, count)


def _window(count: int, quantile: float) -> tuple[int, list[float]]:
    """Return the binomial's probabilities around its mode, and the value that the first of them belongs to."""
    mode = min(count, int((count + 1) * quantile))
    reach = math.ceil(_WINDOW_SIGMAS * math.sqrt(count * quantile * (1 - quantile))) + _WINDOW_EXTRA
    first, last = max(0, mode - reach), min(count, mode + reach)
    odds = quantile / (1 - quantile)
    relative = {mode: 1.0}
    for k in range(mode + 1, last + 1):
        relative[k] = relative[k - 1] * odds * (count - k + 1) / k
    for k in range(mode - 1, first - 1, -1):
        relative[k] = relative[k + 1] / odds * (k + 1) / (count - k)
    total = math.fsum(relative.values())
    return first, [relative[k] / total for k in range(first, last + 1)]
