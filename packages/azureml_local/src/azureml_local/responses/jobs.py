"""Jobs."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from azureml_local.models.jobs import artifact_uri, is_terminal
from azureml_local.models.store import Resource
from azureml_local.plane import Plane
from azureml_local.responses.envelope import accepted, body_of, in_view, resource_body, workspace_of
from azureml_local.responses.paths import WORKSPACE

JOB = f"{WORKSPACE}/jobs/{{job}}"


def _id(request: Request) -> str:
    return f"{workspace_of(request).workspace_id}/jobs/{request.path_params['job']}"


def _job(request: Request) -> tuple[Plane, Resource]:
    plane = workspace_of(request)
    return plane, plane.store.get(_id(request))


def _shown(job: Resource) -> dict[str, Any]:
    """Return a job as the API shows it.

    The default output is shown once the job has ended: while one runs, the SDK would follow its log in that datastore
    with a signature that it makes from the account key, which is never handed out here; without it, it takes the
    log's address from the run's details.
    """
    body = resource_body(job)
    if is_terminal(job):
        default = {"jobOutputType": "uri_folder", "mode": "ReadWriteMount", "uri": artifact_uri(job.name)}
        body["properties"] = {**job.properties, "outputs": {**job.properties["outputs"], "default": default}}
    return body


async def list_jobs(request: Request) -> JSONResponse:
    """List the jobs that are nobody's children, newest first."""
    found = [job for job in reversed(workspace_of(request).jobs.all()) if "parent" not in job.internal]
    found = in_view(request, found)
    for name, wanted in (("tag", "tags"), ("jobType", "jobType")):
        asked = request.query_params.get(name)
        if asked and name == "tag":
            found = [job for job in found if asked.partition("=")[0] in job.properties[wanted]]
        elif asked:
            found = [job for job in found if job.properties[wanted].lower() == asked.lower()]
    return JSONResponse({"value": [_shown(job) for job in found]})


async def get_job(request: Request) -> JSONResponse:
    """Describe a job."""
    return JSONResponse(_shown(_job(request)[1]))


async def put_job(request: Request) -> JSONResponse:
    """Submit a job."""
    plane, body = workspace_of(request), await body_of(request)
    return JSONResponse(_shown(plane.jobs.submit(_id(request), body)), status_code=201)


async def cancel_job(request: Request) -> Response:
    """Cancel a job; one that has ended stays as it is."""
    plane, job = _job(request)
    if is_terminal(job):
        return Response(status_code=200)
    return accepted(plane, plane.cancel_job(job))


async def delete_job(request: Request) -> Response:
    """Forget a job that has ended."""
    plane = workspace_of(request)
    job = plane.store.find(_id(request))
    if job is None:
        return Response(status_code=204)
    plane.jobs.remove(job)
    return Response(status_code=200)


ROUTES = [
    Route(f"{WORKSPACE}/jobs", list_jobs, methods=["GET"]),
    Route(JOB, get_job, methods=["GET"]),
    Route(JOB, put_job, methods=["PUT"]),
    Route(JOB, delete_job, methods=["DELETE"]),
    Route(f"{JOB}/cancel", cancel_job, methods=["POST"]),
]
