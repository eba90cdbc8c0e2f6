"""Search for the largest load that holds: bracket it, narrow it down with noisy runs, confirm it at full length.

`search` is a generator: it yields the load that is to be run next and is sent what the run showed, or what another run
did that was made before. It knows no clock, no target and no load generator.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from aml_tool_core.profiling.belief import Belief, Evidence, belief

_STRIDE = 4.0  # a load this many times the largest known one is the boldest that is tried, and likewise downwards
_SAFE_SHARE = 0.22  # how probable it is that what is to be confirmed does not hold, by what is known
_SAFEST_SHARE = 0.12  # of the last run, which is to leave a confirmed answer
_SECURED = 0.25  # so much more than has held, the last run leaves: what is confirmed is worth more than that
_DOUBTED = 0.1  # less probable than this, a load that held once does not
_SURE = 0.95
_INTERVAL = (0.025, 0.975)
_NEAR = 0.1  # so narrow an interval, as a share of the load, is worth runs of full length, which may confirm it too
_NEARLY = (0.05, 0.95)
_GAIN = 0.25  # of the precision: what is less above a confirmed load is not worth another confirmation
_CLEAR = 2.0  # standard deviations beyond its limit: no chance
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
    doubtful: bool = False


@dataclass(frozen=True)
class Taken:
    """A run that was not asked for, as it was made before, and what it showed; `more` of them may follow."""

    probe: Probe
    reading: Reading
    more: bool


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
    allowed: float = 0.0  # `highest`, before the load generator bounded it
    starved: int = 0  # in a row
    tried_again: bool = False  # beyond what the load generator could not send

    @property
    def left(self) -> int:
        return self.question.max_runs - len(self.probes)

    @property
    def evidence(self) -> list[Evidence]:
        return [
            Evidence(probe.load, reading.holds, reading.margin, reading.noise, reading.ceiling, reading.doubtful)
            for probe, reading in self.probes
            if reading.holds is not None
        ]

    @property
    def generator_limits(self) -> bool:
        return self.highest < self.allowed

    def held(self, *, full: bool | None = None) -> list[int]:
        """Return the runs that held, of full length or not, by their index."""
        return [
            index
            for index, (probe, reading) in enumerate(self.probes)
            if reading.holds and (full is None or probe.full is full)
        ]

    def loads(self, holds: bool) -> list[float]:
        return [probe.load for probe, reading in self.probes if reading.holds is holds]

    def confirmed(self, known: Belief | None) -> int | None:
        """Return the run of full length whose load is the largest that held, unless the others make that a chance."""
        return self.largest(known, self.held(full=True))

    def largest(self, known: Belief | None, held: Sequence[int]) -> int | None:
        """Return the run whose load is the largest, of those that held, unless the others make that a chance."""
        credible = [index for index in held if known and known.above(self.probes[index][0].load) >= _DOUBTED]
        return max(credible, key=lambda index: self.probes[index][0].load, default=None)

    def failed_for_sure(self) -> list[float]:
        """Return the loads that failed clearly, or twice, and never held."""
        failed = [(probe.load, reading) for probe, reading in self.probes if reading.holds is False]
        loads = [load for load, _ in failed]
        clear = {load for load, one in failed if self._is_clear(one) or loads.count(load) > 1}
        return [load for load in clear if load > max(self.loads(holds=True), default=0.0)]

    def _is_clear(self, reading: Reading) -> bool:
        if reading.margin is None:
            return self.question.whole
        return not reading.doubtful and reading.margin > _CLEAR * reading.noise

    def rounded(self, load: float) -> float:
        """Return a load that can be run: a whole number where it must be, else a few digits, downwards."""
        if self.question.whole:
            first, last = math.ceil(self.lowest), math.floor(self.highest * (1 + 1e-9))
            return float(min(max(math.floor(load * (1 + 1e-9)), first), last))
        if not self.lowest < load < self.highest:
            return self.highest if load >= self.highest else self.lowest
        unit = 10.0 ** (math.floor(math.log10(load)) + 1 - _DIGITS)
        return min(max(math.floor(load / unit + 1e-6) * unit, self.lowest), self.highest)


def search(question: Question) -> Generator[Probe, Reading | Taken, Finding]:
    """Yield the loads to run, take what they showed, and return what was found: not before all that was made is taken.

    What is taken counts as if it had been asked for, so that a search goes on as if it had never been interrupted.
    """
    state = _state(question)
    known: Belief | None = None
    probe = Probe(state.rounded(question.start), full=False)
    while True:
        shown = yield probe
        taken = shown if isinstance(shown, Taken) else Taken(probe, shown, more=False)
        state.probes.append((taken.probe, taken.reading))
        if taken.reading.holds is not None:
            state.highest = max(state.highest, taken.probe.load)  # it was sent, so the generator does not bound it
        stop = _starvation(state, taken.probe, taken.reading)
        if stop is None and state.evidence:
            known = _belief(state)
            stop = _stop(state, known)
        if not taken.more and (stop is not None or state.left <= 0):
            return _finding(state, known, stop or Stop.BUDGET)
        probe = _next(state, known, taken.probe)
        if state.left == 1:
            probe = Probe(probe.load, full=True)  # the last one can still confirm


def _state(question: Question) -> _State:
    smallest = 1.0 if question.whole else question.start / _REACH
    highest = question.highest or question.start * _REACH
    return _State(question, question.lowest or smallest, highest, allowed=highest)


def _belief(state: _State) -> Belief:
    # Beyond both bounds there is room for "not even the smallest" and "more than the largest".
    return belief(state.evidence, state.lowest / 2, state.highest * 2)


def _starvation(state: _State, probe: Probe, reading: Reading) -> Stop | None:
    """A starved load generator says nothing about the target; twice in a row, it is asked for less.

    Unless it has sent as much before: then it was the machine's other work, and not the load, that starved it.
    """
    state.starved = state.starved + 1 if reading.holds is None else 0
    if state.starved < _STARVED_TWICE:
        return None
    sent = max((one.load for one, seen in state.probes if seen.holds is not None), default=0.0)
    if sent >= probe.load:
        return None
    state.starved = 0
    if probe.load <= _least(state):
        return Stop.GENERATOR
    state.highest = max(probe.load * _BACK_OFF, state.lowest, sent)
    return None


def _stop(state: _State, known: Belief) -> Stop | None:
    """Tell whether the search is over: it has a confirmed answer whose interval is narrow, or none is to be had."""
    confirmed = _confirmed_load(state, known)
    if confirmed is not None and confirmed >= state.rounded(state.highest) * (1 - 1e-9):
        if not state.generator_limits:
            return Stop.BOUND
        if state.tried_again:
            return Stop.GENERATOR
        state.tried_again, state.highest = True, state.allowed  # it may have been the machine's other work
        return None
    lowest_failed = any(load <= _least(state) for load in state.loads(holds=False))
    if lowest_failed and not state.held() and 1 - known.above(_least(state)) >= _SURE:
        return Stop.INFEASIBLE
    return Stop.NARROW if confirmed is not None and _is_narrow(state, known, confirmed) else None


def _confirmed_load(state: _State, known: Belief) -> float | None:
    index = state.confirmed(known)
    return None if index is None else state.probes[index][0].load


def _least(state: _State) -> float:
    return state.rounded(state.lowest) * (1 + 1e-9)


def _is_narrow(state: _State, known: Belief, confirmed: float) -> bool:
    """Tell whether the interval of a confirmed answer is as narrow as was asked for; of whole numbers, one wide."""
    if state.question.whole and known.above(confirmed + 1) <= 1 - _SURE:
        return True
    low, high = _interval(state, known, confirmed)
    if low is None or high is None or high - low > _tolerance(state, confirmed):
        return False
    return state.question.whole or not _gains(state, state.rounded(known.quantile(_SAFE_SHARE)), confirmed)


def _gains(state: _State, load: float, confirmed: float | None) -> bool:
    return load > (confirmed or 0.0) * (1 + _GAIN * state.question.precision)


def _tolerance(state: _State, load: float) -> float:
    wide = load * state.question.precision
    return max(wide, 1.0) if state.question.whole else wide


def _next(state: _State, known: Belief | None, last: Probe) -> Probe:
    if state.left == 1 and state.confirmed(known) is None and _is_open(state):
        # How far beyond what has held it goes would be a guess, and the last run is not for guessing.
        return Probe(max(state.loads(holds=True)), full=True)
    if known is None or state.starved:
        return Probe(state.rounded(last.load), last.full)  # again
    confirmed = _confirmed_load(state, known)
    is_near, is_late = _is_near(state, known), state.left <= _reserve(state.question)
    safe_share = _SAFEST_SHARE if confirmed is None and state.left == 1 else _SAFE_SHARE
    safe, middle = (_in_reach(state, known.quantile(share)) for share in (safe_share, 0.5))
    if confirmed is None and state.left == 1:
        safe = _secured(state, known, safe)
    if state.question.whole:
        return Probe(safe, full=True) if is_late and confirmed is None else _next_whole(state, known, middle, confirmed)
    if (is_near or is_late) and _gains(state, safe, confirmed):
        return Probe(safe, full=True)
    return Probe(middle, full=is_near)


def _secured(state: _State, known: Belief, safe: float) -> float:
    """Return what the last run is for: what has held, where a load that nothing has shown to hold is little more.

    Where it is much more, the answer would be too coarse, and the load is one that holds seven times in eight; so it is
    also where there were runs for other confirmations, which have shown how far beyond what has held it may go.
    """
    if _reserve(state.question) > 1:
        return safe
    index = state.largest(known, state.held())
    held = 0.0 if index is None else state.probes[index][0].load
    return held if held < safe <= held * (1 + _SECURED) else safe


def _is_open(state: _State) -> bool:
    """Tell whether all that was tried holds: nothing says where it ends."""
    return bool(state.loads(holds=True)) and not state.loads(holds=False)


def _next_whole(state: _State, known: Belief, load: float, confirmed: float | None) -> Probe:
    """Return a whole number: where this one is known to hold, or not to, that is confirmed or its neighbour tried."""
    held, failed = state.loads(holds=True), state.loads(holds=False)
    if load in failed and load not in held and load > state.lowest:
        load -= 1
    if load in held and (confirmed is None or load > confirmed) and (load + 1 in failed or load >= state.highest):
        return Probe(load, full=True)
    if load in held and load + 1 <= state.highest:
        load += 1
    return Probe(load, full=_is_near(state, known))


def _reserve(question: Question) -> int:
    """Return how many runs are kept for confirmations: the first may fail, and a failed one says where the next is."""
    return min(_CONFIRMATIONS, max(1, question.max_runs // 4))


def _is_near(state: _State, known: Belief) -> bool:
    """Tell whether the answer is known so well that what narrows it down further may as well confirm it."""
    if not state.loads(holds=True) and known.above(_least(state)) < _SURE:
        return False  # whether anything holds comes first
    low, high = (known.quantile(share) for share in _NEARLY)
    if low > state.highest * (1 - state.question.precision):
        return True
    return high - low <= max(low * _NEAR, _tolerance(state, low))


def _in_reach(state: _State, load: float) -> float:
    """Keep a load from leaping far beyond what was tried."""
    tried = [probe.load for probe, reading in state.probes if reading.holds is not None]
    return state.rounded(min(max(load, min(tried) / _STRIDE), max(tried) * _STRIDE))


def _finding(state: _State, known: Belief | None, stop: Stop) -> Finding:
    best, held = state.confirmed(known), state.held()
    confirmed, is_doubted = best is not None, False
    if best is None:  # what little there is: a run that was too short, or one that the others speak against
        best = state.largest(known, held)
        is_doubted = best is None
    if best is None:
        best = min(held, key=lambda index: state.probes[index][0].load, default=None)
    load = None if best is None else state.probes[best][0].load
    # An answer that the runs speak against does not stretch what they say.
    interval = (None, None) if known is None else _interval(state, known, None if is_doubted else load)
    reason = _reason(state, stop, load, confirmed)
    lowest = state.question.lowest
    if load is not None and not confirmed and lowest is not None and (interval[0] or lowest) < lowest:
        reason = f"{reason}; the largest load that holds may be less than {lowest:g}, the least that is allowed"
    return Finding(load, best, confirmed, interval, stop, reason)


def _interval(state: _State, known: Belief, answer: float | None) -> tuple[float | None, float | None]:
    """Return where the largest load that holds lies at 95 %; an end that nothing was measured beyond is None."""
    low, high = (known.quantile(share) for share in _INTERVAL)
    beyond = min(state.failed_for_sure(), default=math.inf)
    high = min(high, beyond, state.allowed)
    if state.question.whole:
        low, high = float(math.floor(low)), beyond - 1 if high >= beyond else float(math.floor(high))
    low, high = (min(low, high), high) if answer is None else (min(low, answer), max(high, answer))
    has_end = bool(state.loads(holds=False)) and high < state.allowed
    return (low if state.loads(holds=True) else None), (high if has_end else None)


def _reason(state: _State, stop: Stop, load: float | None, confirmed: bool) -> str:
    runs = f"{len(state.probes)} run{'s' if len(state.probes) > 1 else ''}"
    said = {
        Stop.NARROW: f"narrow enough after {runs}",
        Stop.BUDGET: f"the budget of {state.question.max_runs} runs is spent",
        Stop.BOUND: f"the largest load that is allowed, {state.highest:g}, holds",
        Stop.INFEASIBLE: f"not even {state.rounded(state.lowest):g} holds",
        Stop.GENERATOR: f"the load generator ran out of CPU above {state.highest:g}",
    }[stop]
    if load is None:
        return said if stop is Stop.INFEASIBLE else f"{said}; no load was found that holds"
    if confirmed:
        return said
    doubted = [state.probes[index][0].load for index in state.held(full=True)]
    if load not in doubted:
        missed = any(probe == Probe(load, full=True) and reading.holds is False for probe, reading in state.probes)
        said = (
            f"{said}; {load:g} held in a probe, but not in the run that was to confirm it"
            if missed
            else f"{said} before a run of full length could confirm {load:g}"
        )
    if not doubted:
        return said
    named = load if load in doubted else min(doubted)
    count = doubted.count(named)
    held = "held once" if count == 1 else f"held {count} times"
    return f"{said}; at full length {named:g} {held}, and the other runs speak against it"
