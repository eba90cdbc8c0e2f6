"""Predict a device from measurements elsewhere: a straight line through a few pairs, and how far to trust it.

Least squares and its prediction interval: N. Draper, H. Smith, Applied Regression Analysis, 3rd ed., sections 1.2, 1.4
and 3.1. The interval holds if the pairs scatter about one line with one normal error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

FEWEST_FOR_ERROR = 3


@dataclass(frozen=True)
class Pair:
    """One model, measured locally and on the device, in one unit or in two."""

    model: str
    local: float
    device: float


@dataclass(frozen=True)
class Line:
    """device = intercept + slope x local."""

    intercept: float
    slope: float
    pairs: int
    local_mean: float
    # The sum of the squared distances from the mean.
    local_spread: float
    # None with two pairs: the line goes through both, so nothing shows how far others lie from it.
    residual_deviation: float | None
    # The share of the device's variance that the line explains; None where there is no variance.
    r_squared: float | None

    def at(self, local: float) -> float:
        """Return the device's value on the line."""
        return self.intercept + self.slope * local


@dataclass(frozen=True)
class Prediction:
    """A device's value, and the interval that a further measurement falls into; None where it cannot be told."""

    value: float
    low: float | None
    high: float | None


def fit(pairs: Sequence[Pair]) -> Line:
    """Return the line of least squares. Raises ValueError with fewer than two local values that differ."""
    if len(pairs) < 2:
        raise ValueError(f"a line needs two pairs, there {'is 1' if len(pairs) == 1 else 'is none'}")
    local_mean = sum(pair.local for pair in pairs) / len(pairs)
    device_mean = sum(pair.device for pair in pairs) / len(pairs)
    spread = sum((pair.local - local_mean) ** 2 for pair in pairs)
    if spread == 0:
        raise ValueError("all local values are the same, so there is no line through them")
    slope = sum((pair.local - local_mean) * (pair.device - device_mean) for pair in pairs) / spread
    intercept = device_mean - slope * local_mean
    squares = sum((pair.device - intercept - slope * pair.local) ** 2 for pair in pairs)
    total = sum((pair.device - device_mean) ** 2 for pair in pairs)
    deviation = math.sqrt(squares / (len(pairs) - 2)) if len(pairs) >= FEWEST_FOR_ERROR else None
    return Line(intercept, slope, len(pairs), local_mean, spread, deviation, 1 - squares / total if total > 0 else None)


def predict(line: Line, local: float, confidence: float) -> Prediction:
    """Return what the device is expected to show for a model that it has not run."""
    value = line.at(local)
    if line.residual_deviation is None:
        return Prediction(value, None, None)
    relative = math.sqrt(1 + 1 / line.pairs + (local - line.local_mean) ** 2 / line.local_spread)
    reach = student_quantile(confidence, line.pairs - 2) * line.residual_deviation * relative
    return Prediction(value, value - reach, value + reach)


def left_out(pairs: Sequence[Pair]) -> list[tuple[Pair, float]]:
    """Return, for each pair, what the line through all the others predicts for it; needs three pairs."""
    others = [[other for other in pairs if other is not pair] for pair in pairs]
    return [
        (pair, fit(rest).at(pair.local))
        for pair, rest in zip(pairs, others, strict=True)
        if len({other.local for other in rest}) > 1
    ]


@dataclass(frozen=True)
class Ranks:
    """How well the order is kept: pairs of models by whether both places order them alike."""

    alike: int
    opposite: int
    # Neither: both places cannot tell them apart, or one cannot.
    tied: int
    # Kendall's tau-b (M. Kendall, Biometrika 33 (1945), 239-251); None where one side is all the same.
    tau: float | None


def ranks(pairs: Sequence[Pair]) -> Ranks:
    """Compare the models' order locally with that on the device."""
    alike = opposite = tied = local_only = device_only = 0
    for one, other in combinations(pairs, 2):
        local, device = _sign(one.local - other.local), _sign(one.device - other.device)
        alike += local * device > 0
        opposite += local * device < 0
        tied += local * device == 0
        local_only += local != 0
        device_only += device != 0
    scale = math.sqrt(local_only * device_only)
    return Ranks(alike, opposite, tied, (alike - opposite) / scale if scale else None)


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def student_quantile(confidence: float, freedom: int) -> float:
    """Return t with P(|T| <= t) = confidence, for Student's T with whole degrees of freedom."""
    high = 1.0
    while _within(high, freedom) < confidence:
        high *= 2
    low = 0.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < confidence else (low, middle)
    return high


def _within(t: float, freedom: int) -> float:
    """Return P(|T| <= t) (Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine, sine = math.cos(angle), math.sin(angle)
    odd = freedom % 2 == 1
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for power in range(1 if odd else 0, freedom - 1, 2):
        total += term
        term *= cosine * cosine * (power + 1) / (power + 2)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
