"""Starting, stopping, crashing and coming back."""

from __future__ import annotations

import concurrent.futures
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from azure.core.exceptions import ResourceNotFoundError
from azureml_local.home import Home


def owned(home: Path) -> dict[psutil.Process, str]:
    """Return the live processes that carry the home's mark, and their names."""
    home_id = json.loads((home / "settings.json").read_text())["home_id"]
    found = {}
    for process in psutil.process_iter():
        try:
            if process.environ().get("AZUREML_LOCAL_OWNER") == home_id and process.status() != psutil.STATUS_ZOMBIE:
                found[process] = process.name()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def supervisor_pid(home: Path) -> int:
    return int(json.loads((home / "run" / "supervisor.json").read_text())["identity"]["pid"])


def test_up_is_idempotent(plane: Any) -> None:
    before = supervisor_pid(plane.home)
    plane.command("up")
    assert supervisor_pid(plane.home) == before


def test_another_workspace_needs_another_home(plane: Any) -> None:
    done = plane.command("up", "--workspace-name", "elsewhere", check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "workspace_name" in done.stderr


def test_status_shows_what_serves(plane: Any, shared: Any) -> None:
    document = json.loads(plane.command("status", "--json").stdout)
    assert document["ready"]
    endpoint = next(entry for entry in document["endpoints"] if entry["name"] == "shared-ep")
    assert endpoint["scoring_uri"] == shared.uri
    assert endpoint["deployments"][0] == {
        "name": "blue",
        "state": "Succeeded",
        "instance_type": "Standard_F2s_v2",
        "instance_count": 1,
        "traffic": 100,
    }


def test_secrets_are_private_and_nowhere_else(plane: Any, shared: Any) -> None:
    secrets = json.loads((plane.home / "secrets.json").read_text())
    values = [*secrets.values(), shared.key]
    shared.score()
    for path in plane.home.rglob("*"):
        if not path.is_file() or "blobs" in path.relative_to(plane.home).parts:
            continue
        content = path.read_bytes()
        if any(value.encode() in content for value in values) or path.suffix == ".key":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
            assert path.suffix != ".log", path
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        assert not any(value in line for value in values), process.name()


def test_everything_listens_on_loopback_only(plane: Any, shared: Any) -> None:
    supervisor = psutil.Process(supervisor_pid(plane.home))
    listening = [
        connection.laddr.ip
        for process in [supervisor, *owned(plane.home)]
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 5
    assert set(listening) == {"127.0.0.1"}


@pytest.mark.parametrize("how", ["down", "kill"])
def test_endpoints_survive_a_restart(plane: Any, cloud: Any, shared: Any, how: str) -> None:
    assert shared.score().status_code == 200
    if how == "down":
        plane.command("down")
        assert owned(plane.home) == {}
        with pytest.raises(Exception, match="refused"):
            shared.score()
    else:
        orphans = {process.pid for process in owned(plane.home)}
        victim = psutil.Process(supervisor_pid(plane.home))
        victim.send_signal(signal.SIGKILL)
        # The test's own command started it and has ended, so init reaps it.
        deadline = time.monotonic() + 10
        while victim.is_running() and victim.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
            time.sleep(0.02)
        assert plane.command("status", check=False).returncode == 1
    plane.command("up")
    if how == "kill":
        assert orphans.isdisjoint({process.pid for process in owned(plane.home)})
    again = cloud.target("shared-ep")
    assert (again.uri, again.key) == (shared.uri, shared.key)
    assert shared.score().json()["sum"] == 321
    assert cloud.client.online_deployments.get("blue", "shared-ep").provisioning_state == "Succeeded"


def test_down_of_a_home_that_never_started(plane: Any, tmp_path: Path) -> None:
    elsewhere = type(plane)(tmp_path / "never", {})
    assert elsewhere.command("down").returncode == 0
    assert not (tmp_path / "never").exists()
    done = elsewhere.command("env", check=False)
    assert done.returncode == 1 and "azureml-local up" in done.stderr


def test_a_missing_azurite_is_named(plane: Any, tmp_path: Path) -> None:
    elsewhere = type(plane)(tmp_path / "home", {})
    done = elsewhere.command("up", "--azurite", str(tmp_path / "nothing"), check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "--azurite" in done.stderr
    assert os.listdir(tmp_path) == []


SLOW = """\
import time


def init():
    time.sleep(4)


def run(raw):
    return "slow but there"
"""


def test_what_was_in_progress_is_resumed(plane: Any, cloud: Any) -> None:
    """The supervisor is killed while a deployment gets ready; the next start brings the deployment to its end."""
    (cloud.sources / "code" / "slow.py").write_text(SLOW)
    cloud.endpoint("slow-ep")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        # Its polling breaks off when the control plane goes; what counts is what the next one says.
        waiting = pool.submit(cloud.deploy, "slow-ep", "blue", script="slow.py")
        wait_for(lambda: waiting.done() or state_of(cloud, "slow-ep", "blue") == "Creating")
        assert not waiting.done(), waiting.exception()
        psutil.Process(supervisor_pid(plane.home)).send_signal(signal.SIGKILL)
        plane.command("up")
        wait_for(lambda: state_of(cloud, "slow-ep", "blue") == "Succeeded")
        concurrent.futures.wait([waiting], timeout=120)
    assert cloud.target("slow-ep").score(deployment="blue").json() == "slow but there"
    cloud.delete("slow-ep")


@pytest.mark.parametrize("name", ["haproxy", "node"])
def test_services_that_die_are_started_again(plane: Any, cloud: Any, shared: Any, name: str) -> None:
    supervisor = supervisor_pid(plane.home)
    victim = next(
        process for process, found in owned(plane.home).items() if found == name and process.ppid() == supervisor
    )
    victim.kill()
    wait_for(lambda: any(found == name and process != victim for process, found in owned(plane.home).items()))
    if name == "haproxy":
        wait_for(lambda: scores(shared))
    else:
        secrets = json.loads((plane.home / "settings.json").read_text())
        wait_for(lambda: listens(secrets["blob_port"]))


def wait_for(condition: Callable[[], bool], limit_sec: float = 60) -> None:
    deadline = time.monotonic() + limit_sec
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)


def state_of(cloud: Any, endpoint: str, deployment: str) -> Any:
    try:
        return cloud.client.online_deployments.get(deployment, endpoint).provisioning_state
    except ResourceNotFoundError:
        return None


def scores(target: Any) -> bool:
    try:
        return bool(target.score().status_code == 200)
    except httpx.TransportError:  # it does not listen yet, or the one that did has just been killed
        return False


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_taken_port_is_named(plane: Any, tmp_path: Path) -> None:
    """Ports are kept; one that somebody else has by now is an error that names it, and nothing is left running."""
    elsewhere = type(plane)(tmp_path / "home", {})
    elsewhere.command("up")
    elsewhere.command("down")
    port = json.loads((tmp_path / "home" / "settings.json").read_text())["arm_port"]
    with socket.create_server(("127.0.0.1", port)):
        done = elsewhere.command("up", check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and str(port) in done.stderr
    wait_for(lambda: owned(tmp_path / "home") == {}, 20)


def test_in_the_foreground_it_ends_with_a_signal(plane: Any, tmp_path: Path) -> None:
    home = tmp_path / ("h" * 60)  # whose sockets have to lie elsewhere
    process = subprocess.Popen(
        [sys.executable, "-m", "azureml_local", "up", "--foreground", "--home", str(home)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    elsewhere = type(plane)(home, {})
    wait_for(lambda: elsewhere.command("status", check=False).returncode == 0)
    socket_dir = Home(home).socket_dir
    assert home not in socket_dir.parents and list(socket_dir.iterdir())
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert owned(home) == {}
    assert not socket_dir.exists()
    assert elsewhere.command("status", check=False).returncode == 1
