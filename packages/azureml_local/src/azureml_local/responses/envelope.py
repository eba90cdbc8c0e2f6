"""Shapes that all answers share: resources, lists, errors, long-running operations."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from azureml_local.exceptions import AzureError, InvalidRequestError, ResourceNotFoundError
from azureml_local.models.resource_ids import PROVIDER
from azureml_local.models.store import Operation, Resource
from azureml_local.plane import Plane

# Without it the SDK waits 30 s between two polls, and it takes "Retry-After: 0" for no header at all.
POLL_HEADERS = {"x-ms-retry-after-ms": "100", "Retry-After-ms": "100"}
OPERATION_API_VERSION = "2023-04-01-preview"


def plane_of(request: Request) -> Plane:
    """Return the plane that the application serves."""
    plane = request.app.state.plane
    if not isinstance(plane, Plane):
        raise TypeError("the application has no plane")
    return plane


def workspace_of(request: Request) -> Plane:
    """Return the plane once the URL names its workspace; raises ResourceNotFoundError."""
    plane, wanted = plane_of(request), request.path_params
    check_subscription(request)
    if wanted["resource_group"].lower() != plane.settings.resource_group.lower():
        raise ResourceNotFoundError(
            f"Resource group '{wanted['resource_group']}' could not be found.", "ResourceGroupNotFound"
        )
    if wanted["workspace"].lower() != plane.settings.workspace_name.lower():
        raise ResourceNotFoundError(
            f"The Resource '{PROVIDER}/workspaces/{wanted['workspace']}' under resource group "
            f"'{wanted['resource_group']}' was not found."
        )
    return plane


def check_subscription(request: Request) -> None:
    """Refuse a subscription that is not the plane's."""
    wanted = request.path_params["subscription"]
    if wanted.lower() != plane_of(request).settings.subscription_id.lower():
        raise ResourceNotFoundError(f"The subscription '{wanted}' could not be found.", "SubscriptionNotFound")


async def body_of(request: Request) -> dict[str, Any]:
    """Return the request's JSON object; an absent body is an empty one."""
    raw = await request.body()
    if not raw:
        return {}
    try:
        document = json.loads(raw)
    except ValueError as error:
        raise InvalidRequestError(f"The request's body is not JSON: {error}", "InvalidRequestContent") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise InvalidRequestError("The request's body is not a JSON object.", "InvalidRequestContent")
    return document


def in_view(request: Request, resources: list[Resource]) -> list[Resource]:
    """Return those of the resources that a list shows: the active ones, unless listViewType asks for others."""
    view = request.query_params.get("listViewType", "ActiveOnly").lower()
    if view == "all":
        return resources
    return [entry for entry in resources if bool(entry.properties.get("isArchived")) == (view == "archivedonly")]


def resource_body(resource: Resource) -> dict[str, Any]:
    """Return a resource as the API shows it."""
    body: dict[str, Any] = {
        "id": resource.id,
        "name": resource.name,
        "type": resource.type,
        "systemData": {
            "createdAt": resource.created_at,
            "createdBy": "local",
            "createdByType": "User",
            "lastModifiedAt": resource.modified_at,
        },
        "properties": resource.properties,
    }
    if resource.location is not None:
        body |= {"location": resource.location, "tags": resource.tags}
    for name in ("identity", "sku", "kind"):
        value = getattr(resource, name)
        if value is not None:
            body[name] = value
    return body


def resource_list(resources: list[Resource]) -> JSONResponse:
    """Answer with a list."""
    return JSONResponse({"value": [resource_body(entry) for entry in resources]})


def operation_headers(plane: Plane, operation: Operation) -> dict[str, str]:
    """Return the headers that tell a client where to poll."""
    settings = plane.settings
    root = f"{settings.arm_url}/subscriptions/{settings.subscription_id}/providers/{PROVIDER}/locations"
    query = f"?api-version={OPERATION_API_VERSION}"
    return {
        "Azure-AsyncOperation": f"{root}/{settings.location}/mfeOperationsStatus/{operation.id}{query}",
        "Location": f"{root}/{settings.location}/mfeOperationResults/{operation.id}{query}",
        "x-ms-async-operation-timeout": "PT1H",
        **POLL_HEADERS,
    }


def accepted(plane: Plane, operation: Operation, body: Resource | None = None, *, created: bool = False) -> Response:
    """Answer that an operation has begun."""
    headers = operation_headers(plane, operation)
    if body is None:
        return Response(status_code=202, headers=headers)
    return JSONResponse(resource_body(body), status_code=201 if created else 200, headers=headers)


def error_response(error: AzureError) -> JSONResponse:
    """Answer with an error in Azure's shape."""
    headers = {}
    if error.status == 401:
        headers["WWW-Authenticate"] = f'Bearer error="invalid_token", error_description="{error.code}"'
    body = {"error": {"code": error.code, "message": error.message}}
    return JSONResponse(body, status_code=error.status, headers=headers)
