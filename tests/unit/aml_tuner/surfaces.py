"""How a deployment's throughput may depend on its settings: simulated, seeded, of several shapes, and as measured."""

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


def contended(seed: int) -> Surface:
    """Threads that wait for one another by turning: each further one costs, the more so beyond the cores."""
    source = random.Random(f"contended {seed}")
    cores, gain, cost, crowding = (
        source.choice([2, 4]),
        source.uniform(0.2, 0.9),
        source.uniform(0.2, 1.1),
        source.uniform(0, 0.25),
    )
    return lambda workers, places, threads: (
        1000
        * math.pow(min(workers, places, 2 * cores), gain)
        / math.pow(threads, cost)
        / (1 + crowding * max(0.0, math.log2(workers * threads / cores)))
    )


SHAPES: Mapping[str, Callable[[int], Surface]] = {
    "amdahl": amdahl,
    "queue": queue,
    "sweet_spot": sweet_spot,
    "ridge": ridge,
    "flat": flat,
    "contended": contended,
}

# The examples on the local control plane: two cores, nothing else at work, Standard_F2s_v2, four connections, 6 s each
# (tests/bench/tuning). By workers and requests at a time: good answers per second with 1, 2 and 4 threads. With one
# request at a time, 96 % and more of the answers were 429; with two and 4 threads, many of minilm's too.
_DIGITS = {
    (1, 1): (733.6, 411.6, 245.8),
    (1, 2): (790.9, 461.8, 355.8),
    (1, 4): (847.5, 896.7, 384.5),
    (1, 8): (896.7, 864.6, 429.7),
    (2, 1): (668.2, 336.8, 203.5),
    (2, 2): (1068.2, 442.3, 323.8),
    (2, 4): (1263.8, 713.9, 398.4),
    (2, 8): (1240.2, 674.4, 395.0),
    (4, 1): (552.7, 263.6, 184.1),
    (4, 2): (773.5, 283.4, 258.9),
    (4, 4): (1469.8, 658.9, 429.6),
    (4, 8): (1354.6, 603.4, 427.7),
}
# The same with other work beside it.
_DIGITS_DISTURBED = {
    (1, 1): (700.0, 329.9, 265.3),
    (1, 2): (782.8, 449.6, 326.5),
    (1, 4): (928.7, 825.2, 330.6),
    (1, 8): (773.9, 847.1, 373.4),
    (2, 1): (667.0, 326.1, 176.5),
    (2, 2): (979.8, 484.9, 275.5),
    (2, 4): (1269.0, 705.2, 348.4),
    (2, 8): (1244.1, 640.8, 353.3),
    (4, 1): (425.7, 202.4, 117.0),
    (4, 2): (652.5, 232.2, 204.8),
    (4, 4): (1310.2, 499.6, 339.2),
    (4, 8): (1149.5, 548.2, 301.9),
}
_MINILM = {
    (1, 1): (159.0, 100.7, 39.0),
    (1, 2): (195.7, 168.1, 67.3),
    (1, 4): (142.7, 190.5, 72.9),
    (1, 8): (154.9, 211.8, 83.0),
    (2, 1): (121.8, 57.9, 26.3),
    (2, 2): (229.0, 117.7, 65.9),
    (2, 4): (267.2, 160.8, 73.6),
    (2, 8): (275.2, 135.3, 61.4),
    (4, 1): (118.6, 43.3, 21.1),
    (4, 2): (202.4, 100.5, 44.2),
    (4, 4): (284.7, 124.6, 72.1),
    (4, 8): (274.6, 140.4, 68.4),
}


def _measured(table: Mapping[tuple[int, int], tuple[float, float, float]]) -> Surface:
    return lambda workers, places, threads: table[int(workers), int(places)][{1: 0, 2: 1, 4: 2}[int(threads)]]


MEASURED: Mapping[str, Surface] = {"digits": _measured(_DIGITS), "minilm": _measured(_MINILM)}
DISTURBED = _measured(_DIGITS_DISTURBED)
