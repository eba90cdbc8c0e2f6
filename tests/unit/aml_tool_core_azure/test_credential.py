"""A given token is used as it is, until it expires."""

from __future__ import annotations

import base64
import json
import time

import pytest
from aml_tool_core import ToolError, logs
from aml_tool_core.azure.credential import credential


def web_token(expires_on: float) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": int(expires_on)}).encode()).decode().rstrip("=")
    return f"header.{claims}.signature"


def test_a_token_that_lives_is_given_for_every_scope() -> None:
    expires_on = int(time.time()) + 600
    token = web_token(expires_on)
    assert credential(token).get_token("https://arm.example/.default") == (token, expires_on)


def test_an_expired_token_says_so() -> None:
    with pytest.raises(ToolError, match=r"identity_access_token: expired at 2001-09-09T01:46:40Z"):
        credential(web_token(1_000_000_000)).get_token("https://arm.example/.default")


@pytest.mark.parametrize("token", ["opaque-token", "a.b.c", "a.e30.c", "a.bnVsbA.c", "a.eyJleHAiOjFlOTk5fQ.c"])
def test_a_token_that_cannot_be_read_is_taken_for_valid(token: str) -> None:
    assert credential(token).get_token("https://arm.example/.default").expires_on > time.time()


def test_a_given_token_is_hidden_from_logs() -> None:
    credential("a-secret-that-nobody-may-see")
    assert logs.redacted("header a-secret-that-nobody-may-see") == "header ***"


@pytest.mark.parametrize(
    ("environment", "kind"),
    [
        ({"MSI_ENDPOINT": "http://127.0.0.1:9", "MSI_SECRET": "s"}, "ManagedIdentityCredential"),
        ({"MSI_ENDPOINT": "http://127.0.0.1:9", "AZURE_TENANT_ID": "t"}, "DefaultAzureCredential"),
        ({}, "DefaultAzureCredential"),
    ],
)
def test_a_compute_uses_its_managed_identity(
    environment: dict[str, str], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MSI_ENDPOINT", "MSI_SECRET", "AZURE_TENANT_ID", "ARM_CLOUD_METADATA_URL", "AZUREML_CURRENT_CLOUD"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert type(credential()).__name__ == kind
