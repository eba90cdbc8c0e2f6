"""The course of a measurement: which loads are run, one after the other.

A course is a generator that yields points and is sent the run at each. A single load, a sweep and a search differ in
nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from aml_tool_core.errors import InputError
from aml_tool_core.profiling import sweep
from aml_tool_core.profiling.intervals import needed
from aml_tool_core.profiling.load import LoadModel
from aml_tool_core.profiling.runs import Point, Purpose, Run
from aml_tool_core.profiling.search import Finding, Probe, Question, Taken, search
from aml_tool_core.profiling.senders import bound_by_senders
from aml_tool_core.profiling.sla import CPU_MAX, latency_demand, stricter
from aml_tool_core.profiling.standing import SUCCEEDED, reading

CONNECTIONS, RATE, CLASS = "connections", "target_rps", "payload_class"
DEFAULT_RATE = 50.0
DEFAULT_RUNS = 12
DEFAULT_PRECISION_PERCENT = 4.0
_LEAST_PROBE_SEC = 10
_CPU_PROBE_SEC = 120  # holds a whole clock minute wherever it begins
_PROBE_SHARE = 4

Course = Generator[Point, Run, Finding | None]


@dataclass(frozen=True)
class Sweep:
    """Every combination of some values, the last axis varying fastest; without axes, one load."""

    base: Point
    objective: str
    axes: Mapping[str, tuple[float | str, ...]] = field(default_factory=dict)

    @property
    def is_several(self) -> bool:
        """Tell whether there is more than the one load that is asked for by plain numbers."""
        return bool(self.axes)

    @property
    def first(self) -> Point:
        """Where it begins."""
        return self.points()[0]

    def points(self) -> list[Point]:
        """Return the points in order."""
        return [self._at(dict(zip(self.axes, values, strict=True))) for values in product(*self.axes.values())]

    def course(self) -> Course:
        """Return the course."""
        for point in self.points():  # noqa: UP028 - a list that is yielded from cannot be sent anything
            yield point
        return None

    def _at(self, values: Mapping[str, Any]) -> Point:
        return Point(
            purpose=Purpose.POINT,
            connections=int(values.get(CONNECTIONS, self.base.connections)),
            duration_sec=self.base.duration_sec,
            target_rps=values.get(RATE, self.base.target_rps),
            payload_class=values.get(CLASS, self.base.payload_class),
        )


@dataclass(frozen=True)
class Search:
    """A search for the largest load that keeps its limits."""

    base: Point
    objective: str
    axis: str  # target_rps in an open loop, connections in a closed one
    limits: Mapping[str, float]
    question: Question
    probe_sec: int

    @property
    def is_several(self) -> bool:
        """A search takes as many runs as it needs."""
        return True

    @property
    def first(self) -> Point:
        """Where it begins."""
        return self._at(self.question.start, full=False)

    def course(self, earlier: Sequence[Point] = ()) -> Course:
        """Return the course; its value is what was found. It begins with the runs that were made earlier."""
        steps, runs = search(self.question), list[Run]()
        made = [point for point in earlier if self._is_allowed(self._load(point))]
        try:
            probe = next(steps)
            while True:
                asked = self._at(probe.load, full=probe.full, last=runs[-1] if runs else None)
                is_made = len(runs) < len(made)
                point = self._as_made(made[len(runs)], asked) if is_made else asked
                run = yield point
                runs.append(run)
                seen = reading(run.load, run.result, run.criteria or (), run.standing)
                if is_made:
                    probe = Probe(self._load(point), full=point.purpose is Purpose.CONFIRMATION)
                    probe = steps.send(Taken(probe, seen, more=len(runs) < len(made)))
                else:
                    probe = steps.send(seen)
        except StopIteration as end:
            found: Finding = end.value
            waited = bound_by_senders(runs, found.load) if self.axis == RATE else None
            return found if waited is None else replace(found, reason=f"{found.reason}; {waited}")

    def _load(self, point: Point) -> float:
        return float(point.connections) if self.axis == CONNECTIONS else float(point.target_rps or 0.0)

    def _is_allowed(self, load: float) -> bool:
        lowest, highest = self.question.lowest, self.question.highest
        return (lowest is None or load >= lowest) and (highest is None or load <= highest)

    def _as_made(self, point: Point, asked: Point) -> Point:
        """Return an earlier run as what it is for now: what is asked for if it is that, else what its length makes it.

        A probe may be as long as a run of full length, and a search that was interrupted is to find it a probe again.
        """
        if replace(point, purpose=asked.purpose) == asked:
            return asked
        is_full = point.duration_sec >= self.base.duration_sec
        return replace(point, purpose=Purpose.CONFIRMATION if is_full else Purpose.PROBE)

    def _at(self, load: float, *, full: bool, last: Run | None = None) -> Point:
        rate = load if self.axis == RATE else _likely_rate(load, last)
        return Point(
            purpose=Purpose.CONFIRMATION if full else Purpose.PROBE,
            connections=self.base.connections if self.axis == RATE else int(load),
            duration_sec=self.base.duration_sec if full else self._probe_sec(rate),
            target_rps=load if self.axis == RATE else None,
            payload_class=self.base.payload_class,
        )

    def _probe_sec(self, rate: float | None) -> int:
        """Return a probe's length: so long that a percentile that is a limit can be certified, where a full run can."""
        if not rate:
            return self.probe_sec
        needed_sec = math.ceil(max(map(_requests_needed, self.limits), default=0) / rate)
        return max(self.probe_sec, min(needed_sec, self.base.duration_sec))


Plan = Sweep | Search


def plan_of(
    config: Mapping[str, Any],
    model: LoadModel,
    connections: int,
    classes: Sequence[str],
    place: Callable[[str], str],
    *,
    concurrency_key: str,
    whole_rates: bool,
) -> Plan:
    """Return what a configuration that has its defaults asks for. Raises InputError where its parts contradict.

    `connections` is their number where the configuration states one or none; `place` names a key in errors.
    """
    rates = config.get(RATE)
    axes: dict[str, tuple[float | str, ...]] = {}
    if not _is_single(config.get(concurrency_key)) and "search" not in config:
        axes[CONNECTIONS] = sweep.values(config[concurrency_key], place(concurrency_key), whole=True)
    if not _is_single(rates) and "search" not in config:
        axes[RATE] = sweep.values(rates, place(RATE), whole=whole_rates)
        broken = [rate for rate in axes[RATE] if whole_rates and rate != int(float(rate))]
        if broken:
            raise InputError(f"{place(RATE)}: {broken[0]:g}: the engine takes whole requests per second only")
    if classes:
        axes[CLASS] = tuple(classes)
    base = Point(
        Purpose.POINT,
        connections=connections,
        duration_sec=int(config["duration_sec"]),
        target_rps=float(rates) if isinstance(rates, int | float) else None,
    )
    if "search" not in config:
        return Sweep(base, str(config.get("objective", SUCCEEDED)), axes)
    if classes:
        raise InputError(
            f"{place('payload_classes')}: a search is for one kind of payload; search each class by itself, with "
            "a payload file of its own"
        )
    return _search(config, model, base, place, concurrency_key=concurrency_key, whole_rates=whole_rates)


def _search(
    config: Mapping[str, Any],
    model: LoadModel,
    base: Point,
    place: Callable[[str], str],
    *,
    concurrency_key: str,
    whole_rates: bool,
) -> Search:
    asked = config["search"]
    limits = stricter(config.get("sla", {}), asked.get("constraints", {}))
    if not limits:
        raise InputError(f"{place('search')}: constraints: missing; give limits here or in sla")
    axis, key = (RATE, RATE) if model is LoadModel.OPEN else (CONNECTIONS, concurrency_key)
    if axis == RATE and not _is_single(config.get(concurrency_key)):
        raise InputError(f"{place(concurrency_key)}: a search varies {RATE} alone; give one number")
    whole = axis == CONNECTIONS or whole_rates
    default = base.connections if axis == CONNECTIONS else DEFAULT_RATE
    start, limited = _start(config.get(key), place(key), default, whole=whole)
    probe_sec = _probe_sec(asked, limits, base.duration_sec, place)
    return Search(
        base=base,
        objective=str(asked.get("objective", SUCCEEDED)),
        axis=axis,
        limits=limits,
        question=Question(
            start=max(1.0, float(round(start))) if whole else start,
            whole=whole,
            max_runs=int(asked.get("max_runs", DEFAULT_RUNS)),
            precision=float(asked.get("precision_percent", DEFAULT_PRECISION_PERCENT)) / 100,
            lowest=None if limited is None else limited.lowest,
            highest=None if limited is None else limited.highest,
        ),
        probe_sec=probe_sec,
    )


def _probe_sec(
    asked: Mapping[str, Any], limits: Mapping[str, float], duration_sec: int, place: Callable[[str], str]
) -> int:
    """Return the length of a probe. Raises InputError where a limit could not be held against it."""
    least = _CPU_PROBE_SEC if CPU_MAX in limits else _LEAST_PROBE_SEC
    found = min(duration_sec, int(asked.get("probe_sec", max(least, duration_sec // _PROBE_SHARE))))
    if CPU_MAX in limits and found < _CPU_PROBE_SEC:
        raise InputError(
            f"{place('search')}: {CPU_MAX} is told by whole clock minutes, and a probe of {found} s need not hold one; "
            f"let probe_sec and duration_sec be at least {_CPU_PROBE_SEC}, or leave that limit out"
        )
    return found


def _start(setting: Any, place: str, default: float, *, whole: bool) -> tuple[float, sweep.Bounds | None]:
    """Return where to begin, and the bounds where the configuration states some."""
    if setting is None:
        return float(default), None
    if _is_single(setting):
        return float(setting), None
    if isinstance(setting, Mapping):
        limited = sweep.bounds(setting, place, whole=whole)
        return math.sqrt(limited.lowest * limited.highest), limited
    raise InputError(f"{place}: a list is for a sweep; for a search give a number to begin with, or from and to")


def _likely_rate(connections: float, last: Run | None) -> float | None:
    """Return the rate that a closed loop will reach at least, by its last run: with fewer connections, so much less."""
    if last is None:
        return None
    return last.result.requests_per_sec * min(1.0, connections / last.load.connections)


def _requests_needed(metric: str) -> int:
    demand = latency_demand(metric)
    return 0 if demand is None or demand.percent is None else needed(demand.percent / 100)


def _is_single(setting: Any) -> bool:
    return setting is None or sweep.is_single(setting)
