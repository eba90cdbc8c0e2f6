"""How a deployment's throughput may depend on its settings: simulated, seeded, of several shapes."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping

Surface = Callable[[float, float, float], float]  # workers, requests at a time, threads: good answers per second


def amdahl(seed: int) -> Surface:
    """Threads by Amdahl's law, requests at the scarcer of workers and places, all of it on so many cores."""
    source = random.Random(f"amdahl {seed}")
    cores, parallel = source.choice([1, 2, 4, 8]), source.uniform(0.2, 0.95)
    service_sec, per_thread, crowding = (
        math.pow(10, source.uniform(-3, -1)),
        source.uniform(0, 0.15),
        source.uniform(0, 0.3),
    )

    def rate(workers: float, places: float, threads: float) -> float:
        overhead = 1 + per_thread * (threads - 1)
        one_sec = service_sec * ((1 - parallel) + parallel / min(threads, cores)) * overhead
        by_requests = min(workers, places) / one_sec
        by_cores = cores / (service_sec * overhead)
        both = math.pow(math.pow(by_requests, -3) + math.pow(by_cores, -3), -1 / 3)
        crowd = min(workers, places) * threads / cores
        return both / (1 + crowding * math.log2(crowd)) if crowd > 1 else both

    return rate


def queue(seed: int) -> Surface:
    """The largest rate that keeps a p99: more servers use a larger share of what they could do, long queues less."""
    source = random.Random(f"queue {seed}")
    most, limit = amdahl(seed + 1000), source.uniform(2, 20)

    def rate(workers: float, places: float, threads: float) -> float:
        share = max(0.05, 1 - 1 / (limit * math.pow(min(workers, places), 0.7)))
        return most(workers, places, threads) * share / (1 + 0.08 * max(0.0, math.log2(places / workers)))

    return rate


def sweet_spot(seed: int) -> Surface:
    """One number of requests at a time is right; fewer starve the server, more crowd it."""
    source = random.Random(f"sweet spot {seed}")
    most, cost, right = amdahl(seed + 2000), source.uniform(0.05, 0.3), source.choice([1, 2, 4, 8])
    return lambda workers, places, threads: most(workers, places, threads) / (1 + cost * abs(math.log2(places / right)))


def ridge(seed: int) -> Surface:
    """Workers times threads should be the number of cores: no setting is right by itself."""
    source = random.Random(f"ridge {seed}")
    cores, steepness = source.choice([2, 4, 8]), source.uniform(0.1, 0.6)
    return lambda workers, places, threads: (
        100 * math.exp(-steepness * math.log2(workers * threads / cores) ** 2) * min(1.0, places / workers) ** 0.5
    )


def flat(seed: int) -> Surface:
    """A model so small that nothing matters but the workers."""
    source = random.Random(f"flat {seed}")
    gain = source.uniform(0, 0.5)
    return lambda workers, places, threads: 1000 * (1 + gain * math.log2(workers))


SHAPES: Mapping[str, Callable[[int], Surface]] = {
    "amdahl": amdahl,
    "queue": queue,
    "sweet_spot": sweet_spot,
    "ridge": ridge,
    "flat": flat,
}
