"""What a job's MLflow client logs to the run that the job is, and the best trial of a sweep by it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from azureml_local.exceptions import InvalidRequestError
from azureml_local.models.store import Resource

# The SDK's `jobs.download` of a sweep reads it among the job's properties.
BEST_TRIAL_PROPERTY = "best_child_run_id"
GOALS = ("maximize", "minimize")


@dataclass(frozen=True)
class Objective:
    """What makes a trial the best."""

    metric: str
    is_maximized: bool


def parse_objective(entry: Mapping[str, Any] | None) -> Objective | None:
    """Read a sweep's objective; raises InvalidRequestError."""
    if not entry:
        return None
    goal, metric = str(entry.get("goal") or "").lower(), entry.get("primaryMetric")
    if goal not in GOALS or not metric:
        raise InvalidRequestError("A sweep's objective needs a primary_metric, and maximize or minimize as its goal.")
    return Objective(str(metric), goal == "maximize")


def log_metrics(job: Resource, entries: Iterable[Mapping[str, Any]]) -> None:
    """Keep the latest value of each metric, by step and time, as MLflow shows it; raises InvalidRequestError."""
    points = [_point(entry) for entry in entries]
    kept = job.internal.setdefault("metrics", {})
    for point in points:
        known = kept.get(point["key"])
        if known is None or (known["step"], known["timestamp"]) <= (point["step"], point["timestamp"]):
            kept[point["key"]] = point


def _point(entry: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {
            "key": str(entry["key"]),
            # MLflow's JSON writes numbers that are none as words: NaN, Infinity.
            "value": float(entry["value"]),
            "timestamp": int(entry.get("timestamp") or 0),
            "step": int(entry.get("step") or 0),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidRequestError(f"This is not a metric: {dict(entry)!r}.") from error


def log_texts(job: Resource, kind: str, entries: Iterable[Mapping[str, Any]]) -> None:
    """Keep parameters or tags (`kind`: "params" or "tags"); raises InvalidRequestError."""
    texts: dict[str, str] = {}
    for entry in entries:
        if not entry.get("key"):
            raise InvalidRequestError(f"This is no entry of {kind}: {dict(entry)!r}.")
        texts[str(entry["key"])] = str(entry.get("value", ""))
    job.internal.setdefault(kind, {}).update(texts)


def logged(job: Resource) -> dict[str, list[dict[str, Any]]]:
    """Return all that a job has logged, as MLflow's `run.data`."""
    texts = {kind: job.internal.get(kind, {}) for kind in ("params", "tags")}
    return {
        "metrics": list(job.internal.get("metrics", {}).values()),
        **{kind: [{"key": key, "value": value} for key, value in found.items()] for kind, found in texts.items()},
    }


def best_trial(trials: Sequence[Resource], objective: Objective) -> tuple[Resource, float] | None:
    """Return the completed trial with the best value of the metric, and that value; None where none has logged it."""
    found = [
        (trial, float(point["value"]))
        for trial in trials
        if trial.properties["status"] == "Completed"
        and (point := trial.internal.get("metrics", {}).get(objective.metric)) is not None
        and math.isfinite(point["value"])
    ]
    return (max if objective.is_maximized else min)(found, key=lambda entry: entry[1], default=None)
