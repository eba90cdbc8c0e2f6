"""What a trial's report says, as metrics by name, and how good that is by the configuration's weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aml_tool_core.profiling.result import percent_of_requests
from aml_tool_core.profiling.sla import AT_LEAST
from aml_tool_core.report_page.curve import decoded

CORE_HOURS = "core_hour_per_million_requests"
_COSTS = (CORE_HOURS, "price_per_million_requests")
_UNANSWERED = ("connect", "read", "write", "timeout")
_MOST_FAILED_PERCENT = 1.0  # where nothing is demanded of failures or refusals: what a valid run may have
_UNKNOWN_MISS = 5.0
_UNCONFIRMED_MISS = 0.5  # a probe held: it is probably not far off


@dataclass(frozen=True)
class Judged:
    """What came of a trial: its metrics, whether it keeps every constraint, and its score (higher is better)."""

    metrics: Mapping[str, float]
    feasible: bool
    misses: tuple[str, ...]
    score: float | None  # a logarithm, so that ratios are differences; None where a weighed metric is not known
    excess: float  # how far beyond its limits it is, as a logarithm; 0 where feasible
    unconfirmed: str | None  # why a search's answer is not confirmed: whether it holds is not known then
    valid: bool  # by the profiler's verdict on the run that is judged
    reasons: tuple[str, ...]
    payload_class: str | None  # the one that the figures are of


def judge(report: Mapping[str, Any], weights: Mapping[str, float]) -> Judged:
    """Return what a profiler's report means for the objective: of several payload classes, that of the worst."""
    about = _worst_class(report, weights)
    found = metrics(about)
    unconfirmed = _unconfirmed(report)
    misses, excess = ([], _UNCONFIRMED_MISS) if unconfirmed is not None else _misses(about, found)
    return Judged(
        metrics=found,
        feasible=unconfirmed is None and not misses,
        misses=tuple(misses),
        score=score(found, weights),
        excess=excess,
        unconfirmed=unconfirmed,
        valid=bool(about["verdict"]["valid"]),
        reasons=tuple(about["verdict"]["reasons"]),
        payload_class=about["load"].get("payload", {}).get("class"),
    )


def _worst_class(report: Mapping[str, Any], weights: Mapping[str, float]) -> Mapping[str, Any]:
    """Return a report as one about the best run of the payload class that is served worst.

    The report itself is about the best run of all, which is one of the class that is the easiest.
    """
    bests = [choice["best"] for choice in report.get("choices", ()) if "payload_class" in choice]
    if not bests or None in bests:
        return report
    common = {key: value for key, value in report.items() if key != "sla"}
    runs = [{**common, **run} for run in report["runs"] if run["number"] in bests]

    def goodness(run: Mapping[str, Any]) -> float:
        found = score(metrics(run), weights)
        return -math.inf if found is None else found

    return min(runs, key=goodness)


def metrics(report: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a report by the names that objectives and constraints have for them."""
    result = report["result"]
    requests = result["requests"]
    errors = result["errors"]
    refused = errors.get("status", {}).get("429", 0)
    failed = sum(errors.get(kind, 0) for kind in (*_UNANSWERED, "unknown_status"))
    failed += sum(errors.get("status", {}).values()) - refused
    found: dict[str, float | None] = {
        "requests_per_sec": result["requests_per_sec"],
        "succeeded_per_sec": result["succeeded_per_sec"],
        "error_percent": percent_of_requests(failed, requests["sent"], failed + refused, requests["succeeded"]),
        "refused_percent": percent_of_requests(refused, requests["sent"], failed + refused, requests["succeeded"]),
        **{cost: report["cost"].get(cost) for cost in _COSTS},
    }
    for kind in ("latency_ms", "service_time_ms"):
        if (latency := result.get(kind)) is not None:
            found |= {f"{kind}_{which}": latency[which] for which in ("mean", "max")}
            found |= {f"{kind}_{name}": one["value"] for name, one in latency["percentiles"].items()}
    found |= _of_all(result)
    # What was demanded beside those, e.g. latency_ms_97 or cpu_percent_max, and as the demand takes it.
    demanded = {one["metric"]: one["value"] for one in report.get("sla", {}).get("criteria", ())}
    found |= {name: value for name, value in demanded.items() if value is not None}
    return {name: float(value) for name, value in found.items() if value is not None}


def _of_all(result: Mapping[str, Any]) -> dict[str, float | None]:
    """Return a run's percentiles and maxima as limits of them count: who was not answered waited longest.

    The report's own are of the answers, which lost requests make quick. Nothing is returned where all were answered.
    """
    unanswered = sum(result["errors"].get(kind, 0) for kind in _UNANSWERED)
    found: dict[str, float | None] = {}
    for kind, of in (("latency_ms", "latency"), ("service_time_ms", "service_time")):
        if not unanswered or result.get(kind) is None:
            continue
        histogram = decoded(result["histogram"][of], f"report.json: /result/histogram/{of}")
        found[f"{kind}_max"] = None
        for name in result[kind]["percentiles"]:
            one = histogram.percentile_with(float(name), unanswered)
            found[f"{kind}_{name}"] = None if one is None else one.value_us / 1000
    return found


def score(found: Mapping[str, float], weights: Mapping[str, float]) -> float | None:
    """Return the weighed sum of the metrics' logarithms: a percent of one counts like a percent of another."""
    if any(found.get(name, 0.0) <= 0 for name in weights):
        return None
    return math.fsum(
        weight * math.log(found[name]) * (1 if name in AT_LEAST else -1) for name, weight in weights.items()
    )


def _unconfirmed(report: Mapping[str, Any]) -> str | None:
    search = report.get("search")
    if search is None or search["answer"] is None or search["answer"]["confirmed"]:
        return None
    return str(search["reason"])


def _misses(report: Mapping[str, Any], found: Mapping[str, float]) -> tuple[list[str], float]:
    """Return what a report misses, in words, and how far beyond its limits that is."""
    search = report.get("search")
    if search is not None and search["answer"] is None:
        nearest: Sequence[str] = search.get("nearest_miss", {}).get("misses", ())
        return [f"no load holds: {search['reason']}", *nearest], _UNKNOWN_MISS
    for choice in report.get("choices", ()):
        if choice["best"] is None:
            return [_no_best(report, choice)], _UNKNOWN_MISS
    if found["succeeded_per_sec"] <= 0:
        return ["no request succeeded"], _UNKNOWN_MISS
    criteria = report.get("sla", {}).get("criteria", ())
    misses, excess = [], 0.0
    for one in criteria:
        if one["met"]:
            continue
        misses.append(f"{one['metric']} is {_shown(one)}, its limit is {one['limit']:g}")
        excess += _excess(one["value"], one["limit"])
    demanded = {one["metric"] for one in criteria}
    for name, happened in (("error_percent", "failed"), ("refused_percent", "were refused with 429")):
        if name not in demanded and found[name] > _MOST_FAILED_PERCENT:
            misses.append(f"{found[name]:.3g} % of the requests {happened}")
            excess += _excess(found[name], _MOST_FAILED_PERCENT)
    return misses, excess


def _no_best(report: Mapping[str, Any], choice: Mapping[str, Any]) -> str:
    name = choice.get("payload_class")
    of_class = "" if name is None else f" of payload class {name}"
    own = [run for run in report.get("runs", ()) if run["load"].get("payload", {}).get("class") == name]
    if any(run["feasible"] for run in own):
        return f"{choice['objective']} is not known of any run{of_class} that keeps every demand"
    return f"no run{of_class} can be used, or keeps every demand"


def _excess(value: float | None, limit: float) -> float:
    if value is None or value <= 0 or limit <= 0:
        return _UNKNOWN_MISS
    return abs(math.log(value / limit))


def _shown(criterion: Mapping[str, Any]) -> str:
    if criterion["value"] is None:
        return f"not known ({criterion['reason']})" if "reason" in criterion else "not known"
    return f"{criterion['value']:.6g}"
