"""What the Azure SDKs raise, as one line that names what failed, where, and what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)

from aml_tool_core.azure import cloud, sdk_output
from aml_tool_core.azure.credential import CLIENT_ID_VARIABLE
from aml_tool_core.errors import ToolError

_IDENTITY = (
    "log in (az login), or give the compute a managed identity (MSI_ENDPOINT), or a token where the tool takes one"
)
_REMEDY = {
    400: "correct what it names",
    401: "the token was refused: log in again, or give a new identity_access_token",
    403: "give the identity the role Contributor on the workspace",
    404: "check the name, the workspace, the resource group and the subscription",
    409: "wait for the other operation to end, or use another name or version",
    423: "remove the lock, or wait until the other operation ends",
    429: "wait, then run again",
}
# Codes of https://learn.microsoft.com/azure/machine-learning/how-to-troubleshoot-online-endpoints
_REMEDY_OF_CODE = {
    "OutOfCapacity": "run again later, or take another instance_type or region",
    "OutOfQuota": "ask for more quota, or take a smaller instance_type or instance_count",
}
_LOCKED = "ScopeLocked"  # https://learn.microsoft.com/azure/azure-resource-manager/management/lock-resources


class NotFound(ToolError):
    """Azure answered 404: the thing is not there."""


class Conflict(ToolError):
    """Azure answered 409: something else is under way with the thing, or it is there already."""


class Locked(ToolError):
    """A management lock forbids it."""


class OperationFailed(ToolError):
    """Azure took the request, but the long-running operation that it began did not succeed."""


class TimedOut(ToolError):
    """It is not done when its limit is over."""


class WaitTooLong(Exception):
    """The service asks for a longer wait than there is time; the SDKs let it pass, `asking` turns it into TimedOut."""

    def __init__(self, asked_sec: float, left_sec: float) -> None:
        super().__init__(f"Azure asks to wait {asked_sec:.0f} s, and {left_sec:.0f} s are left; run again later")


_KIND: dict[int, type[ToolError]] = {404: NotFound, 409: Conflict}


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Raise what the SDKs raise inside the block as a ToolError whose line starts with `what`; defects pass through."""
    try:
        yield
    except (AzureError, requests.RequestException) as error:
        raise tool_error(error, what) from error
    except WaitTooLong as error:
        raise TimedOut(f"{what}: {error}") from error


def tool_error(error: AzureError | requests.RequestException, what: str) -> ToolError:
    """Return the one line for an SDK's exception."""
    if isinstance(error, HttpResponseError) and error.status_code is not None:
        return _answered(error, what)
    if isinstance(error, ClientAuthenticationError):  # no answer: azure-identity found no token
        client_id = os.environ.get(CLIENT_ID_VARIABLE)
        remedy = f"check {CLIENT_ID_VARIABLE}={client_id}" if client_id else _IDENTITY
        return ToolError(f"{what}: no Azure identity: {_first_line(error)}; {remedy}")
    if isinstance(error, (ServiceRequestError, ServiceResponseError, requests.RequestException)):
        return ToolError(
            f"{what}: Azure cannot be reached: {_first_line(error)}; its Resource Manager is "
            f"{cloud.current().arm_url}: check the network, {cloud.METADATA_VARIABLE} and {cloud.CLOUD_VARIABLE}"
        )
    return ToolError(f"{what}: {_first_line(error)}")


def _answered(error: HttpResponseError, what: str) -> ToolError:
    """A failed long-running operation is one too: its status code is the 200 of the poll, its cause in `error`."""
    status = error.status_code or 0
    said = _cause(error)
    code = str(getattr(error.error, "code", None))
    if status < 400:
        remedy = _REMEDY_OF_CODE.get(code, "")
        return OperationFailed(f"{what}: failed: {said}" + (f"; {remedy}" if remedy else ""))
    if code == _LOCKED:
        return Locked(f"{what}: a lock forbids it: {said}; `az lock list` shows the locks")
    if status == 401 and "expired" in said.lower():
        return ToolError(f"{what}: the Azure token has expired ({said}); log in again, or give a new one")
    remedy = _REMEDY_OF_CODE.get(code) or _REMEDY.get(status, "run again later" if status >= 500 else "")
    line = f"{what}: Azure answered {status}: {said}" + (f"; {remedy}" if remedy else "")
    return _KIND.get(status, ToolError)(line)


def _cause(error: HttpResponseError) -> str:
    """Return code and message of the service's error with those of its details: the cause is often only there."""
    top = error.error
    if top is None:
        return _first_line(error)
    said: list[str] = []
    _collect(top, said)
    return "; ".join(dict.fromkeys(said)) or _first_line(error)


def _collect(entry: Any, said: list[str]) -> None:
    code, message = getattr(entry, "code", None), getattr(entry, "message", None)
    line = ": ".join(" ".join(str(part).split()).rstrip(".") for part in (code, message) if part)
    if line:
        said.append(line)
    for detail in getattr(entry, "details", None) or ():
        _collect(detail, said)


def _first_line(error: BaseException) -> str:
    text = sdk_output.uncoloured(str(getattr(error, "message", None) or error)).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
