"""report.json: one shape for every engine; a figure that there is not is null or absent, with its reason beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from aml_tool_core.profiling import repeats
from aml_tool_core.profiling.cost import Cost
from aml_tool_core.profiling.deployment import Deployment, Usage
from aml_tool_core.profiling.engine import Installed
from aml_tool_core.profiling.histogram import ENCODING, PERCENTILES, Histogram, Percentile
from aml_tool_core.profiling.load import Load
from aml_tool_core.profiling.payload import Payload
from aml_tool_core.profiling.result import Errors, NodePart, Result, Schedule, Second
from aml_tool_core.profiling.runs import Run
from aml_tool_core.profiling.sla import Criterion
from aml_tool_core.profiling.survey import Survey
from aml_tool_core.profiling.survey_report import survey_document
from aml_tool_core.profiling.verdict import Verdict

VERSION = "1.0"
FILE_NAME = "report.json"
PAGE_NAME = "report.html"


@dataclass(frozen=True)
class Provenance:
    """What the run was made by and from."""

    tool_name: str
    tool_version: str
    engine: Installed
    started_at: datetime
    config_sha256: str


@dataclass(frozen=True)
class Report:
    """All parts of a report."""

    provenance: Provenance
    deployment: Deployment
    load: Load
    payload: Payload
    result: Result
    verdict: Verdict
    usage: Usage
    cost: Cost
    repeats: tuple[Result, ...] = ()  # each run of a repeated one
    criteria: tuple[Criterion, ...] | None = None  # None without an SLA
    instance_price_per_hour: float | None = None
    survey: Survey | None = None  # the sweep or the search that the other parts are the answer of

    def document(self) -> dict[str, Any]:
        """Return the report as its schema has it."""
        document: dict[str, Any] = {
            "version": VERSION,
            "tool": {
                "name": self.provenance.tool_name,
                "version": self.provenance.tool_version,
                "engine": {"name": self.provenance.engine.engine.name, "version": self.provenance.engine.version},
            },
            "started_at": timestamp(self.provenance.started_at),
            "provenance": _without_none(
                {
                    "config_sha256": self.provenance.config_sha256,
                    "payload_sha256": self.payload.sha256,
                    "model_sha256": self.deployment.model_sha256,
                }
            ),
            "target": _target(self.deployment, self.instance_price_per_hour),
            "load": _load(self.load, self.payload),
            "result": _result(self.result) | _repeats(self.repeats),
            "verdict": _verdict(self.verdict),
            "resource_usage": self.usage.metrics,
            "cost": _cost(self.cost, has_price=self.instance_price_per_hour is not None),
        }
        if self.criteria is not None:
            document["sla"] = sla_document(self.criteria)
        if self.usage.metrics is not None:
            document["resource_usage_whole_minutes"] = self.usage.whole_minutes
        if self.usage.reasons:
            document["resource_usage_reasons"] = list(self.usage.reasons)
        if self.result.nodes:
            document["nodes"] = [_node(part) for part in self.result.nodes]
        if self.survey is not None:
            document["runs"] = [self._run(run) for run in self.survey.runs]
            document |= survey_document(self.survey)
        return document

    def _run(self, run: Run) -> dict[str, Any]:
        document: dict[str, Any] = {
            "number": run.number,
            "purpose": run.point.purpose.value,
            "started_at": timestamp(run.started_at),
            "ended_at": timestamp(run.ended_at),
            "load": _load(run.load, run.payload),
            "result": _result(run.result) | _repeats(run.repeats),
            "verdict": _verdict(run.verdict),
            "usable": run.standing.usable,
            "feasible": run.standing.feasible,
            "cost": _cost(run.cost, has_price=self.instance_price_per_hour is not None),
        }
        return document if run.criteria is None else {**document, "sla": sla_document(run.criteria)}


def _node(part: NodePart) -> dict[str, Any]:
    document = asdict(part) | {
        "clock_error_ms": round(part.clock_error_ms, 6),
        "clock_drift_ms": round(part.clock_drift_ms, 6),
    }
    return _without_none(document)


def timestamp(at: datetime) -> str:
    """Return a UTC time as the report shows it."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


def percentile_name(percent: float) -> str:
    """Return a percentile's key: `50`, `99.9`."""
    return f"{percent:g}"


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {"valid": verdict.valid, "reasons": list(verdict.reasons), "notes": list(verdict.notes)}


def _target(deployment: Deployment, instance_price_per_hour: float | None) -> dict[str, Any]:
    target = deployment.target
    return _without_none(
        {
            "scoring_uri": target.shown_uri,
            "endpoint_name": target.endpoint_name,
            "deployment_name": target.deployment_name,
            "sku": target.sku,
            "location": target.location,
            "instance_count": target.instance_count,
            "worker_count": target.worker_count,
            "max_concurrent_requests_per_instance": target.max_concurrent_requests_per_instance,
            "instance_price_per_hour": instance_price_per_hour,
        }
    )


def _load(load: Load, payload: Payload) -> dict[str, Any]:
    document: dict[str, Any] = {
        "model": load.model.value,
        "duration_sec": load.duration_sec,
        "connections": load.connections,
        "threads": load.threads,
        "target_rps": load.target_rps,
        "timeout_sec": load.timeout_sec,
        "warmup_sec": load.warmup_sec,
        "method": payload.method,
    }
    if payload.bodies:
        document["payload"] = {
            "source": payload.source,
            "bodies": len(payload.bodies),
            "bytes_mean": payload.bytes_mean,
        }
        if payload.name is not None:
            document["payload"]["class"] = payload.name
    # Null in a closed loop: there it is known that there is none.
    return {**_without_none(document), "schedule": None if load.schedule is None else load.schedule.value}


def _result(result: Result) -> dict[str, Any]:
    histogram = {"encoding": ENCODING, "unit": "us", "latency": result.latency.encoded()}
    document: dict[str, Any] = {
        "duration_sec": result.duration_sec,
        "stopped_early": result.stopped_early,
        "requests": _without_none(
            {
                "planned": result.planned,
                "sent": result.sent,
                "completed": result.completed,
                "succeeded": result.succeeded,
            }
        ),
        "errors": _errors(result.errors),
        "requests_per_sec": result.requests_per_sec,
        "succeeded_per_sec": result.succeeded_per_sec,
        "bytes_read": result.bytes_read,
        "bytes_written": result.bytes_written,
        "latency_ms": _latency(result.latency),
        "histogram": histogram,
        "timeline": [_second(second) for second in result.timeline],
    }
    if result.service_time is not None:
        document["service_time_ms"] = _latency(result.service_time)
        histogram["service_time"] = result.service_time.encoded()
    if result.schedule is not None:
        document["schedule"] = _schedule(result.schedule)
    if result.generator is not None:
        document["generator"] = _without_none(
            {
                "cpu_sec": result.generator.cpu_sec,
                "cpu_percent_of_threads": result.generator.cpu_percent_of_threads,
                "run_queue_wait_percent": result.generator.run_queue_wait_percent,
            }
        )
    return _without_none(document)


def _repeats(runs: Sequence[Result]) -> dict[str, Any]:
    if len(runs) < 2:
        return {}
    spreads = {
        metric: {"minimum": spread.minimum, "median": spread.median, "maximum": spread.maximum}
        for metric, spread in repeats.spreads(runs).items()
    }
    return {"repeats": [_result(run) for run in runs], "spread": spreads}


def sla_document(criteria: Sequence[Criterion]) -> dict[str, Any]:
    """Return criteria as the report shows them."""
    return {"met": all(each.met for each in criteria), "criteria": [_criterion(each) for each in criteria]}


def _criterion(criterion: Criterion) -> dict[str, Any]:
    document: dict[str, Any] = {
        "metric": criterion.metric,
        "limit": criterion.limit,
        "value": criterion.value,
        "met": criterion.met,
    }
    if criterion.certified is not None:
        document["certified"] = criterion.certified
    if criterion.value is None and criterion.reason:
        document["reason"] = criterion.reason
    return document


def _errors(errors: Errors) -> dict[str, Any]:
    document: dict[str, Any] = {
        "connect": errors.connect,
        "read": errors.read,
        "write": errors.write,
        "timeout": errors.timeout,
    }
    if errors.status is not None:
        document["status"] = {str(code): count for code, count in sorted(errors.status.items())}
    else:
        document["unknown_status"] = errors.unknown_status
    return document


def _latency(histogram: Histogram) -> dict[str, Any] | None:
    if not histogram.total:
        return None
    return {
        "count": histogram.total,
        "min": _ms(histogram.min_us),
        "mean": _ms(histogram.mean_us),
        "stdev": _ms(histogram.stdev_us),
        "max": _ms(histogram.max_us),
        "percentiles": {percentile_name(p): _percentile(histogram.percentile(p)) for p in PERCENTILES},
    }


def _percentile(percentile: Percentile) -> dict[str, Any]:
    bounds = [percentile.lower_us, percentile.upper_us]
    return {
        "value": _ms(percentile.value_us),
        "ci95": [None if bound is None else _ms(bound) for bound in bounds],
        "certified": percentile.certified,
    }


def _schedule(schedule: Schedule) -> dict[str, Any]:
    return _without_none(
        {
            "timely_sends_percent": schedule.timely_sends_percent,
            "late": schedule.late,
            "missed": schedule.missed,
            "late_busy": schedule.late_busy,
            "max_delay_ms": schedule.max_delay_ms,
            "own_delay_ms_99": schedule.own_delay_ms_99,
            "own_delay_ms_max": schedule.own_delay_ms_max,
        }
    )


def _second(second: Second) -> dict[str, Any]:
    return {
        "t_sec": second.t_sec,
        "requests_per_sec": second.requests_per_sec,
        "latency_ms_50": None if second.latency_us_50 is None else _ms(second.latency_us_50),
        "latency_ms_99": None if second.latency_us_99 is None else _ms(second.latency_us_99),
        "errors": second.errors,
    }


def _cost(cost: Cost, *, has_price: bool) -> dict[str, Any]:
    document: dict[str, Any] = {
        "vcpus_per_instance": cost.vcpus_per_instance,
        "core_hour_per_million_requests": cost.core_hour_per_million_requests,
    }
    if has_price:
        document["price_per_million_requests"] = cost.price_per_million_requests
    if cost.reason is not None:
        document["reason"] = cost.reason
    return document


def _ms(us: float) -> float:
    return round(us / 1000, 6)


def _without_none(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if value is not None}
