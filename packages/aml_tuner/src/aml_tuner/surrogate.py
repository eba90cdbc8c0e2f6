"""What is known of the objective where nothing was measured: laws with unknown constants, and what they leave.

Each law (laws.py) says how the objective depends on the settings but for a constant. What it leaves, since no law is
the whole truth, is a Gaussian process over the settings: a linear trend and a smooth remainder. How probable the
observations make a law, together with a size and a smoothness of what it leaves, is the weight of what it says of other
points (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, ch. 2.7 and 5). One law says that nothing
matters: then the process alone has to tell.

The process's features are the logarithms of a point's counts and of the smaller of each pair, since requests queue for
the scarcer of two resources; what has no order, such as a SKU, is one feature per value.

Some forty observations at most, so plain Python is quick enough, and no numerics library is needed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import mul

from aml_tuner.space import Point, Space

Vector = tuple[float, ...]

_LENGTHS = (0.7, 2.0)  # of the remainder, in units of the features, which each span about one to two
_SHARES = (0.2, 0.8)  # of the remainder in the variance, against the trend
_SIZES = (0.1, 0.3, 1.0)  # standard deviation of what a law leaves; a logarithm, as the objective is
_NOISE = 0.03  # standard deviation of a measurement, likewise
_LEVEL = 3.0  # standard deviation of the constant
_NO_LAW = 0.2  # probability, before anything is measured, that nothing matters but what the process tells
_LEAST_WEIGHT = 1e-3  # of the largest: less is left out
_CATEGORY_SPREAD = 0.7


@dataclass(frozen=True)
class Normal:
    """A normal distribution."""

    mean: float
    deviation: float

    def above(self, value: float) -> float:
        """Return the probability of more than a value."""
        if self.deviation <= 0:
            return float(self.mean > value)
        return 0.5 * math.erfc((value - self.mean) / (self.deviation * math.sqrt(2)))

    def improvement(self, best: float) -> float:
        """Return by how much it is expected to beat a value (Jones et al., 1998)."""
        if self.deviation <= 0:
            return max(self.mean - best, 0.0)
        z = (self.mean - best) / self.deviation
        density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        return self.deviation * (z * 0.5 * math.erfc(-z / math.sqrt(2)) + density)


@dataclass(frozen=True)
class Belief:
    """What is thought of one point: normal distributions, each with its probability."""

    parts: Sequence[tuple[float, Normal]]

    @property
    def mean(self) -> float:
        return math.fsum(weight * one.mean for weight, one in self.parts)

    @property
    def deviation(self) -> float:
        mean = self.mean
        return math.sqrt(math.fsum(weight * (one.deviation**2 + (one.mean - mean) ** 2) for weight, one in self.parts))

    def above(self, value: float) -> float:
        """Return the probability of more than a value."""
        return math.fsum(weight * one.above(value) for weight, one in self.parts)

    def improvement(self, best: float) -> float:
        """Return by how much the point is expected to beat the best so far."""
        return math.fsum(weight * one.improvement(best) for weight, one in self.parts)


def features(space: Space, points: Sequence[Point]) -> dict[Point, Vector]:
    """Return the features of points: each from -1 to 1 over the space."""
    columns: list[dict[Point, float]] = []
    ordered = [index for index, values in enumerate(space.values) if space.is_ordered(index) and len(values) > 1]
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


@dataclass(frozen=True)
class Said:
    """What each law says of the known and of the wanted points."""

    known: Sequence[Sequence[float]]
    wanted: Sequence[Sequence[float]]


def beliefs(known: Sequence[tuple[Vector, float]], wanted: Sequence[Vector], said: Said | None = None) -> list[Belief]:
    """Return what the observations say of other points; `said` is what the laws say of both."""
    views = _views([value for _, value in known], len(wanted), said)
    places = [place for place, _ in known]
    fits = [_fit(places, *parameters) for parameters in itertools.product(_LENGTHS, _SHARES, _SIZES)]
    weighed = [
        (fit.log_likelihood(view.rest) + math.log(view.prior), index, view)
        for index, fit in enumerate(fits)
        for view in views
    ]
    most = max(logarithm for logarithm, _, _ in weighed)
    likely = [
        (weight, index, view)
        for logarithm, index, view in weighed
        if (weight := math.exp(logarithm - most)) > _LEAST_WEIGHT
    ]
    total = math.fsum(weight for weight, _, _ in likely)
    found = []
    for number, place in enumerate(wanted):
        at = [fit.at(place) for fit in fits]
        parts = [
            (weight / total, Normal(view.said[number] + _product(at[index][0], view.rest), at[index][1]))
            for weight, index, view in likely
        ]
        found.append(Belief(parts))
    return found


@dataclass(frozen=True)
class _View:
    """One law: how probable it is before anything is measured, what it leaves, and what it says of other points."""

    prior: float
    rest: Sequence[float]
    said: Sequence[float]


def _views(values: Sequence[float], count: int, said: Said | None) -> list[_View]:
    if said is None or not said.known or not said.known[0]:
        return [_view(1.0, values, [0.0] * len(values), [0.0] * count)]
    of_known, of_wanted = list(zip(*said.known, strict=True)), list(zip(*said.wanted, strict=True))
    prior = (1 - _NO_LAW) / len(of_known)
    laws = [_view(prior, values, known, wanted) for known, wanted in zip(of_known, of_wanted, strict=True)]
    return [_view(_NO_LAW, values, [0.0] * len(values), [0.0] * count), *laws]


def _view(prior: float, values: Sequence[float], known: Sequence[float], wanted: Sequence[float]) -> _View:
    rest = [value - one for value, one in zip(values, known, strict=True)]
    # The constant is as good as known once something is measured.
    level = math.fsum(rest) / len(rest)
    return _View(prior, [one - level for one in rest], [one + level for one in wanted])


def _product(one: Sequence[float], other: Sequence[float]) -> float:
    total: float = sum(map(mul, one, other))  # thousands of these are made for one suggestion
    return total


@dataclass(frozen=True)
class _Fit:
    """A process whose observations stand in these places."""

    places: Sequence[Vector]
    whitening: Sequence[Sequence[float]]  # rows of the inverse of the covariance's Cholesky factor, up to the diagonal
    length: float
    share: float
    size: float

    def log_likelihood(self, values: Sequence[float]) -> float:
        half = [_product(row, values) for row in self.whitening]
        return -0.5 * _product(half, half) + sum(math.log(row[-1]) for row in self.whitening)

    def at(self, place: Vector) -> tuple[list[float], float]:
        """Return the weights of the observations in the mean at a place, and the standard deviation there."""
        across = [_covariance(place, other, self.length, self.share, self.size) for other in self.places]
        half = [_product(row, across) for row in self.whitening]
        variance = _covariance(place, place, self.length, self.share, self.size) - _product(half, half)
        count = len(half)
        weights = [sum(self.whitening[i][j] * half[i] for i in range(j, count)) for j in range(count)]
        return weights, math.sqrt(max(variance, 1e-12))


def _fit(places: Sequence[Vector], length: float, share: float, size: float) -> _Fit:
    covariance = [
        [
            _covariance(one, other, length, share, size) + (_NOISE**2 if i == j else 0.0)
            for j, other in enumerate(places)
        ]
        for i, one in enumerate(places)
    ]
    return _Fit(places, _inverse(_cholesky(covariance)), length, share, size)


def _covariance(one: Vector, other: Vector, length: float, share: float, size: float) -> float:
    squared = sum((a - b) ** 2 for a, b in zip(one, other, strict=True))
    product = _product(one, other) / max(len(one), 1)
    smooth = math.exp(-squared / (2 * length * length * max(len(one), 1) / 3))
    return _LEVEL**2 + size * size * (share * smooth + (1 - share) * product)


def _cholesky(matrix: Sequence[Sequence[float]]) -> list[list[float]]:
    size = len(matrix)
    lower = [[0.0] * size for _ in range(size)]
    for i in range(size):
        for j in range(i + 1):
            rest = matrix[i][j] - math.fsum(lower[i][k] * lower[j][k] for k in range(j))
            lower[i][j] = math.sqrt(max(rest, 1e-10)) if i == j else rest / lower[j][j]
    return lower


def _inverse(lower: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return the inverse of a triangular matrix, each row up to the diagonal."""
    rows: list[list[float]] = []
    for i in range(len(lower)):
        before = [-sum(lower[i][k] * rows[k][j] for k in range(j, i)) / lower[i][i] for j in range(i)]
        rows.append([*before, 1 / lower[i][i]])
    return rows
