"""A queue of known capacity as a load generator sees it, simulated: many searches in the time that one takes.

`python tests/bench/search/simulated.py` prints how far the answers of many searches lie from the computed truth
(queues.py). Nothing is measured but the search itself: no server, no load generator, no clock.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from heapq import heapreplace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
from aml_tool_core.profiling import (
    Errors,
    Generator,
    Histogram,
    Load,
    LoadModel,
    Result,
    Schedule,
    Second,
    SendSchedule,
)
from aml_tool_core.profiling import sla as slas
from aml_tool_core.profiling.deployment import Usage
from aml_tool_core.profiling.search import Finding, Probe, Question, Reading, search
from aml_tool_core.profiling.standing import SUCCEEDED, reading, stand

from tests.bench.search.queues import Queue, largest_closed_number, largest_even_rate

PERCENT = 99
_WARMUP_SEC = 1.0
_TIMEOUT_SEC = 3.0
_CLIENTS = 256


@dataclass(frozen=True)
class Setting:
    """A queue, the limit of its p99, the lengths of the runs and where the search begins."""

    queue: Queue
    limit_ms: float
    question: Question
    probe_sec: float = 12.0
    full_sec: float = 36.0

    @property
    def truth(self) -> float:
        """The largest rate that holds, or the largest number of connections."""
        limit_sec = self.limit_ms / 1000
        found = largest_closed_number if self.question.whole else largest_even_rate
        return found(self.queue, PERCENT, limit_sec)

    def is_right(self, load: float) -> bool:
        """Tell whether an answer is as near as a search is to come."""
        return abs(load - self.truth) <= (1 if self.question.whole else 0.03 * self.truth)


OPEN = Question(start=50.0, whole=False, max_runs=12, precision=0.04)
CLOSED = Question(start=1.0, whole=True, max_runs=12, precision=0.04)
SETTINGS = {
    "8 servers of 200/s, p99 up to 40 ms": Setting(Queue(8, 200.0), 40.0, OPEN),
    "16 servers of 200/s, p99 up to 30 ms": Setting(Queue(16, 200.0), 30.0, OPEN),
    "4 servers of 500/s, p99 up to 15 ms": Setting(Queue(4, 500.0), 15.0, OPEN),
    "32 servers of 50/s, p99 up to 100 ms": Setting(Queue(32, 50.0), 100.0, OPEN),
    "2 servers of 200/s, closed, p99 up to 42 ms": Setting(Queue(2, 200.0), 42.0, CLOSED),
}


@dataclass(frozen=True)
class Searched:
    """What a search found, and the runs that it took."""

    finding: Finding
    probes: tuple[Probe, ...]
    readings: tuple[Reading, ...]


def searched(setting: Setting, seed: int, spoil: Callable[[int, Result], Result] | None = None) -> Searched:
    """Run a search against the simulated queue; `spoil` changes what the run of a number shows."""
    draw = random.Random(seed)
    steps = search(setting.question)
    probes, readings = [next(steps)], list[Reading]()
    try:
        while True:
            load, result = measured(setting, probes[-1], draw)
            if spoil is not None:
                result = spoil(len(probes), result)
            criteria = slas.judge({f"latency_ms_{PERCENT}": setting.limit_ms}, result, Usage(None, ()))
            readings.append(reading(load, result, criteria, stand(load, result, criteria, SUCCEEDED)))
            probes.append(steps.send(readings[-1]))
    except StopIteration as end:
        return Searched(end.value, tuple(probes), tuple(readings))


def measured(setting: Setting, probe: Probe, draw: random.Random) -> tuple[Load, Result]:
    """Return what a run shows: response times of a queue that was empty before the warm-up."""
    duration_sec = setting.full_sec if probe.full else setting.probe_sec
    if setting.question.whole:
        load = Load(LoadModel.CLOSED, round(duration_sec), int(probe.load), 1, 10.0)
        return load, _closed(setting.queue, load, duration_sec, draw)
    load = Load(LoadModel.OPEN, round(duration_sec), _CLIENTS, 1, _TIMEOUT_SEC, probe.load, schedule=SendSchedule.CLOCK)
    return load, _open(setting.queue, probe.load, duration_sec, draw)


def _open(queue: Queue, rate: float, duration_sec: float, draw: random.Random) -> Result:
    free = [-_WARMUP_SEC] * queue.servers
    uniform, log, mean_sec = draw.random, math.log, 1 / queue.rate_per_sec
    room_sec = (_CLIENTS - queue.servers) / queue.capacity_per_sec  # who waits longer found every client busy
    answers: list[tuple[float, float]] = []
    late = timeouts = 0
    for index in range(round((_WARMUP_SEC + duration_sec) * rate)):
        due = index / rate - _WARMUP_SEC
        start = max(due, free[0])
        end = start - log(1 - uniform()) * mean_sec
        heapreplace(free, end)
        if due < 0:
            continue
        late += start - due > room_sec
        if end - due > _TIMEOUT_SEC:
            timeouts += 1
        else:
            answers.append((end, end - due))
    planned = len(answers) + timeouts
    in_time = [one for one in answers if one[0] < duration_sec + 0.1]
    schedule = Schedule(100 * (1 - late / max(planned, 1)), late, 0, late_busy=late, own_delay_ms_99=0.05)
    return _result(in_time, duration_sec, timeouts, planned, schedule)


def _closed(queue: Queue, load: Load, duration_sec: float, draw: random.Random) -> Result:
    mean_sec = 1 / queue.rate_per_sec
    free = [-_WARMUP_SEC] * queue.servers
    back = [-_WARMUP_SEC] * load.connections  # when each connection asks again
    answers = []
    while back[0] < duration_sec:
        start = max(back[0], free[0])
        end = start + draw.expovariate(1) * mean_sec
        heapreplace(free, end)
        asked = heapreplace(back, end)
        if 0 <= end < duration_sec:
            answers.append((end, end - asked))
    return _result(answers, duration_sec, 0, None, None)


def _result(
    answers: Sequence[tuple[float, float]],
    duration_sec: float,
    timeouts: int,
    planned: int | None,
    schedule: Schedule | None,
) -> Result:
    by_second: dict[int, list[int]] = {}
    for end, took in answers:
        by_second.setdefault(int(end), []).append(max(1, round(took * 1e6)))
    latency = Histogram.of(Counter(took for second in by_second.values() for took in second).items())
    timeline = []
    for t_sec in range(int(duration_sec)):
        second = sorted(by_second.get(t_sec, ()))
        worst = second[min(len(second) - 1, int(0.99 * len(second)))] if second else None
        timeline.append(Second(t_sec, len(second), 0, None, worst))
    count = len(answers)
    return Result(
        duration_sec=duration_sec,
        sent=count + timeouts,
        completed=count,
        succeeded=count,
        errors=Errors(timeout=timeouts, status={}),
        bytes_read=None,
        bytes_written=None,
        latency=latency,
        service_time=None,
        planned=planned,
        schedule=schedule,
        timeline=tuple(timeline),
        generator=Generator(0.5, 10.0, 0.0),
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Run the searches and print how far their answers are off."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=20, help="of each setting")
    parser.add_argument("--seed", type=int, default=1, help="of the first search")
    parser.add_argument("--only", help="the settings whose names begin so")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--probe-sec", type=float)
    parser.add_argument("--full-sec", type=float)
    given = parser.parse_args(argv)
    print("| queue | truth | within | confirmed | interval holds | worst | spread | runs | seconds of load |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, setting in SETTINGS.items():
        if given.only is not None and not name.startswith(given.only):
            continue
        _report(name, _with(setting, given), given)


def _with(setting: Setting, given: argparse.Namespace) -> Setting:
    probe_sec, full_sec = given.probe_sec or setting.probe_sec, given.full_sec or setting.full_sec
    return Setting(setting.queue, setting.limit_ms, setting.question, probe_sec, full_sec)


def _report(name: str, setting: Setting, given: argparse.Namespace) -> None:
    truth = setting.truth
    seeds = range(given.seed, given.seed + given.searches)
    with ProcessPoolExecutor(given.processes) as pool:
        found = list(pool.map(searched, [setting] * len(seeds), seeds))
    loads = [one.finding.load or 0.0 for one in found]
    off = [load - truth if setting.question.whole else 100 * (load / truth - 1) for load in loads]
    unit = "" if setting.question.whole else " %"
    right = sum(setting.is_right(load) for load in loads)
    bounds = [one.finding.interval for one in found]
    holds = sum(low is not None and high is not None and low <= truth <= high for low, high in bounds)
    runs = [len(one.probes) for one in found]
    seconds = [sum(setting.full_sec if one.full else setting.probe_sec for one in each.probes) for each in found]
    print(
        f"| {name} | {truth:.6g} | {right} of {len(found)} | {sum(one.finding.confirmed for one in found)} | {holds} "
        f"| {min(off):+.2f} to {max(off):+.2f}{unit} | {math.sqrt(math.fsum(x * x for x in off) / len(off)):.2f}{unit} "
        f"| {min(runs)} to {max(runs)} | {sum(seconds) / len(seconds):.0f}, at most {max(seconds):.0f} |",
        flush=True,
    )
    wrong = [seed for seed, load in zip(seeds, loads, strict=True) if not setting.is_right(load)]
    if wrong:
        print(f"  not within: seeds {', '.join(map(str, wrong))}")


if __name__ == "__main__":
    main()
