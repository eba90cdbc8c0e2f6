"""What follows from several runs taken together: the best, the Pareto front and the knee."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aml_tool_core.profiling.runs import Run
from aml_tool_core.profiling.sla import AT_LEAST, latency_value_ms
from aml_tool_core.profiling.standing import SUCCEEDED

_COSTS = frozenset({"core_hour_per_million_requests", "price_per_million_requests"})
_LEAST_DEPTH = 0.1
_LEAST_POINTS = 3
_LEAST_RISE = 1.25  # of p99 over the curve: a latency that hardly rises costs nobody much
_REACHED = 0.99  # of an open loop's rate: what is missing lies at the edges of the run, and is no difference of targets
_DIGITS = 4  # significant ones, of figures that are compared


@dataclass(frozen=True)
class Knee:
    """Where more throughput begins to cost much more latency."""

    run: Run
    depth: float  # below the straight line between the curve's ends, both axes from 0 to 1


@dataclass(frozen=True)
class Choice:
    """The conclusions from the runs of one payload class (None where the payload is not divided)."""

    payload_class: str | None
    objective: str
    best: Run | None  # feasible
    front: tuple[Run, ...]
    knee: Knee | None

    @property
    def better(self) -> str:
        """Which way the objective is better."""
        return "higher" if self.objective in AT_LEAST else "lower"


def choices(runs: Sequence[Run], objective: str) -> tuple[Choice, ...]:
    """Return one choice for each payload class."""
    names = dict.fromkeys(run.point.payload_class for run in runs)
    return tuple(_choice(name, [run for run in runs if run.point.payload_class == name], objective) for name in names)


def best_of(runs: Sequence[Run], objective: str) -> Run | None:
    """Return the feasible run whose objective is best, a valid one where there is one.

    Of equals that with the lower p99, then with fewer connections, then the first.
    """
    known = [run for run in runs if run.standing.feasible and score(run, objective) is not None]

    def goodness(run: Run) -> tuple[float, ...]:
        return run.verdict.valid, _sorted_by(run, objective), -_p99_ms(run), -run.load.connections

    return max(known, key=goodness, default=None)


def nearest_miss(runs: Sequence[Run]) -> Run | None:
    """Return the run that came nearest to holding: fewest misses, least above its limits; of equals the smallest."""
    usable = [run for run in runs if run.standing.usable]
    return min(usable, key=_distance, default=None)


def score(run: Run, objective: str) -> float | None:
    """Return a run's objective; None where it is not known."""
    if objective in AT_LEAST:
        return run.result.requests_per_sec if objective == "requests_per_sec" else run.result.succeeded_per_sec
    if objective in _COSTS:
        found: float | None = getattr(run.cost, objective)
        return found
    return latency_value_ms(objective, run.result)


def front(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Return the runs that no other beats in good answers, p99 and failures at once, by rising rate.

    They are of those that hold; where none does, of all that are usable.
    """
    holding = [run for run in runs if run.standing.feasible]
    return _undominated(holding or runs, lambda run: (-_compared(run, SUCCEEDED), _p99_ms(run), _error_percent(run)))


def knee(runs: Sequence[Run]) -> Knee | None:
    """Return the run that lies farthest below the line between the ends of the curve of rate and p99 (Kneedle).

    V. Satopaa, J. Albrecht, D. Irwin, B. Raghavan: Finding a "Kneedle" in a Haystack, ICDCS Workshops 2011. There is
    none on fewer than three points, nor where the curve is almost straight, or flat: both axes are scaled to its ends,
    so noise alone would bend it.
    """
    curve = _undominated(runs, lambda run: (-run.result.succeeded_per_sec, _p99_ms(run)))
    if len(curve) < _LEAST_POINTS or _is_flat(curve[0], curve[-1]):
        return None
    rates, latencies = [run.result.succeeded_per_sec for run in curve], [_p99_ms(run) for run in curve]
    depths = [
        (rate - rates[0]) / (rates[-1] - rates[0]) - (latency - latencies[0]) / (latencies[-1] - latencies[0])
        for rate, latency in zip(rates, latencies, strict=True)
    ]
    depth = max(depths)
    return Knee(curve[depths.index(depth)], depth) if depth >= _LEAST_DEPTH else None


def _is_flat(first: Run, last: Run) -> bool:
    """Tell whether p99 rises by less than a quarter from the one to the other, or not beyond its intervals."""
    before, after = first.result.latency.percentile(99.0), last.result.latency.percentile(99.0)
    overlaps = before.upper_us is not None and after.lower_us is not None and after.lower_us <= before.upper_us
    return overlaps or after.value_us < _LEAST_RISE * before.value_us


def _choice(name: str | None, runs: Sequence[Run], objective: str) -> Choice:
    return Choice(name, objective, best_of(runs, objective), front(runs), knee(runs))


def _sorted_by(run: Run, objective: str) -> float:
    if objective in AT_LEAST:
        return _compared(run, objective)
    found = score(run, objective)
    assert found is not None, "runs without one are left out"
    return -_rounded(found)


def _compared(run: Run, objective: str) -> float:
    """Return a rate as it is compared: an open loop that has reached its own has that, less what failed."""
    rate = run.result.requests_per_sec
    if (target := run.load.target_rps) is not None and rate >= _REACHED * target:
        rate = target
    if objective != "requests_per_sec":
        rate *= run.result.succeeded / max(run.result.completed, 1)
    return _rounded(rate)


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _distance(run: Run) -> tuple[int, float]:
    missed = [criterion for criterion in run.criteria or () if not criterion.met]
    excess = [
        math.inf if criterion.value is None else abs(math.log(criterion.value / criterion.limit))
        for criterion in missed
        if criterion.value is None or (criterion.value and criterion.limit)
    ]
    return len(run.standing.misses), math.fsum(excess)


def _undominated(runs: Sequence[Run], costs: Callable[[Run], tuple[float, ...]]) -> tuple[Run, ...]:
    """Return the runs that no other is better than in one cost and at least equal to in all.

    Of equals that with fewest connections, then the first.
    """
    seen: dict[tuple[float, ...], Run] = {}
    for run in sorted(runs, key=lambda run: run.load.connections):
        if run.standing.usable and run.result.latency.total:
            seen.setdefault(costs(run), run)
    kept = [
        run
        for own, run in seen.items()
        if not any(other != own and all(a <= b for a, b in zip(other, own, strict=True)) for other in seen)
    ]
    return tuple(sorted(kept, key=lambda run: run.result.succeeded_per_sec))


def _p99_ms(run: Run) -> float:
    return run.result.latency.percentile(99.0).value_us / 1000


def _error_percent(run: Run) -> float:
    return run.result.error_percent or 0.0
