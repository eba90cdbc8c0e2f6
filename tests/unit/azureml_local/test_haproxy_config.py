"""The gateway's configuration: what it says, and that HAProxy itself accepts it."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from azureml_local import tokens
from azureml_local.certificates import ensure_tls
from azureml_local.runtime.gateway import find_haproxy
from azureml_local.runtime.haproxy_config import EndpointRoutes, GatewayFiles, Route, Server, milliseconds, render

ROUTE = Route(
    deployment="blue",
    weight=30,
    servers=(Server("blue-0", 9001), Server("blue-1", 9002)),
    max_concurrent_requests_per_instance=3,
    max_queue_wait_ms=500,
    request_timeout_ms=5000,
)
GREEN = replace(ROUTE, deployment="green", weight=70, servers=())


def endpoint(folder: Path, auth_mode: str = "Key", routes: tuple[Route, ...] = (ROUTE, GREEN)) -> EndpointRoutes:
    keys = folder / f"{auth_mode}.keys"
    keys.write_text("a-key\nanother-key\n")
    return EndpointRoutes(f"my-{auth_mode.lower()}", 9443, auth_mode, tokens.SCORING_AUDIENCE, keys, routes)


@pytest.fixture
def files(tmp_path: Path) -> GatewayFiles:
    return GatewayFiles(
        ensure_tls(tmp_path).combined,
        tmp_path / "admin.sock",
        tmp_path / "log.sock",
        "signing-key-of-32-bytes-or-more-x",
    )


@pytest.mark.parametrize("auth_mode", ["Key", "AADToken", "AMLToken"])
def test_haproxy_accepts_it(tmp_path: Path, files: GatewayFiles, auth_mode: str) -> None:
    path = tmp_path / "haproxy.cfg"
    path.write_text(render((endpoint(tmp_path, auth_mode),), files, 1))
    done = subprocess.run([find_haproxy(), "-c", "-f", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr, done.stderr


@pytest.mark.parametrize("name", ["health", "requests", "global", "defaults"])
def test_an_endpoint_may_have_any_name_that_azure_takes(tmp_path: Path, files: GatewayFiles, name: str) -> None:
    path = tmp_path / "haproxy.cfg"
    path.write_text(render((replace(endpoint(tmp_path), name=name),), files, 1))
    done = subprocess.run([find_haproxy(), "-c", "-f", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_haproxy_accepts_it_without_endpoints(tmp_path: Path, files: GatewayFiles) -> None:
    path = tmp_path / "haproxy.cfg"
    path.write_text(render((), files, 7))
    done = subprocess.run([find_haproxy(), "-c", "-f", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "description generation-7" in path.read_text()


def test_weights_are_cumulative_and_zero_gets_nothing(tmp_path: Path, files: GatewayFiles) -> None:
    routes = (ROUTE, replace(ROUTE, deployment="idle", weight=0), GREEN)
    text = render((endpoint(tmp_path, routes=routes),), files, 1)
    rolls = re.findall(
        r"str\((\w+)\) if !\{ var\(txn.deployment\) -m found \} \{ var\(txn.roll\) -m int lt (\d+) \}", text
    )
    assert rolls == [("blue", "30"), ("green", "100")]


def test_limits_are_per_instance_and_the_queue_is_as_long_as_what_runs(tmp_path: Path, files: GatewayFiles) -> None:
    text = render((endpoint(tmp_path),), files, 1)
    assert text.count("maxconn 3") == 2
    assert "{ queue(my-key.blue) ge 6 }" in text
    assert "timeout queue 500ms" in text and "timeout server 5000ms" in text


def test_a_deployment_without_servers_is_unavailable(tmp_path: Path, files: GatewayFiles) -> None:
    backend = render((endpoint(tmp_path),), files, 1).split("backend my-key.green")[1]
    assert "return status 503" in backend and "server " not in backend.split("\n", 1)[1].replace("timeout server", "")


def test_zero_wait_is_not_endless(tmp_path: Path, files: GatewayFiles) -> None:
    text = render((endpoint(tmp_path, routes=(replace(ROUTE, max_queue_wait_ms=0),)),), files, 1)
    assert "timeout queue 1ms" in text


def test_keys_stand_in_their_own_file_alone(tmp_path: Path, files: GatewayFiles) -> None:
    text = render((endpoint(tmp_path),), files, 1)
    assert "a-key" not in text and str(tmp_path / "Key.keys") in text


def test_a_name_that_would_break_out_is_refused(tmp_path: Path, files: GatewayFiles) -> None:
    bad = replace(ROUTE, deployment="blue }\n    http-request allow")
    with pytest.raises(ValueError, match="cannot stand"):
        render((endpoint(tmp_path, routes=(bad,)),), files, 1)


@pytest.mark.parametrize(("seconds", "expected"), [(0.5, 500), (5, 5000), (0.0001, 1), (0, 0)])
def test_milliseconds_round_up(seconds: float, expected: int) -> None:
    assert milliseconds(seconds) == expected
