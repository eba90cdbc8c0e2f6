"""No secret that a run used is in a log, a report, a file that others can read (also while it runs), or a process list.

The tools run as a user runs them, here (but for those that are to fail): what they use is gathered (keys, tokens,
signatures, the plane's own secrets), and everything that they leave is searched for it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.contract.conftest import PlaneHandle, TinyDeployment
    from tests.contract.faults.conftest import Control, Tools

# What is secret by its form: tokens, and the signatures of shared access signatures.
FORMS = re.compile(rb"eyJ[\w-]{6,}\.eyJ[\w-]{6,}\.[\w-]{6,}|[?&]sig=[\w%+/=-]{16,}")
GLANCE_SEC = 0.01
GLANCES_A_LOOK = 5  # at the files, of which there are more
LOADS: dict[str, dict[str, Any]] = {
    "wrk": {"duration_sec": 1, "connections": 1, "threads": 1},
    "wrk2": {"duration_sec": 1, "connections": 1, "threads": 1, "target_rps": 20},
    "labench": {"duration_sec": 1, "target_rps": 20},
}


@dataclass
class Seen:
    """What other users could see of a run while it ran."""

    commands: set[bytes] = field(default_factory=set)
    files: dict[tuple[str, int, int], bytes] = field(default_factory=dict)  # by path, size and time

    def look_at(self, folder: Path) -> None:
        for path in readable(folder):
            try:
                status = path.stat()
                key = (str(path), status.st_size, status.st_mtime_ns)
                if key not in self.files:
                    self.files[key] = path.read_bytes()
            except FileNotFoundError:
                continue  # it has gone meanwhile


@contextmanager
def onlooker(folder: Path) -> Iterator[Seen]:
    """Yield what is seen, until the end, of all processes' command lines and of a folder's readable files."""
    seen = Seen()
    over = threading.Event()

    def look() -> None:
        glances = 0
        while not over.wait(GLANCE_SEC):
            glances += 1
            if glances % GLANCES_A_LOOK == 0:
                seen.look_at(folder)
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.commands.add(path.read_bytes())
                except (FileNotFoundError, ProcessLookupError, PermissionError):
                    continue  # it has ended, or is another user's

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("auth_mode", ["key", "aad_token"])
def test_no_secret_is_left(
    auth_mode: str,
    fresh: TinyDeployment,
    control: Control,
    plane: PlaneHandle,
    tools: Tools,
    deployer_flags: tuple[str, ...],
    credential: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endpoint_yaml = tmp_path / "endpoint.yml"
    endpoint_yaml.write_text(endpoint_yaml.read_text().replace("auth_mode: key", f"auth_mode: {auth_mode}"))
    arm_url = plane.variables["ARM_CLOUD_METADATA_URL"].split("/metadata")[0]
    given_token = credential.get_token(f"{arm_url}/.default").token
    (tmp_path / "tmp").mkdir()  # as /tmp is: everybody may look into it
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    logs = []
    with onlooker(tmp_path) as seen:
        if auth_mode == "key":
            # Something goes wrong in between, for errors tell more than successes do.
            control.add("crash_in_init")
            failed = tools.run("deployer", tmp_path, *deployer_flags)
            assert failed.code == 1, failed.log
        deployed = fresh.run(fresh.deployer())
        assert deployed.returncode == 0, deployed.stderr
        named = json.loads(fresh.settings.read_text())
        named["deployment_settings"]["identity_access_token"] = given_token
        (tmp_path / "given").mkdir(mode=0o700)
        target = tmp_path / "given" / "target.json"
        target.write_text(json.dumps(named))
        logs += profiled(tmp_path, target, ("wrk", "wrk2") if auth_mode == "key" else ("labench",))
        secrets = secrets_of(fresh, plane, control, auth_mode) | {given_token}
        control.add("forbidden", method="DELETE")
        refused = tools.run("deleter", tmp_path, "--config_path", str(target), "--delete_endpoint", "True")
        assert refused.code == 1, refused.log
        deleted = fresh.run(fresh.deleter(target, "True"))
        assert deleted.returncode == 0, deleted.stderr
        logs += [deployed, deleted]
    assert len(secrets) >= (4 if auth_mode == "key" else 2)
    assert any(b"aml_online_endpoints_deleter" in command for command in seen.commands), "the process list was not seen"
    found = {"a process list": b"\n".join(seen.commands)}
    found |= {f"{path}, {size} bytes, while it ran": content for (path, size, _), content in seen.files.items()}
    assert any("report.json" in place for place in found), "the files were not seen"
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


def profiled(folder: Path, target: Path, profilers: Iterable[str]) -> list[subprocess.CompletedProcess[str]]:
    """Run the profilers beside each other, each in a folder of its own, and return how they ended."""
    (folder / "payload.jsonl").write_text("{}\n")
    running = {}
    for name in profilers:
        (folder / name).mkdir()
        (folder / name / "load.json").write_text(json.dumps({"version": "1.0", "profiler_config": LOADS[name]}))
        command = [sys.executable, "-m", f"aml_{name}_profiler", "--config_path", "load.json"]
        command += ["--scoring_target_path", str(target), "--payload_path", "../payload.jsonl"]
        running[name] = subprocess.Popen(
            command, cwd=folder / name, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    ended = []
    for name, process in running.items():
        out, log = process.communicate(timeout=300)
        assert process.returncode == 0, f"{name}: {log}"
        ended.append(subprocess.CompletedProcess(process.args, process.returncode, out, log))
    return ended


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


def readable(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder that other users could read, if they could enter it."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if may(Path(parent, name), 0o011)]
        yield from (path for path in (Path(parent, name) for name in names) if may(path, 0o044))


def may(path: Path, bits: int) -> bool:
    """Tell whether others have one of those rights; on what has gone meanwhile nobody has any."""
    try:
        return bool(path.stat().st_mode & bits)
    except FileNotFoundError:
        return False


def is_open(folder: Path, home: Path) -> bool:
    """Tell whether other users can get at what is in a folder of the home."""
    around = [folder, *folder.parents]
    return all(one.stat().st_mode & 0o011 for one in around[: around.index(home) + 1])


def test_the_search_finds_what_it_is_for(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "file").write_text("in a closed folder")
    script = "umask 022; echo told > open; umask 077; echo kept > own; sleep 1; rm open # a-secret-in-a-process-list"
    with onlooker(tmp_path) as seen:
        subprocess.run(["sh", "-c", script], check=True, cwd=tmp_path)
    assert any(b"a-secret-in-a-process-list" in command for command in seen.commands)
    assert set(seen.files.values()) - {b""} == {b"told\n"}
    assert FORMS.search(b"GET /c/b?sv=2022&sig=abcdefghijklmnopqrstuvwxyz%3D HTTP")
    assert FORMS.search(b"Bearer eyJhbGciOiJI.eyJhdWQiOiJo.c2lnbmF0dXJl")
