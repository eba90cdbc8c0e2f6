"""AzureML's Metrics tab: the main figures of a report, logged to the MLflow run that the job is.

AzureML tells its jobs of that run by MLflow's own variables. The client runs in a process of its own: it is large, it
retries, and whatever becomes of it, the report is written and the run is over.
"""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from aml_tool_core import logs, processes
from aml_tool_core.errors import ToolError
from aml_tool_core.profiling.result import percent_of_requests
from aml_tool_core.profiling.sla import CPU_METRIC
from aml_tool_core.scratch import scratch_folder

log = logging.getLogger(__name__)

URI_VARIABLE, RUN_VARIABLE = "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"
_SECRETS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD")
_LIMIT_SEC = 60.0
_CLIENT = "aml_tool_core.profiling.tracking_client"
_CLIENT_SETTINGS = {
    # One attempt and a second, within the limit above; mlflow's own defaults would take minutes.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    # Nobody but the workspace is told of the run.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


def publish(document: Mapping[str, Any]) -> None:
    """Log a report's main figures where the environment names an MLflow run. Never fails: at worst, one warning."""
    if os.environ.get(URI_VARIABLE) and os.environ.get(RUN_VARIABLE):
        log_metrics(figures(document))


def log_metrics(metrics: Mapping[str, float]) -> None:
    """Log metrics where the environment names an MLflow run. Never fails: at worst, one warning."""
    if not (os.environ.get(URI_VARIABLE) and os.environ.get(RUN_VARIABLE)):
        return
    for secret in _SECRETS:
        logs.hide(os.environ.get(secret))
    problem = _logged(metrics)
    if problem is None:
        log.info("the main figures are logged to MLflow run %s", os.environ[RUN_VARIABLE])
    else:
        log.warning("the figures are not on the Metrics tab, but in the report: %s", problem)


def figures(document: Mapping[str, Any]) -> dict[str, float]:
    """Return a report's main figures by the names that an SLA has for them; what is not known is left out."""
    result = document["result"]
    requests, errors = result["requests"], result["errors"]
    status = errors.get("status", {})
    refused = status.get("429", 0)
    wrong = sum(errors[kind] for kind in ("connect", "read", "write", "timeout")) + sum(status.values())
    wrong += errors.get("unknown_status", 0)
    found: dict[str, float | None] = {
        "requests_sent": requests["sent"],
        "requests_succeeded": requests["succeeded"],
        "requests_per_sec": result["requests_per_sec"],
        "succeeded_per_sec": result["succeeded_per_sec"],
        "error_percent": percent_of_requests(wrong - refused, requests["sent"], wrong, requests["succeeded"]),
        "refused_percent": percent_of_requests(refused, requests["sent"], wrong, requests["succeeded"])
        if "status" in errors
        else None,
        "timely_sends_percent": result.get("schedule", {}).get("timely_sends_percent"),
        "cpu_percent_max": _cpu_percent_max(document),
        "core_hour_per_million_requests": document["cost"]["core_hour_per_million_requests"],
        "price_per_million_requests": document["cost"].get("price_per_million_requests"),
        "valid": float(document["verdict"]["valid"]),
        "sla_met": float(document["sla"]["met"]) if "sla" in document else None,
    }
    if "search" in document:
        found |= _searched(document["search"])
    for latency in ("latency_ms", "service_time_ms"):
        if latency in result:
            found |= {f"{latency}_{name}": result[latency][name] for name in ("mean", "max")}
            found |= {f"{latency}_{name}": one["value"] for name, one in result[latency]["percentiles"].items()}
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}


def _searched(search: Mapping[str, Any]) -> dict[str, float | None]:
    """Return what a search found: the load, where it lies at 95 %, and whether it is confirmed (0 without one)."""
    answer = search["answer"]
    if answer is None:
        return {"search_confirmed": 0.0}
    low, high = answer["interval"]
    return {
        "search_answer": answer["value"],
        "search_answer_low": low,
        "search_answer_high": high,
        "search_confirmed": float(answer["confirmed"]),
    }


def _cpu_percent_max(document: Mapping[str, Any]) -> float | None:
    if not document.get("resource_usage_whole_minutes", True):
        return None  # as in an SLA: other traffic is in the figure
    maximum: float | None = ((document["resource_usage"] or {}).get(CPU_METRIC) or {}).get("maximum")
    return maximum


def _logged(metrics: Mapping[str, float]) -> str | None:
    """Log metrics; return what went wrong, or None."""
    try:
        with scratch_folder("aml-profiler-") as folder:
            path = folder / "metrics.json"
            path.write_text(json.dumps(metrics), encoding="utf-8")
            command, env = [sys.executable, "-m", _CLIENT, str(path)], os.environ | _CLIENT_SETTINGS
            with processes.running(command, env=env) as client:
                _, said = client.communicate(timeout=_LIMIT_SEC)
    except subprocess.TimeoutExpired:
        return f"MLflow did not answer within {_LIMIT_SEC:.0f} s"
    except ToolError as error:
        return str(error)
    if client.returncode == 0:
        return None
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"MLflow's client ended with {client.returncode}"
