"""Runs as a course makes them, with figures that a test states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from aml_tool_core.profiling import (
    Errors,
    Generator,
    Histogram,
    Load,
    LoadModel,
    Result,
    Schedule,
    Second,
    SendSchedule,
)
from aml_tool_core.profiling import sla as slas
from aml_tool_core.profiling.cost import Cost
from aml_tool_core.profiling.course import Plan
from aml_tool_core.profiling.deployment import Deployment, Usage
from aml_tool_core.profiling.engine import Installed
from aml_tool_core.profiling.metronome import metronome
from aml_tool_core.profiling.payload import Payload
from aml_tool_core.profiling.report import Provenance, Report
from aml_tool_core.profiling.runs import Failure, Point, Purpose, Run
from aml_tool_core.profiling.search import Finding
from aml_tool_core.profiling.standing import SUCCEEDED, stand
from aml_tool_core.profiling.survey import survey_of
from aml_tool_core.profiling.target import target_of
from aml_tool_core.profiling.verdict import judge

STARTED_AT = datetime(2026, 3, 14, 9, 26, 53, 589000, timezone.utc)
POINT = Point(Purpose.POINT, connections=4, duration_sec=10, target_rps=100.0)


def load_of(point: Point = POINT) -> Load:
    model = LoadModel.CLOSED if point.target_rps is None else LoadModel.OPEN
    schedule = None if point.target_rps is None else SendSchedule.CLOCK
    return point.of(Load(model, 1, 1, 1, 10.0, schedule=schedule))


def histogram(p99_ms: float, count: int, median_ms: float = 10.0) -> Histogram:
    """Return latencies of which 2 in 100 are at the p99 and the others at the median."""
    slow = max(1, round(0.02 * count))
    return Histogram.of([(round(1000 * median_ms), count - slow), (round(1000 * p99_ms), slow)])


def result_of(
    rate: float = 100.0, p99_ms: float = 20.0, *, duration_sec: int = 10, failed: int = 0, refused: int = 0,
    is_open: bool = True, own_delay_ms: float = 0.05, longest_delay_ms: float = 0.1,
    cpu_percent: float = 10.0, seconds_rate: float | None = None,
) -> Result:  # fmt: skip
    count = round(rate * duration_sec)
    seen = histogram(p99_ms, count) if count else Histogram.of(())
    return Result(
        duration_sec=float(duration_sec),
        sent=count,
        completed=count,
        succeeded=count - failed - refused,
        errors=Errors(status={code: number for code, number in ((500, failed), (429, refused)) if number}),
        bytes_read=count * 10,
        bytes_written=count * 10,
        latency=seen,
        service_time=seen if is_open else None,
        planned=count if is_open else None,
        schedule=Schedule(100.0, 0, 0, longest_delay_ms, 0, own_delay_ms, longest_delay_ms) if is_open else None,
        timeline=tuple(
            Second(t_sec, rate if seconds_rate is None else seconds_rate, 0, 10_000, round(1000 * p99_ms))
            for t_sec in range(duration_sec)
        ),
        generator=Generator(0.5, cpu_percent, 0.0),
    )


def run_of(
    number: int,
    rate: float = 100.0,
    p99_ms: float = 20.0,
    *,
    point: Point | None = None,
    demands: dict[str, float] | None = None,
    objective: str = SUCCEEDED,
    result: Result | None = None,
    cost: float | None = None,
) -> Run:
    at = point or replace(POINT, target_rps=rate)
    load, seen = load_of(at), result or result_of(rate, p99_ms, is_open=at.target_rps is not None)
    criteria = slas.judge(demands or {}, seen, Usage(None, ()))
    started_at = STARTED_AT + timedelta(seconds=20 * number)
    return Run(
        number=number,
        point=at,
        load=load,
        payload=Payload((b"{}",), "payload.jsonl", at.payload_class),
        started_at=started_at,
        ended_at=started_at + timedelta(seconds=10),
        repeats=(seen,),
        result=seen,
        verdict=judge(load, seen, demands=demands or {}),
        usage=None,
        cost=Cost(None, cost, None if cost else "not known"),
        criteria=criteria if demands else None,
        standing=stand(load, seen, criteria, objective),
    )


def document_of(
    plan: Plan, runs: list[Run], finding: Finding | None = None, failures: Sequence[Failure] = ()
) -> dict[str, Any]:
    """Return the report of a sweep or a search."""
    survey = survey_of(plan, runs, finding, failures)
    about = survey.about
    target = target_of({"scoring_uri": "http://127.0.0.1:1/score"}, "target.json")
    engine = Installed(metronome(SendSchedule.CLOCK), "/usr/bin/true", "0.1.0")
    return Report(
        Provenance("aml_labench_profiler", "0.1.0", engine, about.started_at, "c" * 64),
        Deployment(target, {}),
        about.load,
        about.payload,
        about.result,
        about.verdict,
        Usage(None, ("the scoring target names no endpoint_name",)),
        about.cost,
        about.repeats,
        about.criteria,
        None,
        survey,
    ).document()
