"""What a queue of known capacity does, computed: the truth that a search is held against.

The server of tests/bench/engines/server answers /queue as `servers` that serve one line in order of arrival, with
exponential service times. Under an even clock that is D/M/c, in a closed loop without thinking time a closed queue.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

_NEVER = 1e-9


@dataclass(frozen=True)
class Queue:
    """A queue: how many are served at a time, and how many of them one server serves per second."""

    servers: int
    rate_per_sec: float

    @property
    def capacity_per_sec(self) -> float:
        """More than that it never serves."""
        return self.servers * self.rate_per_sec


def even_tail(queue: Queue, arrivals_per_sec: float, t_sec: float) -> float:
    """Return P(response time > t) of D/M/c.

    Waiting in GI/M/c: L. Takács, Introduction to the Theory of Queues, 1962, chapter 2. Of those that wait, the wait is
    exponential with rate c mu (1 - omega), where omega = phi(c mu (1 - omega)) and phi is the Laplace transform of the
    interval between arrivals, exp(-s / lambda) for an even clock.
    """
    waits, drain = _waiting(queue, arrivals_per_sec)
    mu = queue.rate_per_sec
    own = math.exp(-mu * t_sec)
    if math.isclose(drain, mu):
        both = (1 + mu * t_sec) * own
    else:
        both = (drain * own - mu * math.exp(-drain * t_sec)) / (drain - mu)
    return (1 - waits) * own + waits * both


@cache
def _waiting(queue: Queue, arrivals_per_sec: float) -> tuple[float, float]:
    """Return the probability to wait, and the rate of the exponential wait."""
    c, mu = queue.servers, queue.rate_per_sec

    def phi(s: float) -> float:
        return math.exp(-s / arrivals_per_sec)

    omega = _fixed_point(lambda value: phi(c * mu * (1 - value)))
    if omega < _NEVER:
        return 0.0, c * mu  # so few arrivals that nobody waits
    total, product = 1 / (1 - omega), 1.0
    for j in range(1, c + 1):
        at_j = phi(j * mu)
        product *= at_j / (1 - at_j)
        total += math.comb(c, j) / (product * (1 - at_j)) * (c * (1 - at_j) - j) / (c * (1 - omega) - j)
    return 1 / total / (1 - omega), c * mu * (1 - omega)


def closed_tail(queue: Queue, connections: int, t_sec: float) -> float:
    """Return P(response time > t) with so many connections, each asking again as soon as it has its answer.

    Who comes back finds the others there: with N > c connections, N - c departures (each exponential with rate c mu)
    let him in, and his own service follows.
    """
    c, mu = queue.servers, queue.rate_per_sec
    ahead = connections - c
    own = math.exp(-mu * t_sec)
    if ahead <= 0:
        return own
    if c == 1:
        return _erlang_tail(ahead + 1, mu, t_sec)
    # The wait is over at x, the service is not at t: the integral of the Erlang density times exp(-mu (t - x)).
    served = own * (c / (c - 1)) ** ahead * (1 - _erlang_tail(ahead, (c - 1) * mu, t_sec))
    return _erlang_tail(ahead, c * mu, t_sec) + served


def percentile_sec(tail: Callable[[float], float], percent: float) -> float:
    """Return a percentile of a distribution by its tail."""
    return _root(lambda t_sec: 1 - percent / 100 - tail(t_sec), 0.0, 1000.0)


def largest_even_rate(queue: Queue, percent: float, limit_sec: float) -> float:
    """Return the largest rate of an even clock at which a percentile keeps its limit."""
    return _root(lambda rate: even_tail(queue, rate, limit_sec) - (1 - percent / 100), 1e-3, queue.capacity_per_sec)


def largest_closed_number(queue: Queue, percent: float, limit_sec: float) -> int:
    """Return the largest number of connections at which a percentile keeps its limit; 0 where not even one does."""
    connections = 0
    while closed_tail(queue, connections + 1, limit_sec) <= 1 - percent / 100:
        connections += 1
    return connections


def _erlang_tail(stages: int, rate: float, t_sec: float) -> float:
    """Return P(the sum of so many exponential times > t): fewer than that many events in t."""
    expected = rate * t_sec
    return math.fsum(
        math.exp(k * math.log(expected) - expected - math.lgamma(k + 1)) if expected else float(k == 0)
        for k in range(stages)
    )


def _fixed_point(function: Callable[[float], float]) -> float:
    """Return the root below 1 of omega = f(omega), f convex with f(1) = 1: what iterating from 0 comes to."""
    value = 0.0
    for _ in range(1_000_000):
        following = function(value)
        if following - value < 1e-15:
            return following
        value = following
    return value


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a rising function crosses 0."""
    for _ in range(200):
        middle = (low + high) / 2
        if function(middle) < 0:
            low = middle
        else:
            high = middle
    return low
