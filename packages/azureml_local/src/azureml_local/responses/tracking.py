"""MLflow's REST API, as far as a job logs to its own run: https://mlflow.org/docs/latest/rest-api.html."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from azureml_local.models import tracking
from azureml_local.models.store import Resource
from azureml_local.plane import Plane
from azureml_local.responses.envelope import body_of, workspace_of
from azureml_local.responses.paths import WORKSPACE
from azureml_local.responses.run_history import find_run

# Clients of Azure say v1.0 or v2.0, and mean the same.
RUNS = f"/mlflow/{{version}}{WORKSPACE}/api/2.0/mlflow/runs"
# What MLflow calls a job's states.
STATES = {"Completed": "FINISHED", "Failed": "FAILED", "Canceled": "KILLED", "Queued": "SCHEDULED"}


def _run(request: Request, run_id: object) -> tuple[Plane, Resource]:
    plane = workspace_of(request)
    return plane, find_run(plane, str(run_id or ""))


def _info(job: Resource) -> dict[str, Any]:
    return {
        "run_id": job.name,
        "run_uuid": job.name,
        "run_name": job.properties["displayName"],
        "experiment_id": str(job.properties["experimentName"]),
        "status": STATES.get(str(job.properties["status"]), "RUNNING"),
        "lifecycle_stage": "active",
    }


async def get_run(request: Request) -> JSONResponse:
    """Describe a run with all that it has logged."""
    query = request.query_params
    _, job = _run(request, query.get("run_id") or query.get("run_uuid"))
    return JSONResponse({"run": {"info": _info(job), "data": tracking.logged(job)}})


async def update_run(request: Request) -> JSONResponse:
    """Answer a client that sets its run's state: a job's state is the job's own."""
    body = await body_of(request)
    return JSONResponse({"run_info": _info(_run(request, body.get("run_id") or body.get("run_uuid"))[1])})


def _logs(keep: Callable[[Resource, Mapping[str, Any]], None]) -> Callable[[Request], Any]:
    async def answer(request: Request) -> JSONResponse:
        body = await body_of(request)
        plane, job = _run(request, body.get("run_id") or body.get("run_uuid"))
        keep(job, body)
        plane.store.save()
        return JSONResponse({})

    return answer


def _batch(job: Resource, body: Mapping[str, Any]) -> None:
    tracking.log_metrics(job, body.get("metrics") or [])
    for kind in ("params", "tags"):
        tracking.log_texts(job, kind, body.get(kind) or [])


ROUTES = [
    Route(f"{RUNS}/get", get_run, methods=["GET"]),
    Route(f"{RUNS}/update", update_run, methods=["POST"]),
    Route(f"{RUNS}/log-batch", _logs(_batch), methods=["POST"]),
    Route(f"{RUNS}/log-metric", _logs(lambda job, body: tracking.log_metrics(job, [body])), methods=["POST"]),
    Route(
        f"{RUNS}/log-parameter", _logs(lambda job, body: tracking.log_texts(job, "params", [body])), methods=["POST"]
    ),
    Route(f"{RUNS}/set-tag", _logs(lambda job, body: tracking.log_texts(job, "tags", [body])), methods=["POST"]),
]
