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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import mul

from aml_tuner.space import Point, Space, Value

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


def features(space: Space, points: Iterable[Point]) -> dict[Point, Vector]:
    """Return the features of points: each from -1 to 1 over the space."""
    varied = [index for index, values in enumerate(space.values) if len(values) > 1]
    ordered = [index for index in varied if space.is_ordered(index)]
    # The smaller of two amounts is one of them: one amount alone is the smaller of itself and itself.
    pairs = [(index, index) for index in ordered] + list(itertools.combinations(ordered, 2))
    ranges = [_range(space.values[first], space.values[second]) for first, second in pairs]
    names = [(index, value) for index in varied if index not in ordered for value in space.values[index]]

    def vector(point: Point) -> Vector:
        amounts = (math.log2(min(_number(point[first]), _number(point[second]))) for first, second in pairs)
        scaled = (_scaled(amount, low, high) for amount, (low, high) in zip(amounts, ranges, strict=True))
        return (*scaled, *(_CATEGORY_SPREAD * (1 if point[index] == value else -1) for index, value in names))

    return {point: vector(point) for point in points}


def _range(one: Sequence[Value], other: Sequence[Value]) -> tuple[float, float]:
    """Return the least and the largest of the smaller of two amounts, as logarithms."""
    first, second = [_number(value) for value in one], [_number(value) for value in other]
    return math.log2(min(*first, *second)), math.log2(min(max(first), max(second)))


def _number(value: Value) -> float:
    assert not isinstance(value, str), "only numbers are ordered"
    return float(value)


def _scaled(value: float, low: float, high: float) -> float:
    return 2 * (value - low) / (high - low) - 1 if high > low else 0.0


@dataclass(frozen=True)
class Said:
    """What each law says of the known and of the wanted points."""

    known: Sequence[Sequence[float]]
    wanted: Sequence[Sequence[float]]


def beliefs(known: Sequence[tuple[Vector, float]], wanted: Sequence[Vector], said: Said | None = None) -> list[Belief]:
    """Return what the observations say of other points; `said` is what the laws say of both."""
    views = _views([value for _, value in known], len(wanted), said)
    places = [place for place, _ in known]
    between = [[_relation(one, other) for other in places] for one in places]
    kernels = [_Kernel(*parameters) for parameters in itertools.product(_LENGTHS, _SHARES, _SIZES)]
    fits = [_fit(kernel, between) for kernel in kernels]
    weighed = []
    for index, fit in enumerate(fits):
        for view in views:
            half = fit.whitened(view.rest)
            weighed.append((fit.log_scale - 0.5 * _product(half, half) + math.log(view.prior), index, half, view))
    most = max(logarithm for logarithm, _, _, _ in weighed)
    likely = [
        (weight, index, half, view)
        for logarithm, index, half, view in weighed
        if (weight := math.exp(logarithm - most)) > _LEAST_WEIGHT
    ]
    total = math.fsum(weight for weight, _, _, _ in likely)
    found = []
    for number, place in enumerate(wanted):
        across = [_relation(place, other) for other in places]
        own = _relation(place, place)
        at = [fit.at(own, across) for fit in fits]
        parts = [
            (weight / total, Normal(view.said[number] + _product(at[index][0], half), at[index][1]))
            for weight, index, half, view in likely
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


def _relation(one: Vector, other: Vector) -> tuple[float, float]:
    """Return the mean squared distance of two places and the mean product of their features."""
    count = max(len(one), 1)
    return math.dist(one, other) ** 2 / count, _product(one, other) / count


@dataclass(frozen=True)
class _Kernel:
    """How two places' values go together, by their relation."""

    length: float
    share: float
    size: float

    def covariance(self, relation: tuple[float, float]) -> float:
        squared, product = relation
        smooth = math.exp(-1.5 * squared / self.length**2)
        return _LEVEL**2 + self.size**2 * (self.share * smooth + (1 - self.share) * product)


@dataclass(frozen=True)
class _Fit:
    """A process whose observations stand in certain places."""

    kernel: _Kernel
    whitening: Sequence[Sequence[float]]  # rows of the inverse of the covariance's Cholesky factor, up to the diagonal
    log_scale: float  # of the likelihood

    def whitened(self, values: Sequence[float]) -> list[float]:
        """Return what would be independent, each of variance 1."""
        return [_product(row, values) for row in self.whitening]

    def at(self, own: tuple[float, float], across: Sequence[tuple[float, float]]) -> tuple[list[float], float]:
        """Return a place's whitened covariances with the observations, and the standard deviation there."""
        half = self.whitened([self.kernel.covariance(relation) for relation in across])
        variance = self.kernel.covariance(own) - _product(half, half)
        return half, math.sqrt(max(variance, 1e-12))


def _fit(kernel: _Kernel, between: Sequence[Sequence[tuple[float, float]]]) -> _Fit:
    covariance = [[kernel.covariance(relation) for relation in row] for row in between]
    for index, row in enumerate(covariance):
        row[index] += _NOISE**2
    whitening = _inverse(_cholesky(covariance))
    return _Fit(kernel, whitening, math.fsum(math.log(row[-1]) for row in whitening))


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
