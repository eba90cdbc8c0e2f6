"""Watch a run for demands that it can no longer meet, whatever the rest of it brings: `abort_on_fail`.

The outcome is that of the whole run, earlier: what has not happened yet is counted in the run's favour. It takes a
known number of requests, so only an open loop can be watched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aml_tool_core.profiling.histogram import nearest_rank
from aml_tool_core.profiling.load import Load
from aml_tool_core.profiling.progress import Counts, Snapshot
from aml_tool_core.profiling.result import TOO_MANY_REQUESTS, Result
from aml_tool_core.profiling.sla import latency_demand

# A histogram's bucket is given by its highest value, at most 0.1 % above its lowest.
_LEAST_OF_BUCKET = 0.998


@dataclass
class _Latencies:
    """What was seen of the latencies that one demand is about."""

    above: int = 0  # answers slower than the limit
    sum_ms: float = 0.0  # at least
    max_ms: float = 0.0  # at least


@dataclass
class _Wrong:
    """Requests of one run that went wrong, so far."""

    errors: int = 0  # not answered at all
    refused: int = 0
    other: int = 0  # answers that were neither 2xx nor 429


@dataclass
class Watch:
    """What the runs of a measurement have used up of what its demands allow; `lost` says when one cannot be met."""

    sla: Mapping[str, float]
    planned: int  # requests of all runs
    duration_sec: float  # of all runs
    lost: str | None = None  # the first demand that cannot be met any more, in words
    _runs: list[_Wrong] = field(default_factory=list)
    _latencies: dict[str, _Latencies] = field(default_factory=dict)

    def begin(self) -> None:
        """Note that another run begins: an engine counts within its run."""
        self._runs.append(_Wrong())

    def seen(self, snapshot: Snapshot) -> None:
        """Take in one more second of the run, where the engine tells enough of it."""
        if snapshot.counts is None or self.lost is not None:
            return
        self._take(snapshot.counts)
        found = (self._judge(metric, limit) for metric, limit in self.sla.items())
        self.lost = next((said for said in found if said is not None), None)

    def take(self, result: Result) -> None:
        """Take a whole run that was made before."""
        errors = result.errors
        self.begin()
        service_time = result.service_time or result.latency  # the same thing where the engine tells one
        self._take(
            Counts(
                errors.connect + errors.read + errors.write + errors.timeout,
                {**(errors.status or {}), **({0: errors.unknown_status} if errors.unknown_status else {})},
                tuple(result.latency.counts),
                tuple(service_time.counts),
            )
        )

    def _take(self, counts: Counts) -> None:
        refused = counts.not_2xx.get(TOO_MANY_REQUESTS, 0)
        self._runs[-1] = _Wrong(counts.errors, refused, sum(counts.not_2xx.values()) - refused)
        for metric, limit in self.sla.items():
            demand = latency_demand(metric)
            if demand is None:
                continue
            seen = self._latencies.setdefault(metric, _Latencies())
            for value_us, count in counts.latency_us if demand.of == "latency_ms" else counts.service_time_us:
                seen.above += count if value_us / 1000 > limit else 0
                seen.sum_ms += count * _LEAST_OF_BUCKET * value_us / 1000
                seen.max_ms = max(seen.max_ms, _LEAST_OF_BUCKET * value_us / 1000)

    def _judge(self, metric: str, limit: float) -> str | None:
        """Say why a demand cannot be met any more; None while it can, or where only the end tells."""
        because = self._latency(metric, limit) if latency_demand(metric) else self._count(metric, limit)
        return None if because is None else f"{metric} cannot keep to its limit of {limit:g} any more: {because}"

    def _latency(self, metric: str, limit: float) -> str | None:
        demand, seen = latency_demand(metric), self._latencies.get(metric, _Latencies())
        assert demand is not None
        unanswered = sum(run.errors for run in self._runs)
        if demand.which == "max":
            if seen.max_ms > limit:
                return f"{seen.max_ms:.6g} ms was seen"
            return f"{unanswered} requests were not answered in time" if unanswered else None
        if demand.which == "mean":
            mean_ms = seen.sum_ms / max(self.planned, 1)
            return f"it will be {mean_ms:.6g} ms at least" if mean_ms > limit else None
        allowed = self.planned - nearest_rank(self.planned, float(demand.which))
        if seen.above + unanswered <= allowed:
            return None
        lost = f", {unanswered} requests were not answered in time" if unanswered else ""
        return f"{seen.above} answers took longer{lost}, and of the {self.planned} planned {allowed} may"

    def _count(self, metric: str, limit: float) -> str | None:
        errors = sum(run.errors for run in self._runs)
        refused = sum(run.refused for run in self._runs)
        other = sum(run.other for run in self._runs)
        counted = {"error_percent": errors + other, "refused_percent": refused}.get(metric)
        if counted is not None:
            too_many = 100 * counted > limit * self.planned
            return f"{counted} of the {self.planned} planned requests count already" if too_many else None
        wrong = {"requests_per_sec": errors, "succeeded_per_sec": errors + other + refused}.get(metric)
        if wrong is None:
            return None
        best = (self.planned - wrong) / self.duration_sec
        return f"{best:.6g} is the best that it can be" if best < limit * (1 - 1e-9) else None


def watch_of(sla: Mapping[str, float], load: Load, runs: int) -> Watch:
    """Return the watch over so many open-loop runs."""
    assert load.target_rps is not None, "a closed loop has no planned number of requests"
    return Watch(sla, round(load.target_rps * load.duration_sec) * runs, load.duration_sec * runs)
