"""Processes of ours: known by pid and start time, stopped with all their children, found again after a crash."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from azureml_local.files import write_json

# Every child carries this variable with its home's id, so that it is recognised even when a killed supervisor
# could not write it down.
OWNER_VARIABLE = "AZUREML_LOCAL_OWNER"


@dataclass(frozen=True)
class ProcessIdentity:
    """A process that a later one with the same pid cannot be mistaken for."""

    pid: int
    started_ticks: int
    boot_id: str


def identify(pid: int) -> ProcessIdentity | None:
    """Return the identity of a live process; None when it is gone (a zombie is gone)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # proc(5): field 2 is the name in parentheses and may hold spaces; 3 is the state, 22 the start in clock ticks.
    after_name = stat[stat.rindex(")") + 2 :].split()
    if after_name[0] in "ZX":
        return None
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ProcessIdentity(pid, int(after_name[19]), boot_id)


def is_alive(identity: ProcessIdentity) -> bool:
    """Say whether this very process still runs."""
    return identify(identity.pid) == identity


def find_owned(home_id: str) -> list[ProcessIdentity]:
    """Find live processes that carry the home's mark in their environment."""
    mark = f"{OWNER_VARIABLE}={home_id}".encode()
    found = []
    for pid in psutil.pids():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if mark in environment.split(b"\0") and pid != os.getpid() and (identity := identify(pid)) is not None:
            found.append(identity)
    return found


def session_members(leader_pid: int) -> list[ProcessIdentity]:
    """Return the processes of a session, its leader's orphans included."""
    members = []
    for pid in psutil.pids():
        try:
            in_session = os.getsid(pid) == leader_pid
        except ProcessLookupError:
            continue
        if in_session and (identity := identify(pid)) is not None:
            members.append(identity)
    return members


def tree(identity: ProcessIdentity) -> list[ProcessIdentity]:
    """Return the process and all its descendants, as far as they live."""
    if not is_alive(identity):
        return []
    try:
        children = psutil.Process(identity.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    found = (identify(child.pid) for child in children)
    return [identity, *(child for child in found if child is not None)]


def send(identity: ProcessIdentity, number: signal.Signals) -> None:
    """Send a signal to this very process, if it still runs."""
    if is_alive(identity):
        with contextlib.suppress(ProcessLookupError):
            os.kill(identity.pid, number)


def stop_all(identities: Iterable[ProcessIdentity], grace_sec: float) -> None:
    """End processes with their descendants: first asked, then, after the grace time, killed."""
    members = {member for identity in identities for member in tree(identity)}
    for member in members:
        send(member, signal.SIGTERM)
    deadline = time.monotonic() + grace_sec
    while any(is_alive(member) for member in members) and time.monotonic() < deadline:
        time.sleep(0.02)
    for member in members:
        send(member, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while any(is_alive(member) for member in members) and time.monotonic() < deadline:
        time.sleep(0.02)


class ProcessTable:
    """The children that run now, kept on disk so that a successor can find them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._children: dict[int, tuple[str, ProcessIdentity]] = {}

    def add(self, role: str, pid: int) -> None:
        """Write a started child down."""
        identity = identify(pid)
        if identity is not None:
            self._children[pid] = (role, identity)
            self._save()

    def remove(self, pid: int) -> None:
        """Forget an ended child."""
        if self._children.pop(pid, None) is not None:
            self._save()

    def _save(self) -> None:
        write_json(self._path, [{"role": role, **asdict(identity)} for role, identity in self._children.values()])


def recorded(path: Path) -> list[ProcessIdentity]:
    """Read the children that a supervisor has written down."""
    if not path.exists():
        return []
    return [
        ProcessIdentity(entry["pid"], entry["started_ticks"], entry["boot_id"])
        for entry in json.loads(path.read_text())
    ]
