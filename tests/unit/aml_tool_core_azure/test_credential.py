"""A given token is used as it is, until it expires."""

from __future__ import annotations

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from aml_tool_core import ToolError, logs
from aml_tool_core.azure.credential import credential
from aml_tool_core.azure.failures import TimedOut, asking

ENVIRONMENT = ("MSI_ENDPOINT", "MSI_SECRET", "AZURE_TENANT_ID", "ARM_CLOUD_METADATA_URL", "AZUREML_CURRENT_CLOUD")


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
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert type(credential()).__name__ == kind


class Throttled(BaseHTTPRequestHandler):
    """A token service that asks everybody to come back in an hour."""

    def do_GET(self) -> None:
        self.send_response(429)
        self.send_header("Retry-After", "3600")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_words: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("left_sec", [None, 20])
def test_a_token_service_that_asks_for_an_hour_does_not_hold_a_tool(
    left_sec: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Throttled) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            monkeypatch.setenv("MSI_ENDPOINT", f"http://127.0.0.1:{server.server_port}/MSI/auth")
            monkeypatch.setenv("MSI_SECRET", "s")
            found = credential(deadline=None if left_sec is None else time.monotonic() + left_sec)
            with pytest.raises(TimedOut, match="a token: Azure asks to wait 3600 s"), asking("a token"):
                found.get_token("https://management.azure.com/.default")
        finally:
            server.shutdown()
