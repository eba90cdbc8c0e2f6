"""Merge the reports of generators that loaded one target together, one per machine, into the report of the whole.

Counts and rates are added, histograms are added bucket by bucket, and percentiles, intervals, verdict and cost are
computed anew from the sums by the profilers' own rules.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from aml_tool_core import InputError
from aml_tool_core.profiling import side_by_side, sla
from aml_tool_core.profiling.cost import cost_of, price_of
from aml_tool_core.profiling.deployment import Usage
from aml_tool_core.profiling.histogram import ENCODING, PERCENTILES, Histogram
from aml_tool_core.profiling.load import Load, LoadModel, SendSchedule
from aml_tool_core.profiling.report import VERSION, percentile_name, sla_document
from aml_tool_core.profiling.result import Errors, Generator, Result, Schedule
from aml_tool_core.profiling.target import Target
from aml_tool_core.profiling.verdict import judge
from aml_tool_core.report_page.figures import at
from aml_tool_core.report_page.timeline import utc

from aml_report.reading import Document, Report

_MUST_BE_ALIKE = (
    ("/tool/name", "profiler"),
    ("/tool/version", "profiler version"),
    ("/tool/engine", "engine"),
    ("/target", "target"),
    ("/load/model", "load model"),
    ("/load/schedule", "schedule"),
    ("/load/duration_sec", "duration_sec"),
    ("/load/timeout_sec", "timeout_sec"),
    ("/load/warmup_sec", "warmup_sec"),
    ("/load/method", "method"),
    ("/load/payload", "payload"),
    ("/provenance", "hashes of configuration, payload and model"),
)
_KINDS = ("connect", "read", "write", "timeout")


def merge(reports: Sequence[Report]) -> dict[str, Any]:
    """Return the report of the whole. Raises InputError where the reports are not parts of one run."""
    first = reports[0]
    for report in reports:
        if "runs" in report.document:
            raise InputError(
                f"{report.path}: /runs: {len(report.document['runs'])} runs of a sweep or a search; merge takes "
                "reports of single runs: give each machine one run, or let one job of several nodes make the sweep"
            )
    for other in reports[1:]:
        _check_alike(first, other)
    _check_together(reports)
    documents = [report.document for report in reports]
    result = _result(reports)
    load = _load(documents)
    usage = _usage(documents)
    limits = {one["metric"]: one["limit"] for one in first.document.get("sla", {}).get("criteria", ())}
    started_at = min(documents, key=lambda document: utc(document["started_at"]))["started_at"]
    merged = {
        **{key: first.document[key] for key in ("tool", "provenance", "target")},
        "version": VERSION,
        "started_at": started_at,
        "load": _load_document(documents),
        "result": _result_document(reports, result),
        "verdict": _verdict(reports, load, result, limits),
        "resource_usage": usage.metrics,
        "cost": _cost(documents, result.succeeded_per_sec),
    }
    if usage.metrics is not None:
        merged["resource_usage_whole_minutes"] = usage.whole_minutes
    if usage.reasons:
        merged["resource_usage_reasons"] = list(usage.reasons)
    if "sla" in first.document:
        merged["sla"] = sla_document(sla.judge(limits, result, usage))
    return merged


def _check_alike(first: Report, other: Report) -> None:
    unlike = [name for pointer, name in _MUST_BE_ALIKE if at(first.document, pointer) != at(other.document, pointer)]
    if unlike:
        raise InputError(
            f"{other.path}: not a part of the same run as {first.path}: {', '.join(unlike)} differ; merge takes "
            "reports of one configuration, run on several machines at a time"
        )
    if "repeats" in first.document["result"]:
        raise InputError(
            f"{first.path}: /result/repeats: repeated runs of several machines do not fall together; merge reports of "
            "single runs"
        )


def _check_together(reports: Sequence[Report]) -> None:
    """Rates add up only where the runs lie over one another in time."""
    starts = [(utc(report.document["started_at"]).timestamp(), report) for report in reports]
    (_, earliest), (_, latest) = min(starts, key=_at), max(starts, key=_at)
    apart_sec = max(start for start, _ in starts) - min(start for start, _ in starts)
    length_sec = earliest.document["load"]["warmup_sec"] + earliest.document["load"]["duration_sec"]
    if apart_sec >= length_sec:
        raise InputError(
            f"{latest.path}: began {apart_sec:.0f} s after {earliest.path}, which was over then; merge takes reports "
            "of generators that ran at the same time, as only then their rates add up"
        )


def _at(pair: tuple[float, Report]) -> float:
    return pair[0]


def _load(documents: Sequence[Document]) -> Load:
    loads = [document["load"] for document in documents]
    rates = [load["target_rps"] for load in loads if "target_rps" in load]
    return Load(
        model=LoadModel(loads[0]["model"]),
        duration_sec=loads[0]["duration_sec"],
        connections=sum(load["connections"] for load in loads),
        threads=sum(load["threads"] for load in loads),
        timeout_sec=loads[0]["timeout_sec"],
        target_rps=math.fsum(rates) if rates else None,
        warmup_sec=loads[0]["warmup_sec"],
        schedule=SendSchedule(loads[0]["schedule"]) if loads[0].get("schedule") else None,
    )


def _load_document(documents: Sequence[Document]) -> dict[str, Any]:
    whole = _load(documents)
    load = {**documents[0]["load"], "connections": whole.connections, "threads": whole.threads}
    if whole.target_rps is not None:
        load["target_rps"] = whole.target_rps
    return load


def _result(reports: Sequence[Report]) -> Result:
    """Return the whole run as the profilers' rules know it."""
    return side_by_side.together([_part(report) for report in reports])


def _part(report: Report) -> Result:
    """Return one machine's run, but for its timeline, which has a clock of its own."""
    result = report.document["result"]
    requests = result["requests"]
    return Result(
        duration_sec=result["duration_sec"],
        sent=requests["sent"],
        completed=requests["completed"],
        succeeded=requests["succeeded"],
        errors=_errors(result["errors"]),
        bytes_read=result.get("bytes_read"),
        bytes_written=result.get("bytes_written"),
        latency=_with_moments(report.latency, result.get("latency_ms")),
        service_time=_with_moments(report.service_time, result.get("service_time_ms")) if report.service_time else None,
        planned=requests.get("planned"),
        schedule=Schedule(**result["schedule"]) if "schedule" in result else None,
        generator=Generator(**result["generator"]) if "generator" in result else None,
    )


def _with_moments(histogram: Histogram, latency: Mapping[str, Any] | None) -> Histogram:
    """Give a histogram the mean and the deviation that the report states: they are finer than its buckets."""
    if latency is None:
        return histogram
    return Histogram(histogram.counts, 1000 * latency["mean"], 1000 * latency["stdev"])


def _errors(stated: Mapping[str, Any]) -> Errors:
    status = stated.get("status")
    return Errors(
        **{kind: stated[kind] for kind in _KINDS},
        status=None if status is None else {int(code): count for code, count in status.items()},
        unknown_status=stated.get("unknown_status", 0),
    )


def _result_document(reports: Sequence[Report], result: Result) -> dict[str, Any]:
    errors: dict[str, Any] = {kind: getattr(result.errors, kind) for kind in _KINDS}
    if result.errors.status is None:
        errors["unknown_status"] = result.errors.unknown_status
    else:
        errors["status"] = {str(code): count for code, count in sorted(result.errors.status.items())}
    histogram = {"encoding": ENCODING, "unit": "us", "latency": result.latency.encoded()}
    requests = {key: getattr(result, key) for key in ("planned", "sent", "completed", "succeeded")}
    document = {
        "duration_sec": result.duration_sec,
        "requests": _without_none(requests),
        "errors": errors,
        "requests_per_sec": result.requests_per_sec,
        "succeeded_per_sec": result.succeeded_per_sec,
        "bytes_read": result.bytes_read,
        "bytes_written": result.bytes_written,
        "latency_ms": _latency(reports, "latency_ms", result.latency),
        "histogram": histogram,
        "timeline": _timeline([report.document for report in reports]),
    }
    if result.service_time is not None:
        document["service_time_ms"] = _latency(reports, "service_time_ms", result.service_time)
        histogram["service_time"] = result.service_time.encoded()
    if result.schedule is not None:
        document["schedule"] = _without_none(vars(result.schedule))
    if result.generator is not None:
        document["generator"] = _without_none(vars(result.generator))
    return _without_none(document)


def _latency(reports: Sequence[Report], key: str, histogram: Histogram) -> dict[str, Any] | None:
    """Return the latency of the whole; its extremes are the parts' own."""
    parts = [report.document["result"][key] for report in reports if key in report.document["result"]]
    if not parts:
        return None
    return {
        "count": histogram.total,
        "min": min(part["min"] for part in parts),
        "mean": round(histogram.mean_us / 1000, 6),
        "stdev": round(histogram.stdev_us / 1000, 6),
        "max": max(part["max"] for part in parts),
        "percentiles": {percentile_name(percent): _percentile(histogram, percent) for percent in PERCENTILES},
    }


def _percentile(histogram: Histogram, percent: float) -> dict[str, Any]:
    found = histogram.percentile(percent)
    bounds = (found.lower_us, found.upper_us)
    return {
        "value": found.value_us / 1000,
        "ci95": [None if bound is None else bound / 1000 for bound in bounds],
        "certified": found.certified,
    }


def _timeline(documents: Sequence[Document]) -> list[dict[str, Any]]:
    """Add the seconds up on the earliest report's clock; their percentiles cannot be added and are null."""
    start = min(utc(document["started_at"]) for document in documents)
    seconds: dict[int, dict[str, Any]] = {}
    for document in documents:
        shift_sec = round((utc(document["started_at"]) - start).total_seconds())
        for one in document["result"]["timeline"]:
            t_sec = one["t_sec"] + shift_sec
            second = seconds.setdefault(
                t_sec,
                {"t_sec": t_sec, "requests_per_sec": 0, "latency_ms_50": None, "latency_ms_99": None, "errors": 0},
            )
            second["requests_per_sec"] += one["requests_per_sec"]
            second["errors"] += one["errors"]
    return [seconds[t_sec] for t_sec in sorted(seconds)]


def _verdict(reports: Sequence[Report], load: Load, result: Result, limits: Mapping[str, float]) -> dict[str, Any]:
    """Judge the whole, and keep what a part's own verdict says that the rules cannot see in its figures."""
    whole = judge(load, result, demands=limits)
    reasons, notes = list(whole.reasons), list(whole.notes)
    for report in reports:
        seen = judge(_load([report.document]), _part(report), demands=limits)
        own = report.document["verdict"]
        reasons += [f"{report.name}: {reason}" for reason in own["reasons"] if reason not in seen.reasons]
        notes += [note for note in own["notes"] if note not in (*seen.notes, *notes)]
    if any(report.document["result"]["timeline"] for report in reports):
        notes.append(side_by_side.NO_SECOND_PERCENTILES.format(count=len(reports)))
    return {"valid": not reasons, "reasons": reasons, "notes": notes}


def _usage(documents: Sequence[Document]) -> Usage:
    """The parts loaded one deployment and so saw the same metrics: the one that saw most minutes stands for all."""

    def seen(document: Document) -> tuple[bool, int]:
        minutes = max((len(one["series"]) for one in (document["resource_usage"] or {}).values()), default=0)
        return _whole_minutes(document) and minutes > 0, minutes

    most = max(documents, key=seen)
    reasons = dict.fromkeys(reason for one in documents for reason in one.get("resource_usage_reasons", ()))
    return Usage(most["resource_usage"], tuple(reasons), _whole_minutes(most))


def _whole_minutes(document: Document) -> bool:
    whole: bool = document.get("resource_usage_whole_minutes", True)
    return whole


def _cost(documents: Sequence[Document], succeeded_per_sec: float) -> dict[str, Any]:
    stated = documents[0]["target"]
    facts = {key: value for key, value in stated.items() if key not in ("scoring_uri", "instance_price_per_hour")}
    target = Target(stated["scoring_uri"], **facts)
    vcpus: list[int] = [one["cost"]["vcpus_per_instance"] for one in documents if one["cost"]["vcpus_per_instance"]]
    reasons: list[str] = [one["cost"]["reason"] for one in documents if "reason" in one["cost"]]
    cost = cost_of(target, vcpus[0] if vcpus else None, reasons[0] if reasons else None, succeeded_per_sec)
    document: dict[str, Any] = {
        "vcpus_per_instance": cost.vcpus_per_instance,
        "core_hour_per_million_requests": cost.core_hour_per_million_requests,
    }
    if "instance_price_per_hour" in stated:
        price = price_of(target, stated["instance_price_per_hour"], succeeded_per_sec)
        document["price_per_million_requests"] = price
    return document if cost.reason is None else {**document, "reason": cost.reason}


def _without_none(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if value is not None}
