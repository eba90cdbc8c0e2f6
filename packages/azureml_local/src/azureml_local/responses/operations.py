"""Long-running operations: their status."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from azureml_local.models.store import Operation
from azureml_local.responses.envelope import POLL_HEADERS, check_subscription, plane_of, resource_body
from azureml_local.responses.paths import LOCATION


def _operation(request: Request) -> Operation:
    check_subscription(request)
    return plane_of(request).store.operation(request.path_params["operation"])


async def get_status(request: Request) -> JSONResponse:
    """Say how far an operation is."""
    operation = _operation(request)
    body: dict[str, Any] = {
        "id": operation.id,
        "name": operation.id,
        "status": operation.status,
        "startTime": operation.started_at,
    }
    if operation.ended_at is not None:
        body["endTime"] = operation.ended_at
    if operation.error is not None:
        body["error"] = operation.error
    return JSONResponse(body, headers=POLL_HEADERS if operation.status == "InProgress" else None)


async def get_result(request: Request) -> Response:
    """Return an operation's result once it has one."""
    operation = _operation(request)
    if operation.status == "InProgress":
        return Response(status_code=202, headers=POLL_HEADERS)
    if operation.error is not None:
        return JSONResponse({"error": operation.error}, status_code=409)
    resource = plane_of(request).store.find(operation.resource_id)
    return JSONResponse(resource_body(resource)) if resource else Response(status_code=204)


ROUTES = [
    Route(f"{LOCATION}/mfeOperationsStatus/{{operation}}", get_status, methods=["GET"]),
    Route(f"{LOCATION}/mfeOperationResults/{{operation}}", get_result, methods=["GET"]),
]
