"""Run history, and where runs' outputs lie: what the SDK asks to follow and download a job, beside ARM."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from azureml_local.cloud import DISCOVERY_PATH
from azureml_local.exceptions import ResourceNotFoundError
from azureml_local.models.store import Resource
from azureml_local.plane import Plane
from azureml_local.responses.envelope import body_of, plane_of, workspace_of
from azureml_local.responses.paths import WORKSPACE
from azureml_local.runtime.command_jobs import JOB_TIMEOUT

HISTORY = f"/history/v1.0{WORKSPACE}"
RUN = f"{HISTORY}/runs/{{run}}"
RUN_OF_EXPERIMENT = f"{HISTORY}/experiments/{{experiment}}/runs/{{run}}"
DATA = f"/data/v1.0{WORKSPACE}"


def _run(request: Request) -> tuple[Plane, Resource]:
    plane = workspace_of(request)
    return plane, find_run(plane, request.path_params["run"])


def find_run(plane: Plane, name: str) -> Resource:
    """Return the job that a run is; raises ResourceNotFoundError."""
    found = plane.store.find(f"{plane.workspace_id}/jobs/{name}")
    if found is None:
        raise ResourceNotFoundError(f"The run '{name}' was not found.", "RunNotFound")
    return found


def _asset_id(plane: Plane, job: Resource, output: str) -> str:
    return f"azureml://locations/{plane.settings.location}/workspaces/local/data/azureml_{job.name}_output_{output}/versions/1"


def _error(job: Resource) -> dict[str, Any] | None:
    error = job.internal.get("error")
    is_told = job.properties["status"] == "Failed" or (error or {}).get("code") == JOB_TIMEOUT
    return {"error": error} if error and is_told else None


def _warnings(job: Resource) -> list[dict[str, str]]:
    """Return what the SDK prints of a job that has not failed: why it has been canceled, unless on request."""
    error = job.internal.get("error") or {}
    return [{"source": "limits.timeout", "message": error["message"]}] if error.get("code") == JOB_TIMEOUT else []


def _body(plane: Plane, job: Resource) -> dict[str, Any]:
    properties, parent = job.properties, job.internal.get("parent")
    return {
        "runId": job.name,
        "parentRunId": parent,
        "rootRunId": job.internal.get("root", job.name),
        "experimentId": str(properties["experimentName"]),
        "displayName": properties["displayName"],
        "description": properties.get("description"),
        "status": properties["status"],
        "createdTimeUtc": job.created_at,
        "createdUtc": job.created_at,
        "startTimeUtc": job.internal.get("started_at"),
        "endTimeUtc": job.internal.get("ended_at"),
        "lastModifiedUtc": job.modified_at,
        "tags": properties["tags"],
        "properties": properties["properties"],
        "hidden": properties["isArchived"],
        "error": _error(job),
        "runTypeV2": {"orchestrator": "Execution", "traits": [properties["jobType"]]},
        "outputs": {
            # The SDK looks a folder's or a file's place up under this one type.
            name: {"assetId": _asset_id(plane, job, name), "type": "uri_folder"}
            for name, output in properties["outputs"].items()
            if "uri" in output
        },
    }


async def get_run(request: Request) -> JSONResponse:
    """Describe a run."""
    return JSONResponse(_body(*_run(request)))


async def get_details(request: Request) -> JSONResponse:
    """Say how a run is and where its logs are."""
    plane, job = _run(request)
    return JSONResponse(
        {
            "runId": job.name,
            "status": job.properties["status"],
            "startTimeUtc": job.internal.get("started_at"),
            "endTimeUtc": job.internal.get("ended_at"),
            "error": _error(job),
            "warnings": _warnings(job),
            "properties": job.properties["properties"],
            "logFiles": {name: plane.jobs.files.log_url(job.name, name) for name in job.internal.get("logs", [])},
        }
    )


async def get_children(request: Request) -> JSONResponse:
    """List a run's children."""
    plane, job = _run(request)
    children = plane.jobs.children(job)
    if request.query_params.get("$top", "").isdigit():
        children = children[: int(request.query_params["$top"])]
    return JSONResponse({"value": [_body(plane, child) for child in children]})


async def get_run_data(request: Request) -> JSONResponse:
    """Describe a run that the body names."""
    plane = workspace_of(request)
    job = find_run(plane, str((await body_of(request)).get("runId")))
    return JSONResponse({"runMetadata": _body(plane, job)})


async def patch_run(request: Request) -> JSONResponse:
    """Change a job's name for display, description, tags, properties, or whether it is archived."""
    plane, job = _run(request)
    body = await body_of(request)
    for wire, name in (("displayName", "displayName"), ("description", "description"), ("hidden", "isArchived")):
        if body.get(wire) is not None:
            job.properties[name] = body[wire]
    for name in ("tags", "properties"):
        job.properties[name] = {**job.properties[name], **(body.get(name) or {})}
    plane.store.put(job)
    return JSONResponse(_body(plane, job))


async def resolve_uris(request: Request) -> JSONResponse:
    """Say where outputs lie."""
    plane = workspace_of(request)
    wanted = set((await body_of(request)).get("values") or [])
    found = {
        _asset_id(plane, job, name): {"uri": output["uri"], "type": output["jobOutputType"]}
        for job in plane.jobs.all()
        for name, output in job.properties["outputs"].items()
        if "uri" in output
    }
    return JSONResponse({"values": {name: found[name] for name in wanted if name in found}})


async def discover(request: Request) -> JSONResponse:
    """Say where the services beside ARM are: at the same address."""
    root = plane_of(request).settings.arm_url
    names = ("api", "experimentation", "history", "hyperdrive", "modelmanagement", "studio", "notebooks", "pipelines")
    return JSONResponse(dict.fromkeys(names, root))


ROUTES = [
    Route(DISCOVERY_PATH, discover, methods=["GET"]),
    Route(RUN, get_run, methods=["GET"]),
    Route(f"{RUN}/details", get_details, methods=["GET"]),
    Route(f"{RUN}/children", get_children, methods=["GET"]),
    Route(RUN_OF_EXPERIMENT, patch_run, methods=["PATCH"]),
    Route(f"{HISTORY}/rundata", get_run_data, methods=["POST"]),
    Route(f"{DATA}/dataversion/batchGetResolvedUris", resolve_uris, methods=["POST"]),
]
