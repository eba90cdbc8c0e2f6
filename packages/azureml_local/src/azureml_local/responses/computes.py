"""Computes."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from azureml_local.models.computes import put_compute as put_compute_resource
from azureml_local.responses.envelope import body_of, resource_body, resource_list, workspace_of
from azureml_local.responses.paths import WORKSPACE

COMPUTE = f"{WORKSPACE}/computes/{{compute}}"


def _id(request: Request) -> str:
    return f"{workspace_of(request).workspace_id}/computes/{request.path_params['compute']}"


async def list_computes(request: Request) -> JSONResponse:
    """List the computes."""
    plane = workspace_of(request)
    return resource_list(plane.store.children(f"{plane.workspace_id}/computes"))


async def get_compute(request: Request) -> JSONResponse:
    """Describe a compute."""
    return JSONResponse(resource_body(workspace_of(request).store.get(_id(request))))


async def put_compute(request: Request) -> JSONResponse:
    """Create or update a compute; it is there at once."""
    plane = workspace_of(request)
    resource, created = put_compute_resource(plane.store, _id(request), await body_of(request), plane.settings.location)
    return JSONResponse(resource_body(resource), status_code=201 if created else 200)


async def delete_compute(request: Request) -> Response:
    """Delete a compute; the jobs that run on it run on."""
    plane, compute_id = workspace_of(request), _id(request)
    if plane.store.find(compute_id) is None:
        return Response(status_code=204)
    plane.store.remove(compute_id)
    return Response(status_code=200)


ROUTES = [
    Route(f"{WORKSPACE}/computes", list_computes, methods=["GET"]),
    Route(COMPUTE, get_compute, methods=["GET"]),
    Route(COMPUTE, put_compute, methods=["PUT"]),
    Route(COMPUTE, delete_compute, methods=["DELETE"]),
]
