"""What a trial's report says, as metrics by name, and how good that is by the configuration's weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aml_tool_core.profiling.result import percent_of_requests
from aml_tool_core.profiling.sla import AT_LEAST

_COSTS = ("core_hour_per_million_requests", "price_per_million_requests")
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


def judge(report: Mapping[str, Any], weights: Mapping[str, float]) -> Judged:
    """Return what a profiler's report means for the objective."""
    found = metrics(report)
    misses, excess = _misses(report, found)
    return Judged(found, not misses, tuple(misses), score(found, weights), excess)


def metrics(report: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a report by the names that objectives and constraints have for them."""
    result = report["result"]
    requests = result["requests"]
    errors = result["errors"]
    refused = errors.get("status", {}).get("429", 0)
    failed = sum(errors.get(kind, 0) for kind in ("connect", "read", "write", "timeout", "unknown_status"))
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
    return {name: float(value) for name, value in found.items() if value is not None}


def score(found: Mapping[str, float], weights: Mapping[str, float]) -> float | None:
    """Return the weighed sum of the metrics' logarithms: a percent of one counts like a percent of another."""
    if any(found.get(name, 0.0) <= 0 for name in weights):
        return None
    return math.fsum(
        weight * math.log(found[name]) * (1 if name in AT_LEAST else -1) for name, weight in weights.items()
    )


def _misses(report: Mapping[str, Any], found: Mapping[str, float]) -> tuple[list[str], float]:
    """Return what a report misses, in words, and how far beyond its limits that is."""
    search = report.get("search")
    if search is not None and search["answer"] is None:
        nearest: Sequence[str] = search.get("nearest_miss", {}).get("misses", ())
        return [f"no load holds: {search['reason']}", *nearest], _UNKNOWN_MISS
    if search is not None and not search["answer"]["confirmed"]:
        return [f"not confirmed: {search['reason']}"], _UNCONFIRMED_MISS
    for choice in report.get("choices", ()):
        if choice["best"] is None:
            of_class = f" of payload class {choice['payload_class']}" if "payload_class" in choice else ""
            return [f"no run{of_class} can be used, or keeps every demand"], _UNKNOWN_MISS
    if found["succeeded_per_sec"] <= 0:
        return ["no request succeeded"], _UNKNOWN_MISS
    criteria = report.get("sla", {}).get("criteria", ())
    misses, excess = [], 0.0
    for one in criteria:
        if one["met"]:
            continue
        misses.append(f"{one['metric']} is {_shown(one['value'])}, its limit is {one['limit']:g}")
        excess += _excess(one["value"], one["limit"])
    demanded = {one["metric"] for one in criteria}
    for name, happened in (("error_percent", "failed"), ("refused_percent", "were refused with 429")):
        if name not in demanded and found[name] > _MOST_FAILED_PERCENT:
            misses.append(f"{found[name]:.3g} % of the requests {happened}")
            excess += _excess(found[name], _MOST_FAILED_PERCENT)
    return misses, excess


def _excess(value: float | None, limit: float) -> float:
    if value is None or value <= 0 or limit <= 0:
        return _UNKNOWN_MISS
    return abs(math.log(value / limit))


def _shown(value: float | None) -> str:
    return "not known" if value is None else f"{value:.6g}"
