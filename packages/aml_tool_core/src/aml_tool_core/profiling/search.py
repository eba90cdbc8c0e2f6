"""Search for the largest load that holds: bracket it, narrow it down with noisy runs, confirm it at full length.

`search` is a generator: it yields the load that is to be run next and is sent what the run showed. It knows no clock,
no target and no load generator.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, field
from enum import Enum

from aml_tool_core.profiling.belief import Belief, Evidence, belief

_STRIDE = 4.0  # a load this many times the largest known one is the boldest that is tried, and likewise downwards
_SAFE_SHARE = 0.2  # how probable it is that what is to be confirmed does not hold, by what is known
_SURE = 0.95
_INTERVAL = (0.025, 0.975)
_CONFIRMATIONS = 3
_STARVED_TWICE = 2
_BACK_OFF = 0.75  # of a load that the load generator could not send
_REACH = 1e4  # bounds that nobody stated: this many times less and more than the start
_DIGITS = 4


class Stop(Enum):
    """Why a search ended."""

    NARROW = "narrow"
    BUDGET = "budget"
    BOUND = "bound"
    INFEASIBLE = "infeasible"
    GENERATOR = "generator"


@dataclass(frozen=True)
class Question:
    """What is searched: the bounds of the load, whether it is counted in whole numbers, and the means."""

    start: float
    whole: bool
    max_runs: int
    precision: float  # a share: how wide the answer's interval may be
    lowest: float | None = None
    highest: float | None = None


@dataclass(frozen=True)
class Probe:
    """A load to be run, for its full length or a shorter one."""

    load: float
    full: bool


@dataclass(frozen=True)
class Reading:
    """What a run showed: whether the load holds (None: it says nothing about the target), and `Evidence`'s figures."""

    holds: bool | None
    margin: float | None = None
    noise: float = 0.1
    ceiling: float | None = None


@dataclass(frozen=True)
class Finding:
    """The answer, None where there is none; runs are known by their index."""

    load: float | None
    run: int | None
    confirmed: bool
    interval: tuple[float | None, float | None]
    stop: Stop
    reason: str


@dataclass
class _State:
    question: Question
    lowest: float
    highest: float
    probes: list[tuple[Probe, Reading]] = field(default_factory=list)
    starved: int = 0  # in a row
    generator_limits: bool = False

    @property
    def left(self) -> int:
        return self.question.max_runs - len(self.probes)

    @property
    def evidence(self) -> list[Evidence]:
        return [
            Evidence(probe.load, reading.holds, reading.margin, reading.noise, reading.ceiling)
            for probe, reading in self.probes
            if reading.holds is not None
        ]

    def held(self, *, full: bool | None = None) -> list[int]:
        """Return the runs that held, of full length or not, by their index."""
        return [
            index
            for index, (probe, reading) in enumerate(self.probes)
            if reading.holds and (full is None or probe.full is full)
        ]

    def loads(self, holds: bool) -> list[float]:
        return [probe.load for probe, reading in self.probes if reading.holds is holds]

    def rounded(self, load: float) -> float:
        """Return a load that can be run: a whole number where it must be, else a few digits, downwards."""
        kept = min(max(load, self.lowest), self.highest)
        if self.question.whole:
            return float(math.floor(kept * (1 + 1e-9)))
        unit = 10.0 ** (math.floor(math.log10(kept)) + 1 - _DIGITS)
        return min(max(math.floor(kept / unit + 1e-6) * unit, self.lowest), self.highest)


def search(question: Question) -> Generator[Probe, Reading, Finding]:
    """Yield the loads to run, take what they showed, and return what was found."""
    state = _State(question, *_bounds(question))
    known: Belief | None = None
    probe = Probe(state.rounded(question.start), full=False)
    while True:
        reading = yield probe
        state.probes.append((probe, reading))
        stop = _starvation(state, probe, reading)
        if stop is None and state.evidence:
            known = _belief(state)
            stop = _stop(state, known)
        if stop is not None or state.left == 0:
            return _finding(state, known, stop or Stop.BUDGET)
        probe = _next(state, known, probe)
        if state.left == 1:
            probe = Probe(probe.load, full=True)  # the last one can still confirm


def _bounds(question: Question) -> tuple[float, float]:
    smallest = 1.0 if question.whole else question.start / _REACH
    return question.lowest or smallest, question.highest or question.start * _REACH


def _belief(state: _State) -> Belief:
    # Beyond both bounds there is room for "not even the smallest" and "more than the largest".
    return belief(state.evidence, state.lowest / 2, state.highest * 2)


def _starvation(state: _State, probe: Probe, reading: Reading) -> Stop | None:
    """A starved load generator says nothing about the target; twice in a row, it is asked for less."""
    state.starved = state.starved + 1 if reading.holds is None else 0
    if state.starved < _STARVED_TWICE:
        return None
    state.starved = 0
    state.generator_limits = True
    if probe.load <= _least(state):
        return Stop.GENERATOR
    state.highest = max(probe.load * _BACK_OFF, state.lowest, *state.loads(holds=True))
    return None


def _stop(state: _State, known: Belief) -> Stop | None:
    """Tell whether the search is over; a confirmed answer that leaves too little to gain ends it."""
    confirmed = max((state.probes[index][0].load for index in state.held(full=True)), default=None)
    if confirmed is not None and confirmed >= state.highest * (1 - 1e-9):
        return Stop.GENERATOR if state.generator_limits else Stop.BOUND
    lowest_failed = any(load <= _least(state) for load in state.loads(holds=False))
    if lowest_failed and not state.held() and 1 - known.above(_least(state)) >= _SURE:
        return Stop.INFEASIBLE
    return Stop.NARROW if confirmed is not None and not _worth_more(state, known, confirmed) else None


def _least(state: _State) -> float:
    return state.rounded(state.lowest) * (1 + 1e-9)


def _worth_more(state: _State, known: Belief, confirmed: float) -> bool:
    """Tell whether a confirmed load is likely to lie farther below the largest than its interval is to reach."""
    return known.quantile(0.5) > _beyond(state, confirmed, state.question.precision / 2)


def _beyond(state: _State, load: float, share: float) -> float:
    """Return the load up to which another is as good as this: a share more, or the next whole number."""
    further = load * (1 + share)
    return max(further, load + 1) if state.question.whole else further


def _next(state: _State, known: Belief | None, last: Probe) -> Probe:
    if known is None or state.starved:
        return Probe(state.rounded(last.load), last.full)  # again
    best_full = max((state.probes[index][0].load for index in state.held(full=True)), default=None)
    if _is_narrow(state, known) or state.left <= _reserve(state.question):
        safe = state.rounded(max(known.quantile(_SAFE_SHARE), best_full or 0.0))
        if best_full is None or safe > best_full:
            return Probe(_in_reach(state, safe), full=True)
    return Probe(_in_reach(state, known.quantile(0.5)), full=False)


def _reserve(question: Question) -> int:
    """Return how many runs are kept for confirmations: the first may fail, and a failed one says where the next is."""
    return min(_CONFIRMATIONS, max(1, question.max_runs // 4))


def _is_narrow(state: _State, known: Belief) -> bool:
    if not state.loads(holds=True) and known.above(_least(state)) < _SURE:
        return False  # whether anything holds comes first
    low, high = (known.quantile(share) for share in _INTERVAL)
    if low > state.highest * (1 - state.question.precision):
        return True
    return high <= _beyond(state, low, state.question.precision)


def _in_reach(state: _State, load: float) -> float:
    """Keep a load from leaping far beyond what was tried."""
    tried = [probe.load for probe, reading in state.probes if reading.holds is not None]
    return state.rounded(min(max(load, min(tried) / _STRIDE), max(tried) * _STRIDE))


def _finding(state: _State, known: Belief | None, stop: Stop) -> Finding:
    confirmed, short = state.held(full=True), state.held()
    held = confirmed or short
    best = max(held, key=lambda index: state.probes[index][0].load, default=None)
    load = None if best is None else state.probes[best][0].load
    interval = (None, None) if known is None else _interval(state, known)
    return Finding(load, best, bool(confirmed), interval, stop, _reason(state, stop, load, bool(confirmed), interval))


def _interval(state: _State, known: Belief) -> tuple[float | None, float | None]:
    low, high = (known.quantile(share) for share in _INTERVAL)
    if state.question.whole:
        low, high = math.floor(low), math.floor(high)
    return (low if state.loads(holds=True) else None), (high if state.loads(holds=False) else None)


def _reason(
    state: _State, stop: Stop, load: float | None, confirmed: bool, interval: tuple[float | None, float | None]
) -> str:
    runs = f"{len(state.probes)} run{'s' if len(state.probes) > 1 else ''}"
    said = {
        Stop.NARROW: f"narrow enough after {runs}",
        Stop.BUDGET: f"the budget of {state.question.max_runs} runs is spent",
        Stop.BOUND: f"the largest load that is allowed, {state.highest:g}, holds",
        Stop.INFEASIBLE: f"not even {state.rounded(state.lowest):g} holds",
        Stop.GENERATOR: f"the load generator ran out of CPU above {state.highest:g}",
    }[stop]
    if load is None:
        return f"{said}; no load was found that holds"
    return said if confirmed else f"{said} before a run of full length could confirm {load:g}"
