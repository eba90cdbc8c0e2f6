"""The cloud comes from the SDK's variables, and is never guessed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from aml_tool_core import ToolError
from aml_tool_core.azure import cloud


class Metadata(BaseHTTPRequestHandler):
    """Answers every GET with the server's `body` attribute."""

    def do_GET(self) -> None:
        body = self.server.body  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep pytest's output clean."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("ARM_CLOUD_METADATA_URL", f"{url}/metadata/endpoints")
        monkeypatch.delenv("AZUREML_CURRENT_CLOUD", raising=False)
        entries = [
            {"name": name, "resourceManager": arm, "authentication": {"loginEndpoint": f"{url}/login"}}
            for name, arm in (("LocalCloud", f"{url}/"), ("Elsewhere", "https://arm.example/"))
        ]
        server.body = json.dumps(entries).encode()  # type: ignore[attr-defined]
        cloud._metadata.cache_clear()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("name", "arm_url"),
    [
        (None, "https://management.azure.com"),
        ("AzureCloud", "https://management.azure.com"),
        ("AzureUSGovernment", "https://management.usgovcloudapi.net"),
        ("AzureChinaCloud", "https://management.chinacloudapi.cn"),
    ],
)
def test_built_in_clouds_need_no_network(name: str | None, arm_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARM_CLOUD_METADATA_URL", raising=False)
    monkeypatch.delenv("AZUREML_CURRENT_CLOUD", raising=False)
    if name is not None:
        monkeypatch.setenv("AZUREML_CURRENT_CLOUD", name)
    found = cloud.current()
    assert (found.name, found.arm_url) == (name or "AzureCloud", arm_url)
    assert found.scope == f"{arm_url}/.default"


def test_the_named_cloud_is_taken(server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZUREML_CURRENT_CLOUD", "Elsewhere")
    assert cloud.current().arm_url == "https://arm.example"


def test_without_a_name_the_cloud_of_the_metadata_url_is_taken(server: ThreadingHTTPServer) -> None:
    found = cloud.current()
    assert found.name == "LocalCloud"
    assert found.authority == f"http://127.0.0.1:{server.server_port}/login"


def test_an_unknown_name_is_refused(server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZUREML_CURRENT_CLOUD", "Nowhere")
    with pytest.raises(ToolError, match=r"Nowhere: unknown to .*, which knows Elsewhere, LocalCloud"):
        cloud.current()


@pytest.mark.parametrize("body", [b"<html>", b'{"name": "x"}', b'["x"]', b"[]"])
def test_what_is_no_metadata_is_refused(server: ThreadingHTTPServer, body: bytes) -> None:
    server.body = body  # type: ignore[attr-defined]
    with pytest.raises(ToolError, match=r"not JSON|not Azure's cloud metadata|names 0 clouds"):
        cloud.current()


def test_unreadable_metadata_is_no_silent_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARM_CLOUD_METADATA_URL", "http://127.0.0.1:9/metadata")
    monkeypatch.delenv("AZUREML_CURRENT_CLOUD", raising=False)
    with pytest.raises(ToolError, match=r"cannot be read: .*refused.*is the local control plane running\?"):
        cloud.current()


@pytest.mark.parametrize(
    ("url", "is_here"),
    [
        ("https://127.0.0.1:9/metadata", True),
        ("https://[::1]:9/metadata", True),
        ("https://localhost/metadata", True),
        ("https://10.0.0.1/metadata", False),
        ("https://management.example/metadata", False),
    ],
)
def test_only_this_machine_has_a_local_control_plane(url: str, is_here: bool) -> None:
    remedy = cloud._remedy(url)
    assert ("is the local control plane running?" in remedy) == is_here
    assert ("the network" in remedy) != is_here
