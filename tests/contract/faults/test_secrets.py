"""No secret that a run used is in a log, a report, a file that others can read, or a process list.

The tools run as a user runs them, here: what they use is gathered (keys, tokens, signatures, the plane's own secrets),
and everything that they leave is searched for it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.contract.conftest import PlaneHandle, TinyDeployment
    from tests.contract.faults.conftest import Control

# What is secret by its form: tokens, and the signatures of shared access signatures.
FORMS = re.compile(rb"eyJ[\w-]{6,}\.eyJ[\w-]{6,}\.[\w-]{6,}|[?&]sig=[\w%+/=-]{16,}")
GLANCE_SEC = 0.01


@contextmanager
def process_list() -> Iterator[set[bytes]]:
    """Yield the command lines of all processes, gathered until the end."""
    seen: set[bytes] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(GLANCE_SEC):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(path.read_bytes())
                except (FileNotFoundError, ProcessLookupError, PermissionError):
                    continue  # it has ended, or is another user's

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("auth_mode", ["key", pytest.param("aad_token", marks=pytest.mark.long)])
def test_no_secret_is_left(
    auth_mode: str, fresh: TinyDeployment, control: Control, plane: PlaneHandle, credential: Any, tmp_path: Path
) -> None:
    endpoint_yaml = tmp_path / "endpoint.yml"
    endpoint_yaml.write_text(endpoint_yaml.read_text().replace("auth_mode: key", f"auth_mode: {auth_mode}"))
    arm_url = plane.variables["ARM_CLOUD_METADATA_URL"].split("/metadata")[0]
    given_token = credential.get_token(f"{arm_url}/.default").token
    load = {"duration_sec": 1, "connections": 1, "threads": 1, "target_rps": 20}
    (tmp_path / "load.json").write_text(json.dumps({"version": "1.0", "profiler_config": load}))
    (tmp_path / "payload.jsonl").write_text("{}\n")
    logs = []
    with process_list() as commands:
        # Something goes wrong in between, for errors tell more than successes do.
        control.add("crash_in_init")
        failed = fresh.run(fresh.deployer())
        assert failed.returncode == 1, failed.stderr
        deployed = fresh.run(fresh.deployer())
        assert deployed.returncode == 0, deployed.stderr
        named = json.loads(fresh.settings.read_text())
        named["deployment_settings"]["identity_access_token"] = given_token
        (tmp_path / "given").mkdir(mode=0o700)
        target = tmp_path / "given" / "target.json"
        target.write_text(json.dumps(named))
        profiled = fresh.run(
            [
                *(sys.executable, "-m", "aml_wrk2_profiler", "--config_path", "load.json"),
                *("--scoring_target_path", str(target), "--payload_path", "payload.jsonl"),
            ]
        )
        assert profiled.returncode == 0, profiled.stderr
        secrets = secrets_of(fresh, plane, control, auth_mode) | {given_token}
        control.add("forbidden", method="DELETE")
        refused = fresh.run(fresh.deleter(target, "True"))
        assert refused.returncode == 1, refused.stderr
        deleted = fresh.run(fresh.deleter(target, "True"))
        assert deleted.returncode == 0, deleted.stderr
        logs = [failed, deployed, profiled, refused, deleted]
    assert len(secrets) >= 4
    assert any(b"aml_wrk2_profiler" in command for command in commands), "the process list was not seen"
    found = {"a process list": b"\n".join(commands)}
    for done in logs:
        found[f"the log of {done.args[2]}"] = f"{done.stdout}\n{done.stderr}".encode()
    for path in [*everything(tmp_path, but=target.parent), *readable_or_log(plane.home)]:
        found[str(path)] = path.read_bytes()
    assert any("report.json" in place for place in found) and any("supervisor.log" in place for place in found)
    for place, content in found.items():
        for secret in secrets:
            assert secret.encode() not in content, f"{place} has a secret"
        form = FORMS.search(content)
        assert form is None, f"{place} has what looks like a secret: {form and form.group()[:12]!r}..."


def secrets_of(tiny: TinyDeployment, plane: PlaneHandle, control: Control, auth_mode: str) -> set[str]:
    """Return the plane's own secrets and the endpoint's keys."""
    found = set(json.loads((plane.home / "secrets.json").read_text()).values())
    if auth_mode == "key":
        keys = control.arm.post(f"{control.endpoint_url(tiny.endpoint_name)}/listKeys").raise_for_status().json()
        found |= {keys["primaryKey"], keys["secondaryKey"]}
    return {str(secret) for secret in found}


def everything(folder: Path, but: Path) -> Iterator[Path]:
    """Yield the files below a folder, but for what was given to the tools as a secret."""
    return (path for path in folder.rglob("*") if path.is_file() and but not in path.parents)


def readable_or_log(home: Path) -> Iterator[Path]:
    """Yield the plane's files that other users could read, or that are logs, which get passed on."""
    for folder, _, names in os.walk(home):
        if Path(folder) == home / "blobs":
            continue  # Azurite's data: what users have uploaded
        for name in names:
            path = Path(folder, name)
            if path.suffix == ".log" or (path.stat().st_mode & 0o044 and is_open(path.parent, home)):
                yield path


def is_open(folder: Path, home: Path) -> bool:
    """Tell whether other users can get at what is in a folder of the home."""
    around = [folder, *folder.parents]
    return all(one.stat().st_mode & 0o011 for one in around[: around.index(home) + 1])


def test_the_search_finds_what_it_is_for(tmp_path: Path) -> None:
    with process_list() as commands:
        subprocess.run(["sh", "-c", "sleep 0.3 # a-secret-in-a-process-list"], check=True)
    assert any(b"a-secret-in-a-process-list" in command for command in commands)
    assert FORMS.search(b"GET /c/b?sv=2022&sig=abcdefghijklmnopqrstuvwxyz%3D HTTP")
    assert FORMS.search(b"Bearer eyJhbGciOiJI.eyJhdWQiOiJo.c2lnbmF0dXJl")
