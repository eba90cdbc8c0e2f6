"""The part of report.json that a sweep or a search adds."""

from __future__ import annotations

from typing import Any

from aml_tool_core.profiling.choices import Choice, nearest_miss
from aml_tool_core.profiling.course import Search
from aml_tool_core.profiling.runs import Failure
from aml_tool_core.profiling.survey import Survey, misses_of


def survey_document(survey: Survey) -> dict[str, Any]:
    """Return what follows from the runs; the runs themselves are the report's."""
    document: dict[str, Any] = {
        "about_run": survey.about.number,
        "choices": [_choice(one) for one in survey.choices],
    }
    if survey.failures:
        document["failures"] = [_failure(one) for one in survey.failures]
    for choice, told in zip(survey.choices, document["choices"], strict=True):
        if told["best"] is None and not isinstance(survey.plan, Search):
            told["reason"] = survey.why_no_best(choice)
    if isinstance(survey.plan, Search):
        return {**document, "search": _search(survey, survey.plan)}
    return {**document, "sweep": {"axes": {name: list(values) for name, values in survey.plan.axes.items()}}}


def _choice(choice: Choice) -> dict[str, Any]:
    document: dict[str, Any] = {
        "objective": choice.objective,
        "better": choice.better,
        "best": None if choice.best is None else choice.best.number,
        "pareto_front": [run.number for run in choice.front],
        "knee": None,
    }
    if choice.payload_class is not None:
        document["payload_class"] = choice.payload_class
    if choice.knee is not None:
        run = choice.knee.run
        document["knee"] = {
            "run": run.number,
            "requests_per_sec": run.result.succeeded_per_sec,
            "latency_ms_99": run.result.latency.percentile(99.0).value_us / 1000,
            "depth": choice.knee.depth,
        }
    return document


def _failure(failure: Failure) -> dict[str, Any]:
    point = failure.point
    told = {
        "connections": point.connections,
        "target_rps": point.target_rps,
        "payload_class": point.payload_class,
        "reason": failure.reason,
    }
    return {name: value for name, value in told.items() if value is not None}


def _search(survey: Survey, plan: Search) -> dict[str, Any]:
    found = survey.finding
    assert found is not None, "a search finds something, be it nothing"
    document: dict[str, Any] = {
        "axis": plan.axis,
        "objective": plan.objective,
        "constraints": dict(plan.limits),
        "max_runs": plan.question.max_runs,
        "precision_percent": 100 * plan.question.precision,
        "answer": None,
        "stopped": found.stop.value,
        "reason": found.reason,
    }
    if found.load is not None and survey.answer is not None:
        document["answer"] = {
            "value": found.load,
            "interval": list(found.interval),
            "confirmed": found.confirmed,
            "run": survey.answer.number,
        }
        return document
    miss = nearest_miss(survey.runs)
    if miss is not None:
        value = miss.load.connections if plan.axis == "connections" else miss.load.target_rps
        document["nearest_miss"] = {"run": miss.number, "value": value, "misses": list(misses_of(miss))}
    return document
