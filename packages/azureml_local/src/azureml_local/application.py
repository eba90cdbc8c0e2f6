"""The two ASGI applications: the REST API (over TLS) and the managed-identity endpoint."""

from __future__ import annotations

import uuid

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from azureml_local import tokens
from azureml_local.cloud import DISCOVERY_PATH, METADATA_PATH
from azureml_local.exceptions import AzureError, DeploymentError, JobError, ResourceNotFoundError, UnauthorizedError
from azureml_local.plane import Plane
from azureml_local.responses import (
    assets,
    computes,
    datastores,
    faults,
    identity,
    jobs,
    metadata,
    metrics,
    online_deployments,
    online_endpoints,
    operations,
    run_history,
    tracking,
    vm_sizes,
    workspaces,
)
from azureml_local.responses.envelope import error_response
from azureml_local.responses.paths import CanonicalPath

# A new resource kind is added here: its module brings its own routes.
ARM_ROUTES = [
    *metadata.ROUTES,
    *workspaces.ROUTES,
    *datastores.ROUTES,
    *assets.ROUTES,
    *online_endpoints.ROUTES,
    *online_deployments.ROUTES,
    *computes.ROUTES,
    *jobs.ROUTES,
    *run_history.ROUTES,
    *tracking.ROUTES,
    *operations.ROUTES,
    *vm_sizes.ROUTES,
    *metrics.ROUTES,
    *faults.ROUTES,
]


# What says where tokens come from and where to ask; Azure serves these without a token, too.
PUBLIC_PATHS = (METADATA_PATH, DISCOVERY_PATH)


class BearerToken:
    """ASGI middleware: a valid token, save for the public paths."""

    def __init__(self, app: ASGIApp, plane: Plane) -> None:
        self._app = app
        self._plane = plane

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401."""
        if scope["type"] == "http" and scope["path"] not in PUBLIC_PATHS:
            try:
                authorization = Request(scope).headers.get("authorization")
                tokens.verify(self._plane.secrets.signing_key, authorization, self._plane.settings.arm_url)
            except UnauthorizedError as error:
                await error_response(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class RequestId:
    """ASGI middleware that gives every answer an id, as Azure does."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and add the header to its answer."""

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-ms-request-id", str(uuid.uuid4()).encode())]
            await send(message)

        await self._app(scope, receive, send_with_id)


async def _azure_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, AzureError):
        raise error
    return error_response(error)


async def _deployment_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, DeploymentError):
        raise error
    return error_response(AzureError(error.message, error.code))


async def _job_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, JobError):
        raise error
    return error_response(AzureError(error.message, error.code))


async def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == 404:
        return error_response(ResourceNotFoundError(f"{request.url.path}: no such path here.", "NotFound"))
    failure = AzureError(f"{request.method} {request.url.path}: {error.detail}", "MethodNotAllowed")
    failure.status = error.status_code
    return error_response(failure)


async def _defect(request: Request, error: Exception) -> Response:
    return error_response(AzureError(f"{type(error).__name__}: {error}"))


def arm_application(plane: Plane) -> Starlette:
    """Return the REST API."""
    application = Starlette(
        routes=ARM_ROUTES,
        middleware=[
            Middleware(RequestId),
            Middleware(faults.FaultyService, faults=plane.faults),
            Middleware(BearerToken, plane=plane),
            Middleware(CanonicalPath),
        ],
        exception_handlers={
            AzureError: _azure_error,
            DeploymentError: _deployment_error,
            JobError: _job_error,
            HTTPException: _http_error,
            Exception: _defect,
        },
    )
    application.state.plane = plane
    return application


def identity_application(plane: Plane) -> Starlette:
    """Return the managed-identity endpoint."""
    application = Starlette(routes=identity.ROUTES, middleware=[Middleware(faults.FaultyService, faults=plane.faults)])
    application.state.plane = plane
    return application
