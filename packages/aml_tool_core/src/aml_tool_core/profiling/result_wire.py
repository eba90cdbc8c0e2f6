"""A result and a load as JSON, to the letter: how a node tells another what it measured, and what to measure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from aml_tool_core.profiling.histogram import Histogram
from aml_tool_core.profiling.load import Load, LoadModel, SendSchedule
from aml_tool_core.profiling.result import Errors, Generator, NodePart, Result, Schedule, Second


def result_as_json(result: Result) -> dict[str, Any]:
    """Return all of a result."""
    return asdict(result)


def result_of(told: Mapping[str, Any]) -> Result:
    """Return the result that was told. Raises ValueError, KeyError, TypeError where it is none."""
    errors = dict(told["errors"])
    if errors["status"] is not None:
        errors["status"] = {int(code): count for code, count in errors["status"].items()}
    schedule, generator = told["schedule"], told["generator"]
    latency = _histogram(told["latency"])
    if latency is None:
        raise ValueError("it has no latency")
    parts = {
        "errors": Errors(**errors),
        "latency": latency,
        "service_time": _histogram(told["service_time"]),
        "schedule": None if schedule is None else Schedule(**schedule),
        "timeline": tuple(Second(**second) for second in told["timeline"]),
        "generator": None if generator is None else Generator(**generator),
        "notes": tuple(told["notes"]),
        "nodes": tuple(NodePart(**part) for part in told["nodes"]),
    }
    return Result(**{**told, **parts})


def load_as_json(load: Load) -> dict[str, Any]:
    """Return all of a load."""
    schedule = None if load.schedule is None else load.schedule.value
    return {**asdict(load), "model": load.model.value, "schedule": schedule}


def load_of(told: Mapping[str, Any]) -> Load:
    """Return the load that was told."""
    schedule = told["schedule"]
    parts = {"model": LoadModel(told["model"]), "schedule": None if schedule is None else SendSchedule(schedule)}
    return Load(**{**told, **parts})


def _histogram(told: Mapping[str, Any] | None) -> Histogram | None:
    if told is None:
        return None
    counts = tuple((int(value), int(count)) for value, count in told["counts"])
    return Histogram(counts, told["exact_mean_us"], told["exact_stdev_us"])
