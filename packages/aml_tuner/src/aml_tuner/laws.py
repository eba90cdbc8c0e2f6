"""How throughput may depend on a deployment's settings before anything is measured: laws with unknown constants.

Three laws are combined. Work within one request is spread over threads by Amdahl's law, and each further thread costs
CPU time by itself, since ONNX Runtime's threads wait for one another by turning. Requests queue for the scarcest of
three resources: the places to be let in, the processes that serve them, the cores; the least of the three rates is the
most that there can be, and a little less is had where two of them are about as scarce (Denning and Buzen's bounds of
closed queueing networks, 1978). More that can run than there are cores costs turns.

The constants differ by model, server and machine, so they are drawn from wide ranges; each set of them is one law. What
is measured then says which of the laws to believe (surrogate.py).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from aml_tuner.space import Point, Space

Law = Callable[[Mapping[str, float]], float]

WORKERS = "worker_count"
PLACES = "max_concurrent_requests_per_instance"
THREADS = "intra_op_num_threads"
INSTANCES = "instance_count"

_COUNT = 600
_SEED = 1
_SHARPNESS = 3.0  # of the least of the rates
_FIXED = {WORKERS: (1, 2, 4), PLACES: (1, 4, 16, 64), THREADS: (1, 2, 4), INSTANCES: (1,)}  # where it is not varied


@dataclass(frozen=True)
class Laws:
    """Laws that may hold in a space."""

    space: Space
    _drawn: tuple[Law, ...]
    _known: dict[Point, tuple[float, ...]] = field(default_factory=dict, compare=False)

    def at(self, point: Point) -> tuple[float, ...]:
        """Return what each law gives for the logarithm of the throughput there, but for a constant."""
        if point not in self._known:
            numbers = {
                name: float(value)
                for name, value in zip(self.space.names, point, strict=True)
                if name in _FIXED and not isinstance(value, str)
            }
            self._known[point] = tuple(law(numbers) for law in self._drawn)
        return self._known[point]


@lru_cache(maxsize=8)
def laws(space: Space) -> Laws:
    """Return the laws for a space, the same ones each time; where they say nothing of its settings, none."""
    source = random.Random(_SEED)
    speaks = any(len(values) > 1 for name, values in zip(space.names, space.values, strict=True) if name in _FIXED)
    return Laws(space, tuple(_law(source) for _ in range(_COUNT)) if speaks else ())


def _law(source: random.Random) -> Law:
    """Draw a law; times are in units of a request's work with one thread."""
    cores = source.choice((1, 2, 4, 8, 16))
    connections = math.pow(2, source.uniform(0, 6))
    parallel = source.uniform(0, 0.95)
    per_thread = math.pow(10, source.uniform(-2, 0))
    waiting = math.pow(10, source.uniform(-2, 0.3))  # of a worker that has a request, without using a core
    outside = math.pow(10, source.uniform(-1.5, 0.7))  # from one worker's answer to the next request in its place
    uneven = source.uniform(0, 0.6)  # of the workers without a request where there is a place for each
    turns = source.uniform(0, 0.5)
    crowding = source.uniform(0, 0.1)
    by_instances = source.uniform(0, 1)
    steepness = source.uniform(0.7, 1.3)  # an objective may weigh more than the throughput
    fixed = {name: float(source.choice(values)) for name, values in _FIXED.items()}

    def logarithm(numbers: Mapping[str, float]) -> float:
        at = {**fixed, **numbers}
        workers, threads = at[WORKERS], at[THREADS]
        let_in = min(at[PLACES], max(1.0, connections / at[INSTANCES]))
        work = 1 + per_thread * (threads - 1)
        held = work * (1 - parallel + parallel / min(threads, cores)) + waiting
        busy = min(workers, let_in) * (1 - math.pow(uneven, max(1.0, let_in / workers)))
        rates = (busy / held, let_in / (held + outside), cores / work)
        least = math.pow(math.fsum(math.pow(rate, -_SHARPNESS) for rate in rates), -1 / _SHARPNESS)
        running = max(1.0, min(workers, let_in) * threads / cores)
        least /= 1 + turns * math.log2(running)
        least /= 1 + crowding * max(0.0, math.log2(at[PLACES] / workers))
        return steepness * math.log(least) + by_instances * math.log(at[INSTANCES])

    return logarithm
