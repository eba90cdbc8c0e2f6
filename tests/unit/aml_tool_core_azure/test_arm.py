"""The vCPUs of a machine size, from what a real server answers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
import urllib3.util.retry
from aml_tool_core import ToolError
from aml_tool_core.azure import arm, cloud
from aml_tool_core.azure.cloud import Cloud
from aml_tool_core.azure.credential import credential
from aml_tool_core.azure.workspace import Workspace

WORKSPACE = Workspace("s", "g", "w")


class Sizes(BaseHTTPRequestHandler):
    """Answers every GET with the server's `status` and `body` attributes."""

    def do_GET(self) -> None:
        body = self.server.body  # type: ignore[attr-defined]
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.send_header("Content-Length", str(len(body)))
        for name, value in self.server.headers.items():  # type: ignore[attr-defined]
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep pytest's output clean."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Sizes) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        here = Cloud("Local", f"http://127.0.0.1:{server.server_port}", "none")
        monkeypatch.setattr(cloud, "current", lambda: here)
        server.status, server.headers = 200, {}  # type: ignore[attr-defined]
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("size", "count"),
    [
        ({"name": "Standard_F2s_v2", "vCPUs": 2}, 2),
        ({"name": "STANDARD_f2S_v2", "vCPUs": 2}, 2),
        ({"name": "Standard_F4s_v2", "vCPUs": 4}, None),
        ({"name": "Standard_F2s_v2"}, None),
        ({"name": "Standard_F2s_v2", "vCPUs": None}, None),
    ],
)
def test_what_the_region_does_not_tell_is_none(server: Any, size: dict[str, Any], count: int | None) -> None:
    server.body = json.dumps({"value": [size]}).encode()
    assert arm.vcpus(WORKSPACE, credential("opaque-token"), "eastus", "Standard_F2s_v2") == count


@pytest.mark.parametrize(("status", "body"), [(404, b"{}"), (200, b"<html>")])
def test_what_is_no_answer_is_an_error_of_azure(server: Any, status: int, body: bytes) -> None:
    server.status, server.body = status, body
    with pytest.raises(ToolError, match="machine sizes of eastus: "):
        arm.vcpus(WORKSPACE, credential("opaque-token"), "eastus", "Standard_F2s_v2")


def test_a_server_does_not_make_a_report_wait_for_hours(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(urllib3.util.retry, "time", SimpleNamespace(time=time.time, sleep=waits.append))
    server.status, server.headers, server.body = 429, {"Retry-After": "86400"}, b"{}"
    with pytest.raises(ToolError, match="machine sizes of eastus: Azure answered 429"):
        arm.vcpus(WORKSPACE, credential("opaque-token"), "eastus", "Standard_F2s_v2")
    assert waits and max(waits) <= 60
