"""The vCPUs of a machine size, from what a real server answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
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
        server.status = 200  # type: ignore[attr-defined]
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
