"""Whether a target carries a load: what a run says of it, and by how much, for a sweep's choice and a search's next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from aml_tool_core.profiling import verdict
from aml_tool_core.profiling.deployment import Usage
from aml_tool_core.profiling.histogram import Histogram
from aml_tool_core.profiling.load import Load, LoadModel
from aml_tool_core.profiling.result import Result
from aml_tool_core.profiling.search import Reading
from aml_tool_core.profiling.sla import AT_LEAST, CPU_MAX, Criterion, LatencyDemand, judge, latency_demand

SUCCEEDED = "succeeded_per_sec"

_OWN_DELAY_SHARE = 0.1  # of a limit: a generator that itself loses more cannot lay a miss at the target's door
_EXPLAINED = 2.0  # times a standstill: what it may add to a latency
_LEAST_NOISE = 0.02
_MAXIMUM_NOISE = 0.3  # one observation says little of its distribution
_LEAST_SECONDS = 4
_MOST_LIKENESS = 0.7
_OF_THE_WORST = 2.0
_UNKNOWN_CORRELATION = 2.0  # how much wider a percentile's interval is taken where no seconds show it
_CEILING_SHORTFALL = 0.03


@dataclass(frozen=True)
class Standing:
    """What a run says of its target: nothing (not usable), that the load holds (no misses), or why it does not."""

    usable: bool
    misses: tuple[str, ...]

    @property
    def feasible(self) -> bool:
        """Tell whether the target carried the load and met every demand."""
        return self.usable and not self.misses


def stand(load: Load, result: Result, criteria: Sequence[Criterion], objective: str) -> Standing:
    """Hold a run against what it was asked for."""
    demands = {criterion.metric: criterion.limit for criterion in criteria}
    missed = [criterion for criterion in criteria if not criterion.met]
    timed = [demand for criterion in criteria if (demand := latency_demand(criterion.metric)) is not None]
    refusals = _refusals(result, demands, objective)
    misses = [
        *verdict.shortfalls(load, result, demands),
        *verdict.overdue(load, result, waits_are_judged=any(demand.of == "latency_ms" for demand in timed)),
        *refusals,
        *(criterion.miss for criterion in missed),
    ]
    if refusals:
        # A 429 is the target's own word, however busy the generator was; it is quick, and so makes a closed loop busy.
        return Standing(True, tuple(misses))
    if _never_answers(load, result):
        return Standing(True, tuple(misses))
    if verdict.is_starved(load, result) and (misses or load.model is LoadModel.CLOSED):
        # In an open loop what the generator loses is in the latency: what holds in spite of it holds.
        return Standing(False, ())
    if missed and _own_fault(load, result, missed):
        return Standing(False, ())
    unknown = {one.miss for one in missed if one.metric == CPU_MAX and one.value is None}
    rates = {one.miss for one in missed if one.metric in AT_LEAST}
    # Where nothing else speaks against the load, nobody knows whether it holds; too low a rate is none of it.
    is_known = not unknown or bool(set(misses) - unknown - rates)
    return Standing(is_known, tuple(misses))


def reading(load: Load, result: Result, criteria: Sequence[Criterion], standing: Standing) -> Reading:
    """Return what a search learns from a run. Demands of a rate are no limits of the load, so they are left out."""
    if not standing.usable:
        return Reading(None)
    limits = [criterion for criterion in criteria if criterion.metric not in AT_LEAST]
    others = {criterion.miss for criterion in criteria if criterion.metric in AT_LEAST and not criterion.met}
    holds = not [miss for miss in standing.misses if miss not in others]
    margins = [found for criterion in limits if (found := _margin(criterion, result)) is not None]
    worst = max(margins, default=None)
    if worst is None or (worst[0] > 0) is holds:
        # It failed by something else than a latency, whose margin then says nothing of how far the load is off.
        return Reading(holds, ceiling=None if holds else _ceiling(load, result))
    spoiled = {criterion.miss for criterion in limits if not criterion.met and _held_up(criterion, result)}
    doubtful = not holds and not set(standing.misses) - others - spoiled
    return Reading(holds, worst[0], worst[1], None if holds else _ceiling(load, result), doubtful)


def _own_fault(load: Load, result: Result, missed: Sequence[Criterion]) -> bool:
    """Tell whether a latency is missed while the generator itself lost a good part of the limit before its sends.

    Where the answers alone took longer than the limit, counted from the sends, it is the target's miss; less what the
    generator may have lost once more, before it took note of them.
    """
    own_ms = None if result.schedule is None else result.schedule.own_delay_ms_99
    if load.model is LoadModel.CLOSED or own_ms is None:
        return False
    return all(
        latency_demand(criterion.metric) is not None
        and own_ms > _OWN_DELAY_SHARE * criterion.limit
        and not _took_longer(criterion.metric, criterion.limit + own_ms, result)
        for criterion in missed
    )


def _took_longer(metric: str, limit_ms: float, result: Result) -> bool:
    """Tell whether a statistic of a latency is known from the sends to be more than so long."""
    if result.service_time is None:
        return False
    (sent,) = judge({metric.replace("latency_ms", "service_time_ms"): limit_ms}, result, Usage(None, ()))
    return sent.value is not None and not sent.met


def _never_answers(load: Load, result: Result) -> bool:
    """Tell whether nothing at all is answered while every sender waits, which is no lateness of a generator's own."""
    if result.completed:
        return False
    never_sent = 0 if result.schedule is None else result.schedule.missed
    return result.sent >= load.connections or never_sent >= (result.planned or math.inf)


def _held_up(criterion: Criterion, result: Result) -> bool:
    """Tell whether a latency may be missed only because the generator's machine once gave it no time.

    For longer than the whole limit, that is; and what had to wait meanwhile, and the queue that it left at the target,
    explain the value, which an overload goes far beyond.
    """
    own_ms = None if result.schedule is None else result.schedule.own_delay_ms_max
    if own_ms is None or criterion.value is None or latency_demand(criterion.metric) is None:
        return False
    return own_ms > criterion.limit and criterion.value <= criterion.limit + _EXPLAINED * own_ms


def _refusals(result: Result, demands: Mapping[str, float], objective: str) -> list[str]:
    """Answers 429 are no failures; but where good answers are what counts, a load that brings them is not carried."""
    refused, most = result.errors.refused, verdict.most_percent("refused_percent", demands)
    if objective != SUCCEEDED or (result.refused_percent or 0.0) <= most:
        return []
    return [
        f"{refused} of {result.sent} requests were refused with 429, more than {most:g}%: the concurrency limit was "
        "reached"
    ]


def _margin(criterion: Criterion, result: Result) -> tuple[float, float] | None:
    """Return ln(value / limit) of a latency and its standard deviation, None for anything else."""
    demand = latency_demand(criterion.metric)
    if demand is None or criterion.limit <= 0:
        return None
    histogram = demand.histogram(result)
    if criterion.value is None:
        return _least_margin(criterion.limit, histogram)
    if not criterion.value:
        return None
    return math.log(criterion.value / criterion.limit), max(_LEAST_NOISE, _noise(demand, histogram, result))


def _least_margin(limit_ms: float, histogram: Histogram) -> tuple[float, float] | None:
    """Return how far beyond its limit a latency is at least that is longer than every answer's; None if not at all."""
    if not histogram.total or histogram.max_us / 1000 <= limit_ms:
        return None
    return math.log(histogram.max_us / 1000 / limit_ms), _MAXIMUM_NOISE


def _noise(demand: LatencyDemand, histogram: Histogram, result: Result) -> float:
    """Return how far a statistic's logarithm strays from run to run.

    An interval from order statistics takes requests to be independent; in a queue they are not. How much wider it is to
    be is seen in the seconds: their p99 stray more than independent requests' would.
    """
    if demand.which == "max":
        return _MAXIMUM_NOISE
    wider = _correlation(histogram, result)
    if demand.which == "mean":
        return wider * histogram.stdev_us / histogram.mean_us / math.sqrt(histogram.total)
    return wider * _independent(histogram, float(demand.which), result.errors.unanswered)


def _independent(histogram: Histogram, percent: float, unanswered: int = 0) -> float:
    found = histogram.percentile_with(percent, unanswered)
    if found is None or not found.lower_us:
        return _MAXIMUM_NOISE
    if found.upper_us is None:
        return max(_MAXIMUM_NOISE, 2 * math.log(found.value_us / found.lower_us) / 1.96)
    return math.log(found.upper_us / found.lower_us) / (2 * 1.96)


def _correlation(histogram: Histogram, result: Result) -> float:
    seconds = [math.log(second.latency_us_99) for second in result.timeline if second.latency_us_99]
    independent = _independent(histogram, 99.0)
    if len(seconds) < _LEAST_SECONDS or not independent:
        return _UNKNOWN_CORRELATION
    return max(1.0, stray(seconds) / independent)


def stray(seconds: Sequence[float]) -> float:
    """Return the standard deviation of the mean of a row whose neighbours resemble each other.

    As a first-order autoregression has it: (1 + r) / (1 - r) times the variance of as many independent ones. A queue's
    bad seconds outlast one, and a percentile is made of the worst of them, hence the factor.
    """
    count, mean = len(seconds), math.fsum(seconds) / len(seconds)
    apart = [one - mean for one in seconds]
    variance = math.fsum(one * one for one in apart) / (count - 1)
    if not variance:
        return 0.0
    likeness = math.fsum(one * other for one, other in pairwise(apart)) / (count - 1) / variance
    likeness = min(max(likeness, 0.0), _MOST_LIKENESS)
    return _OF_THE_WORST * math.sqrt(variance / count * (1 + likeness) / (1 - likeness))


def _ceiling(load: Load, result: Result) -> float | None:
    """Return the rate that a target answered at while more was asked of it; None where it kept up, or nobody knows."""
    if load.target_rps is None or len(result.timeline) < 2:
        return None
    later = result.timeline[len(result.timeline) // 2 :]
    answered = math.fsum(second.requests_per_sec for second in later) / len(later)
    return answered if 0 < answered < load.target_rps * (1 - _CEILING_SHORTFALL) else None
