"""What is known of the objective where nothing was measured: a Gaussian process over features that follow the physics.

How fast a deployment is follows two laws. Work within one request is spread over threads by Amdahl's law, so that
figures change with the logarithm of a count, ever more slowly. Requests queue for the scarcer of two resources (the
requests that are let in, the processes that serve them), so that the smaller of two counts decides. Therefore a point's
features are the logarithms of its counts and of the smaller of each pair; what has no order, such as a SKU, is one
feature per value. The process has a linear trend in them and a smooth remainder; how smooth, how large and how noisy is
what makes the observations most likely (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, ch. 5).

Some forty observations at most, so plain Python is quick enough, and no numerics library is needed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aml_tuner.space import Point, Space, is_ordered

Vector = tuple[float, ...]

_LENGTHS = (0.7, 1.5, 3.0)  # of the remainder, in units of the features, which each span about one to two
_SHARES = (0.1, 0.5, 0.9)  # of the remainder in the variance, against the trend
_NOISES = (0.01, 0.05)  # variance of the noise, against the rest
_CATEGORY_SPREAD = 0.7


@dataclass(frozen=True)
class Belief:
    """What is thought of one point: normal, with this mean and standard deviation."""

    mean: float
    deviation: float

    def above(self, value: float) -> float:
        """Return the probability of more than a value."""
        if self.deviation <= 0:
            return float(self.mean > value)
        return 0.5 * math.erfc((value - self.mean) / (self.deviation * math.sqrt(2)))

    def improvement(self, best: float) -> float:
        """Return by how much the point is expected to beat the best so far (Jones et al., 1998)."""
        if self.deviation <= 0:
            return max(self.mean - best, 0.0)
        z = (self.mean - best) / self.deviation
        density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        return self.deviation * (z * 0.5 * math.erfc(-z / math.sqrt(2)) + density)


def features(space: Space, points: Sequence[Point]) -> dict[Point, Vector]:
    """Return the features of points: each from -1 to 1 over the space."""
    columns: list[dict[Point, float]] = []
    ordered = [index for index, values in enumerate(space.values) if is_ordered(values) and len(values) > 1]
    for index in ordered:
        columns.append({point: math.log2(_number(point, index)) for point in points})
    for first, second in itertools.combinations(ordered, 2):
        columns.append({point: math.log2(min(_number(point, first), _number(point, second))) for point in points})
    scaled = [_scaled(column) for column in columns]
    for index, values in enumerate(space.values):
        if index not in ordered and len(values) > 1:
            scaled += [
                {point: _CATEGORY_SPREAD if point[index] == value else -_CATEGORY_SPREAD for point in points}
                for value in values
            ]
    return {point: tuple(column[point] for column in scaled) for point in points}


def _number(point: Point, index: int) -> float:
    value = point[index]
    assert not isinstance(value, str), "only numbers are ordered"
    return float(value)


def _scaled(column: Mapping[Point, float]) -> dict[Point, float]:
    low, high = min(column.values()), max(column.values())
    half = (high - low) / 2
    return {point: (value - low) / half - 1 if half else 0.0 for point, value in column.items()}


def beliefs(known: Sequence[tuple[Vector, float]], wanted: Sequence[Vector]) -> list[Belief]:
    """Return what the observations say of other points."""
    values = [value for _, value in known]
    mean = math.fsum(values) / len(values)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values)) or 1.0
    places = [place for place, _ in known]
    targets = [(value - mean) / spread for value in values]
    fits = [_fit(places, targets, *parameters) for parameters in itertools.product(_LENGTHS, _SHARES, _NOISES)]
    # Few observations do not single one of them out: they are averaged by how likely each makes what was seen.
    most = max(fit.log_likelihood for fit in fits)
    weights = [math.exp(fit.log_likelihood - most) for fit in fits]
    total = math.fsum(weights)
    found = []
    for place in wanted:
        guesses = [fit.at(place) for fit in fits]
        average = math.fsum(w * guess.mean for w, guess in zip(weights, guesses, strict=True)) / total
        second = math.fsum(w * (guess.deviation**2 + guess.mean**2) for w, guess in zip(weights, guesses, strict=True))
        deviation = math.sqrt(max(second / total - average**2, 1e-12))
        found.append(Belief(mean + spread * average, spread * deviation))
    return found


@dataclass(frozen=True)
class _Fit:
    """A process that has seen the observations."""

    places: Sequence[Vector]
    lower: Sequence[Sequence[float]]  # Cholesky factor of the covariance of the observations
    weights: Sequence[float]  # inverse covariance times the observations
    length: float
    share: float
    log_likelihood: float

    def at(self, place: Vector) -> Belief:
        across = [_covariance(place, other, self.length, self.share) for other in self.places]
        mean = math.fsum(a * w for a, w in zip(across, self.weights, strict=True))
        solved = _forward(self.lower, across)
        variance = _covariance(place, place, self.length, self.share) - math.fsum(one * one for one in solved)
        return Belief(mean, math.sqrt(max(variance, 1e-12)))


def _fit(places: Sequence[Vector], targets: Sequence[float], length: float, share: float, noise: float) -> _Fit:
    covariance = [
        [_covariance(one, other, length, share) + (noise if i == j else 0.0) for j, other in enumerate(places)]
        for i, one in enumerate(places)
    ]
    lower = _cholesky(covariance)
    half = _forward(lower, targets)
    weights = _backward(lower, half)
    log_likelihood = -0.5 * math.fsum(one * one for one in half) - math.fsum(
        math.log(lower[i][i]) for i in range(len(lower))
    )
    return _Fit(places, lower, weights, length, share, log_likelihood)


def _covariance(one: Vector, other: Vector, length: float, share: float) -> float:
    squared = math.fsum((a - b) ** 2 for a, b in zip(one, other, strict=True))
    product = math.fsum(a * b for a, b in zip(one, other, strict=True)) / max(len(one), 1)
    return share * math.exp(-squared / (2 * length * length * max(len(one), 1) / 3)) + (1 - share) * (0.3 + product)


def _cholesky(matrix: Sequence[Sequence[float]]) -> list[list[float]]:
    size = len(matrix)
    lower = [[0.0] * size for _ in range(size)]
    for i in range(size):
        for j in range(i + 1):
            rest = matrix[i][j] - math.fsum(lower[i][k] * lower[j][k] for k in range(j))
            lower[i][j] = math.sqrt(max(rest, 1e-10)) if i == j else rest / lower[j][j]
    return lower


def _forward(lower: Sequence[Sequence[float]], right: Sequence[float]) -> list[float]:
    solved: list[float] = []
    for i, value in enumerate(right):
        solved.append((value - math.fsum(lower[i][k] * solved[k] for k in range(i))) / lower[i][i])
    return solved


def _backward(lower: Sequence[Sequence[float]], right: Sequence[float]) -> list[float]:
    size = len(right)
    solved = [0.0] * size
    for i in reversed(range(size)):
        solved[i] = (right[i] - math.fsum(lower[k][i] * solved[k] for k in range(i + 1, size))) / lower[i][i]
    return solved
