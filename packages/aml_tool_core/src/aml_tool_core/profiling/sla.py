"""What the configuration demands of a run, and whether the run gives it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from aml_tool_core.profiling.deployment import Usage
from aml_tool_core.profiling.histogram import Histogram
from aml_tool_core.profiling.intervals import certified
from aml_tool_core.profiling.result import Result

CPU_MAX = "cpu_percent_max"
CPU_METRIC = "CpuUtilizationPercentage"
_LATENCY = re.compile(r"(?P<of>latency_ms|service_time_ms)_(?P<which>mean|max|[0-9.]+)")
# Higher is better: these are to be at least their limits, every other metric at most.
AT_LEAST = frozenset({"requests_per_sec", "succeeded_per_sec"})


@dataclass(frozen=True)
class Criterion:
    """One demand: the metric, its limit, and what was measured (None where it is not known, which is a miss)."""

    metric: str
    limit: float
    value: float | None
    reason: str | None = None  # why it is not known, where there is more to say
    certified: bool | None = None  # of a percentile: whether there are enough requests for it

    @property
    def met(self) -> bool:
        """Tell whether the value keeps to the limit."""
        if self.value is None:
            return False
        return self.value >= self.limit if self.metric in AT_LEAST else self.value <= self.limit

    @property
    def miss(self) -> str:
        """The miss in words."""
        if self.value is None:
            because = f" ({self.reason})" if self.reason else ""
            return f"SLA missed: {self.metric} is not known{because}; its limit is {self.limit:g}"
        side = "less than the" if self.metric in AT_LEAST else "more than the"
        return f"SLA missed: {self.metric} is {self.value:.6g}, {side} {self.limit:g} demanded"


@dataclass(frozen=True)
class LatencyDemand:
    """A metric that is a statistic of a latency: `latency_ms_99`."""

    of: str  # latency_ms or service_time_ms
    which: str  # mean, max or a percentile

    @property
    def percent(self) -> float | None:
        """The percentile; None of the mean and the maximum."""
        return None if self.which in ("mean", "max") else float(self.which)

    def histogram(self, result: Result) -> Histogram:
        """Return the latencies that it is of; in a closed loop the service time is the latency."""
        return result.latency if self.of == "latency_ms" else result.service_time or result.latency

    def count(self, result: Result) -> int:
        """Return how many requests a demand is of: those that were not answered in time belong to it."""
        return self.histogram(result).total + result.errors.unanswered


def latency_demand(metric: str) -> LatencyDemand | None:
    """Return what a metric says of a latency, None for one that is about something else."""
    found = _LATENCY.fullmatch(metric)
    return None if found is None else LatencyDemand(**found.groupdict())


def stricter(*demands: Mapping[str, float]) -> dict[str, float]:
    """Return all demands as one: of several limits of a metric, the one that is harder to keep."""
    kept: dict[str, float] = {}
    for one in demands:
        for metric, limit in one.items():
            harder = max if metric in AT_LEAST else min
            kept[metric] = harder(limit, kept.get(metric, limit))
    return kept


def judge(sla: Mapping[str, float], result: Result, usage: Usage) -> tuple[Criterion, ...]:
    """Hold a run against each demand of a valid `sla`."""
    return tuple(_criterion(metric, limit, result, usage) for metric, limit in sla.items())


def _criterion(metric: str, limit: float, result: Result, usage: Usage) -> Criterion:
    demand = latency_demand(metric)
    if demand is not None:
        return _of_latency(metric, limit, demand, result)
    return Criterion(metric, limit, _value(metric, result, usage), _reason(metric, result, usage))


def _of_latency(metric: str, limit: float, demand: LatencyDemand, result: Result) -> Criterion:
    """Hold a latency against its limit: who was not answered in time waited longer than all who were."""
    unanswered, count = result.errors.unanswered, demand.count(result)
    value_us = _statistic_us(demand, demand.histogram(result), unanswered)
    reason = None
    if value_us is None and unanswered:
        falls = ", and it falls on one of them" if unanswered < count else ""
        reason = f"{unanswered} of {count} requests were not answered in time{falls}"
    return Criterion(
        metric,
        limit,
        None if value_us is None else value_us / 1000,
        reason=reason,
        certified=None if demand.percent is None else certified(count, demand.percent / 100),
    )


def _statistic_us(demand: LatencyDemand, histogram: Histogram, unanswered: int) -> float | None:
    """Return a statistic; None where nothing was answered, or where it is one of what was not.

    The mean is of the answers alone: what did not come has no length that could be added up.
    """
    if not histogram.total:
        return None
    if demand.percent is not None:
        found = histogram.percentile_with(demand.percent, unanswered)
        return None if found is None else found.value_us
    if demand.which == "mean":
        return histogram.mean_us
    return None if unanswered else histogram.max_us


def _reason(metric: str, result: Result, usage: Usage) -> str | None:
    if metric in ("error_percent", "refused_percent") and result.error_percent is None:
        return "nothing was sent"
    if metric != CPU_MAX:
        return None
    if not usage.whole_minutes:
        return "the run covers no whole clock minute, so other traffic is in the minutes' figures"
    return None if usage.metrics is not None else "; ".join(usage.reasons)


def latency_value_ms(metric: str, result: Result) -> float | None:
    """Return a statistic of the latency by its metric's name, as it is demanded: None where it is of what did not come.

    So a run does not rank by how quick the answers were that its lost requests made room for.
    """
    demand = latency_demand(metric)
    assert demand is not None, f"{metric} is no latency"
    found_us = _statistic_us(demand, demand.histogram(result), result.errors.unanswered)
    return None if found_us is None else found_us / 1000


def _value(metric: str, result: Result, usage: Usage) -> float | None:
    if metric == CPU_MAX:
        return (
            None
            if usage.metrics is None or not usage.whole_minutes
            else usage.metrics.get(CPU_METRIC, {}).get("maximum")
        )
    return {
        "requests_per_sec": result.requests_per_sec,
        "succeeded_per_sec": result.succeeded_per_sec,
        "error_percent": result.error_percent,
        "refused_percent": result.refused_percent,
    }[metric]
