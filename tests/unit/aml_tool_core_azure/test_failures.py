"""What the SDKs raise becomes one line that names the cause; defects pass through."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from aml_tool_core import ToolError
from aml_tool_core.azure.failures import Conflict, NotFound, asking
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
    ServiceRequestError,
)
from azure.mgmt.core.exceptions import ARMErrorFormat


def answered(kind: type[HttpResponseError], status: int, error: dict[str, Any] | None = None) -> HttpResponseError:
    found = kind("(Code) Message\nCode: Code\nMessage: Message")
    found.status_code = status
    found.error = None if error is None else ARMErrorFormat(error)
    return found


@pytest.fixture(autouse=True)
def public_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARM_CLOUD_METADATA_URL", raising=False)
    monkeypatch.delenv("AZUREML_CURRENT_CLOUD", raising=False)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            # A failed long-running operation: the last poll was fine, what it told was not.
            answered(HttpResponseError, 200, {"code": "ResourceNotReady", "message": "init() crashed."}),
            "deployment blue: failed: ResourceNotReady: init() crashed",
        ),
        (
            answered(
                HttpResponseError,
                200,
                {"code": "BadArgument", "message": "See details", "details": [{"code": "Quota", "message": "0 left"}]},
            ),
            "deployment blue: failed: BadArgument: See details; Quota: 0 left",
        ),
        (
            answered(ClientAuthenticationError, 401, {"code": "ExpiredToken", "message": "The token is expired"}),
            "deployment blue: the Azure token has expired (ExpiredToken: The token is expired); "
            "log in again, or give a new one",
        ),
        (
            answered(HttpResponseError, 403, {"code": "AuthorizationFailed", "message": "no role"}),
            "deployment blue: Azure answered 403: AuthorizationFailed: no role; "
            "give the identity the role Contributor on the workspace",
        ),
        (
            answered(HttpResponseError, 503),
            "deployment blue: Azure answered 503: (Code) Message; run again later",
        ),
        (
            ClientAuthenticationError("no credential worked\nand here is why"),
            "deployment blue: no Azure identity: no credential worked; log in (az login), or give the compute a "
            "managed identity (MSI_ENDPOINT), or a token where the tool takes one",
        ),
        (
            ServiceRequestError("refused"),
            "deployment blue: Azure cannot be reached: refused; its Resource Manager is https://management.azure.com: "
            "check the network, ARM_CLOUD_METADATA_URL and AZUREML_CURRENT_CLOUD",
        ),
        (AzureError("no such model"), "deployment blue: no such model"),
    ],
)
def test_each_failure_is_one_line(error: AzureError, line: str) -> None:
    with pytest.raises(ToolError) as raised, asking("deployment blue"):
        raise error
    assert str(raised.value) == line
    assert raised.value.exit_code == 1
    assert raised.value.__cause__ is error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (answered(ResourceNotFoundError, 404), NotFound),
        (answered(ResourceExistsError, 409), Conflict),
    ],
)
def test_absence_and_conflict_are_kinds_of_their_own(error: HttpResponseError, kind: type[ToolError]) -> None:
    with pytest.raises(kind), asking("endpoint e"):
        raise error


def test_a_failed_request_of_ours_is_told_like_the_sdks() -> None:
    with pytest.raises(ToolError, match="cannot be reached: timed out"), asking("sizes"):
        raise requests.Timeout("timed out")


def test_defects_and_our_own_errors_pass_through() -> None:
    with pytest.raises(KeyError), asking("endpoint e"):
        raise KeyError("defect")
    with pytest.raises(ToolError, match=r"^as it was$"), asking("endpoint e"):
        raise ToolError("as it was")
