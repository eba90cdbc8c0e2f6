"""Online deployments."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from azureml_local.exceptions import ConflictError, InvalidRequestError
from azureml_local.models.deployments import put_deployment as put_deployment_resource
from azureml_local.models.resource_ids import deployment_id
from azureml_local.models.store import Resource
from azureml_local.responses.envelope import accepted, body_of, resource_body, resource_list, workspace_of
from azureml_local.responses.paths import DEPLOYMENT, ENDPOINT

MOST_LOG_LINES = 100_000
LIMITS_PROPERTY = "azureml_local.limits"


def _id(request: Request) -> str:
    plane, wanted = workspace_of(request), request.path_params
    endpoint = plane.store.find(plane.endpoint_id(wanted["endpoint"]))
    name = endpoint.name if endpoint else wanted["endpoint"]
    return deployment_id(plane.workspace_id, name, wanted["deployment"])


async def list_deployments(request: Request) -> JSONResponse:
    """List an endpoint's deployments."""
    plane = workspace_of(request)
    endpoint = plane.store.get(plane.endpoint_id(request.path_params["endpoint"]))
    return resource_list(plane.deployments_of(endpoint.id))


async def get_deployment(request: Request) -> JSONResponse:
    """Describe a deployment."""
    return JSONResponse(_described(workspace_of(request).store.get(_id(request))))


def _described(resource: Resource) -> dict[str, Any]:
    """Return a deployment with what holds its instances to their size among its free properties."""
    body = resource_body(resource)
    limits = resource.internal.get("limits")
    if limits:
        free = {**(resource.properties.get("properties") or {}), LIMITS_PROPERTY: limits}
        body["properties"] = {**resource.properties, "properties": free}
    return body


async def put_deployment(request: Request) -> Response:
    """Create or update a deployment."""
    plane = workspace_of(request)
    resource_id, body = _id(request), await body_of(request)
    endpoint = plane.store.get(plane.endpoint_id(request.path_params["endpoint"]))
    if endpoint.provisioning_state == "Deleting":
        raise ConflictError(f"The endpoint '{endpoint.name}' is being deleted; it takes no deployments any more.")
    plane.store.check_idle(resource_id)
    resource, created = put_deployment_resource(plane.store, resource_id, body, plane.settings.location)
    return accepted(plane, plane.apply_deployment(resource), resource, created=created)


async def delete_deployment(request: Request) -> Response:
    """Delete a deployment."""
    plane = workspace_of(request)
    resource = plane.store.find(_id(request))
    if resource is None:
        return Response(status_code=204)
    return accepted(plane, plane.delete_deployment(resource))


async def get_logs(request: Request) -> JSONResponse:
    """Return the end of a container's log."""
    plane = workspace_of(request)
    resource, body = plane.store.get(_id(request)), await body_of(request)
    tail = body.get("tail") or 500
    if isinstance(tail, bool) or not isinstance(tail, int) or not 0 < tail <= MOST_LOG_LINES:
        raise InvalidRequestError(f"tail must be a whole number from 1 to {MOST_LOG_LINES}, not {tail!r}.")
    container = str(body.get("containerType") or "InferenceServer")
    return JSONResponse({"content": plane.deployments.logs(resource, tail, container)})


ROUTES = [
    Route(f"{ENDPOINT}/deployments", list_deployments, methods=["GET"]),
    Route(DEPLOYMENT, get_deployment, methods=["GET"]),
    Route(DEPLOYMENT, put_deployment, methods=["PUT"]),
    Route(DEPLOYMENT, delete_deployment, methods=["DELETE"]),
    Route(f"{DEPLOYMENT}/getLogs", get_logs, methods=["POST"]),
]
