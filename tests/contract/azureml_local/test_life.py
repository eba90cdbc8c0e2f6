"""Starting, stopping, crashing and coming back."""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from pathlib import Path
from typing import Any

import psutil
import pytest


def owned(home: Path) -> list[psutil.Process]:
    """Return the live processes that carry the home's mark."""
    home_id = json.loads((home / "settings.json").read_text())["home_id"]
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("AZUREML_LOCAL_OWNER") == home_id and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
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
        for process in {supervisor, *owned(plane.home)}
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
        assert owned(plane.home) == []
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
    assert os.listdir(tmp_path) == ["home"]
