"""What noisy runs say together about the largest load that holds: a posterior over it, on a grid.

A run at load x measures a margin m = ln(worst constraint's value / its limit), which is 0 at the largest load that
holds, x*. Near x* latency rises with load as a convex curve; with u = ln(x / x*) it is taken to be

    m(u) = A (exp(B u / A) - 1)

where B is how steeply it rises at x* (1 % more load, B % more latency) and A how far it lies below the limit when there
is little load. Both are unknown and averaged over, between a flat line and a wall, and so is how far the runs' noise is
more than they say; so the answer rests on the margins near the limit and, farther away, on their signs. One run in
twenty may be an outlier and say nothing, and four in five of those in which the load generator itself was held up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

_STEEPNESS = (1.5, 4.0, 10.0, 25.0)
_DEPTHS = (0.1, 0.3, 0.6, 1.5)
_NOISES = (1.0, 2.0)  # times what the runs say of themselves, which cannot know how they differ from one another
_MODEL_ERROR = 0.5  # of the margin that the curve says: it is a model
_OUTLIERS = 0.05
_DOUBTFUL = 0.8  # of the runs in which the load generator was held up itself are outliers
_OUTLYING_SIGNS = 0.01  # so far from the limit that the curve does not count, a run seldom errs
_MARGINS_SPAN = 4.0  # an outlier's margin is anywhere in a range of this size
_FAR = 0.45  # a margin beyond it counts by its sign alone: the curve is for what is near the limit
_EDGE = 0.01  # how sharp a sign is, as a share of the load
_ABOVE_CEILING = 0.1  # how likely a target is to carry more than it did when more was asked of it
_CEILING_EDGE = 0.015
_NEAR_CEILING = 6  # how much likelier x* is near a ceiling than far below: by this power of the load
_CELLS = 96
_REFINEMENTS = 2
_TAIL = 1e-4


@dataclass(frozen=True)
class Evidence:
    """What one run says: the load, whether it held, and by how much where that is known."""

    load: float
    holds: bool
    margin: float | None = None
    noise: float = 0.1  # standard deviation of the margin
    ceiling: float | None = None  # the most that the target carried when more was asked of it
    doubtful: bool = False  # the load generator was held up so long that this may be all that shows


@dataclass(frozen=True)
class Belief:
    """The posterior of ln x* on an even grid between two bounds, beyond which there is nothing."""

    first: float
    step: float
    weights: tuple[float, ...] = field(repr=False)  # of the cells, their sum 1

    @cached_property
    def _cumulative(self) -> tuple[float, ...]:
        return tuple(accumulate(self.weights))

    def quantile(self, share: float) -> float:
        """Return the load below which x* lies with that probability."""
        below = 0.0
        for index, upto in enumerate(self._cumulative):
            if upto >= share:
                inside = (share - below) / max(upto - below, 1e-300)
                return math.exp(self.first + (index + inside) * self.step)
            below = upto
        return math.exp(self.first + len(self.weights) * self.step)

    def above(self, load: float) -> float:
        """Return the probability that x* is above a load."""
        place = (math.log(load) - self.first) / self.step
        index = math.floor(place)
        if index < 0:
            return 1.0
        if index >= len(self.weights):
            return 0.0
        return max(0.0, 1 - self._cumulative[index] + self.weights[index] * (1 - (place - index)))


def belief(evidence: Sequence[Evidence], lowest: float, highest: float) -> Belief:
    """Return what is known of x*, any value between the bounds being as likely as another before (by its logarithm)."""
    first, last = math.log(lowest), math.log(highest)
    found = _on_grid(evidence, first, last)
    for _ in range(_REFINEMENTS):
        low, high = math.log(found.quantile(_TAIL)), math.log(found.quantile(1 - _TAIL))
        room = 2 * found.step
        first, last = max(first, low - room), min(last, high + room)
        found = _on_grid(evidence, first, last)
    return found


def _on_grid(evidence: Sequence[Evidence], first: float, last: float) -> Belief:
    step = (last - first) / _CELLS
    places = [first + (index + 0.5) * step for index in range(_CELLS)]
    signs = [one for one in evidence if _is_far(one)]
    near = [one for one in evidence if not _is_far(one)]
    logs = [math.fsum(_log_of_sign(one, place) for one in signs) for place in places]
    logs = [
        log + math.fsum(_log_of_ceiling(one, place) for one in evidence)
        for log, place in zip(logs, places, strict=True)
    ]
    ceilings = [math.log(one.ceiling) for one in evidence if one.ceiling is not None]
    if ceilings:
        lowest = min(ceilings)
        logs = [log + _NEAR_CEILING * min(place - lowest, 0.0) for log, place in zip(logs, places, strict=True)]
    if near:
        logs = [log + _log_of_margins(near, place) for log, place in zip(logs, places, strict=True)]
    top = max(logs)
    weights = [math.exp(log - top) for log in logs]
    total = math.fsum(weights)
    return Belief(first, step, tuple(weight / total for weight in weights))


def _is_far(one: Evidence) -> bool:
    return one.margin is None or abs(one.margin) > _FAR


def _log_of_sign(one: Evidence, place: float) -> float:
    side = place - math.log(one.load) if one.holds else math.log(one.load) - place
    outliers = _DOUBTFUL if one.doubtful else _OUTLYING_SIGNS
    return math.log(outliers / 2 + (1 - outliers) * _normal_below(side / _EDGE))


def _log_of_ceiling(one: Evidence, place: float) -> float:
    if one.ceiling is None:
        return 0.0
    beyond = place - math.log(one.ceiling)
    below = _normal_below((2 * _CEILING_EDGE - beyond) / _CEILING_EDGE)
    return math.log(_ABOVE_CEILING + (1 - _ABOVE_CEILING) * below)


def _log_of_margins(near: Sequence[Evidence], place: float) -> float:
    """Average the likelihood of the margins over the curves."""
    sums = [
        math.fsum(_log_of_margin(one, place, steepness, depth, noise) for one in near)
        for steepness in _STEEPNESS
        for depth in _DEPTHS
        for noise in _NOISES
    ]
    top = max(sums)
    return top + math.log(math.fsum(math.exp(one - top) for one in sums))


def _log_of_margin(one: Evidence, place: float, steepness: float, depth: float, noise: float) -> float:
    assert one.margin is not None
    expected = depth * math.expm1(min(steepness * (math.log(one.load) - place) / depth, 20.0))
    spread = math.hypot(noise * one.noise, _MODEL_ERROR * expected)
    density = math.exp(-0.5 * ((one.margin - expected) / spread) ** 2) / (spread * math.sqrt(2 * math.pi))
    outliers = _DOUBTFUL if one.doubtful else _OUTLIERS
    return math.log(outliers / _MARGINS_SPAN + (1 - outliers) * density)


def _normal_below(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))
