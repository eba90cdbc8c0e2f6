"""Faults on request: the middleware that lets calls go wrong, and the control route that queues them.

No part of Azure: the paths begin with the plane's own name, and no fault strikes them.
"""

from __future__ import annotations

import math
from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from azureml_local.exceptions import AzureError
from azureml_local.models.faults import Fault, Faults, Queued, known_faults, parse_fault
from azureml_local.responses.envelope import body_of, error_response, plane_of
from azureml_local.responses.paths import canonical

CONTROL_PATH = "/azureml_local"
FAULTS_PATH = f"{CONTROL_PATH}/faults"
CALLS_PATH = f"{CONTROL_PATH}/calls"


class FaultyService:
    """ASGI middleware: notes every call, and lets those go wrong that a queued fault matches."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self._app = app
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or let it go wrong."""
        if scope["type"] != "http" or scope["path"].startswith(f"{CONTROL_PATH}/"):
            await self._app(scope, receive, send)
            return
        path = canonical(scope["path"])
        call = self._faults.record(scope["method"], path, scope["query_string"].decode("latin-1"))

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
            await send(message)

        queued = self._faults.of_request(scope["method"], path)
        call.fault = None if queued is None else queued.id
        try:
            if queued is None:
                await self._app(scope, receive, send_noted)
            else:
                await self._go_wrong(queued, scope, receive, send_noted)
        finally:
            call.ended = True

    async def _go_wrong(self, queued: Queued, scope: Scope, receive: Receive, send: Send) -> None:
        fault = queued.fault
        arrived = await _arrived(receive)
        await queued.delay()
        if fault.status is not None:
            await _answer(fault, fault.status)(scope, arrived, send)
        elif fault.drop is None:
            await self._app(scope, arrived, send)
        else:
            if fault.drop == "after":
                await self._app(scope, arrived, _unheard)
            await _drop(receive)


def _answer(fault: Fault, status: int) -> Response:
    error = AzureError(fault.message, fault.code)
    error.status = status
    answer = error_response(error)
    if fault.retry_after_sec is not None:
        # The header has whole seconds (RFC 9110, section 10.2.3); for less there is Azure's own.
        if fault.retry_after_sec >= 1:
            answer.headers["Retry-After"] = str(math.ceil(fault.retry_after_sec))
        else:
            answer.headers["retry-after-ms"] = str(round(fault.retry_after_sec * 1000))
    return answer


async def _arrived(receive: Receive) -> Receive:
    """Take the whole request in: it is carried out even if who sent it is gone by then, as a service would."""
    messages = [await receive()]
    while messages[-1].get("more_body"):
        messages.append(await receive())

    async def again() -> Message:
        return messages.pop(0) if messages else await receive()

    return again


async def _unheard(message: Message) -> None:
    """Take an answer that nobody will get."""


async def _drop(receive: Receive) -> None:
    """End the connection without an answer; ASGI has no message for it, so the server's own transport is asked."""
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    if transport is None:
        raise TypeError("the server does not let a connection be dropped")
    transport.abort()
    while (await receive())["type"] != "http.disconnect":
        pass


async def list_faults(request: Request) -> JSONResponse:
    """List the faults that were queued, and how often each has struck."""
    return JSONResponse({"value": [queued.document() for queued in plane_of(request).faults.queued()]})


async def add_fault(request: Request) -> JSONResponse:
    """Queue a fault."""
    queued = plane_of(request).faults.add(parse_fault(await body_of(request)))
    return JSONResponse(queued.document(), status_code=201)


async def remove_fault(request: Request) -> Response:
    """Remove a fault."""
    plane_of(request).faults.remove(request.path_params["fault"])
    return Response(status_code=204)


async def clear_faults(request: Request) -> Response:
    """Remove all faults."""
    plane_of(request).faults.clear()
    return Response(status_code=204)


async def list_known(request: Request) -> JSONResponse:
    """List the faults that have a name."""
    return JSONResponse({"value": known_faults()})


async def list_calls(request: Request) -> JSONResponse:
    """List the last calls, oldest first."""
    return JSONResponse({"value": [asdict(call) for call in plane_of(request).faults.calls()]})


async def forget_calls(request: Request) -> Response:
    """Forget the calls."""
    plane_of(request).faults.forget_calls()
    return Response(status_code=204)


ROUTES = [
    Route(FAULTS_PATH, list_faults, methods=["GET"]),
    Route(FAULTS_PATH, add_fault, methods=["POST"]),
    Route(FAULTS_PATH, clear_faults, methods=["DELETE"]),
    Route(f"{FAULTS_PATH}/known", list_known, methods=["GET"]),
    Route(f"{FAULTS_PATH}/{{fault}}", remove_fault, methods=["DELETE"]),
    Route(CALLS_PATH, list_calls, methods=["GET"]),
    Route(CALLS_PATH, forget_calls, methods=["DELETE"]),
]
