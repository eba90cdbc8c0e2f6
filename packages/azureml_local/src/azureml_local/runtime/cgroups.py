"""Control groups, version 1 and 2: where they can be made, what they limit, and what they say was used.

https://docs.kernel.org/admin-guide/cgroup-v2.html and https://docs.kernel.org/admin-guide/cgroup-v1/
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from azureml_local.telemetry.usage import Usage

PERIOD_US = 100_000
# The kernel takes no shorter quota than a millisecond (kernel/sched/core.c, min_cfs_quota_period).
SHORTEST_QUOTA_US = 1000
# A group goes only when the last of its killed processes is reaped, which takes a moment.
REMOVAL_LIMIT_SEC = 5.0
LEAF_SUFFIX = "-supervisor"
NEEDED_V1 = ("cpu", "cpuacct", "memory")
NEEDED_V2 = ("cpu", "memory")
# Of what a group is without: a limit so large is none (v1 says 2^63 rounded down to a page).
NO_LIMIT_BYTES = 1 << 62


class CgroupsUnavailable(Exception):
    """No groups can be made here; the message says why, and what would help."""


@dataclass(frozen=True)
class Mounts:
    """Where this process stands in the hierarchies that are mounted."""

    # Version 1: by controller, our own group's folder and the mount point above it.
    v1: Mapping[str, tuple[Path, Path]]
    v2: tuple[Path, Path] | None


@dataclass(frozen=True)
class Group:
    """One group: a folder per controller (in version 2 all of them are the same)."""

    version: Literal[1, 2]
    folders: Mapping[str, Path]

    @property
    def distinct(self) -> tuple[Path, ...]:
        """The folders, each once: controllers may be mounted together."""
        return tuple(dict.fromkeys(self.folders.values()))

    @property
    def entrances(self) -> tuple[Path, ...]:
        """The files to write a process's id to (0: the writer's own)."""
        return tuple(folder / "cgroup.procs" for folder in self.distinct)

    def child(self, name: str) -> Group:
        """Name a group below this one."""
        return Group(self.version, {key: folder / name for key, folder in self.folders.items()})


def parse_mounts(mountinfo: str, own: str) -> Mounts:
    """Read /proc/self/mountinfo and /proc/self/cgroup (proc(5), cgroups(7))."""
    memberships = dict[str, str]()
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        memberships |= dict.fromkeys(controllers.split(","), path)
    v1: dict[str, tuple[Path, Path]] = {}
    v2: tuple[Path, Path] | None = None
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if kind[0] not in ("cgroup", "cgroup2"):
            continue
        root, point = _unescape(fields[3]), Path(_unescape(fields[4]))
        for controller in [""] if kind[0] == "cgroup2" else kind[2].split(","):
            if controller not in memberships:
                continue
            place = _below(memberships[controller], root)
            if place is None:
                continue
            if kind[0] == "cgroup2":
                v2 = v2 or (point / place, point)
            else:
                v1.setdefault(controller, (point / place, point))
    return Mounts(v1, v2)


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _below(path: str, root: str) -> str | None:
    """Return where a group lies below what is mounted; None when it is outside of it."""
    if ".." in path.split("/"):
        return None
    if root == "/":
        return path.lstrip("/")
    if path == root or path.startswith(f"{root}/"):
        return path[len(root) :].lstrip("/")
    return None


def own_mounts() -> Mounts:
    """Return where this process stands."""
    return parse_mounts(Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text())


# Making


def make_parent(mounts: Mounts, name: str, undo: contextlib.ExitStack) -> Group:
    """Make our own group, below which instances get theirs; raises CgroupsUnavailable.

    `undo` gets what takes all of it back, for whoever finds out later that it cannot be used.
    """
    try:
        if all(controller in mounts.v1 for controller in NEEDED_V1):
            return _make_parent_v1(mounts, name, undo)
        if mounts.v2 is not None:
            return _make_parent_v2(*mounts.v2, name, undo)
    except OSError as error:
        raise CgroupsUnavailable(words(error)) from error
    raise CgroupsUnavailable(
        "no control groups with the controllers cpu and memory are mounted; in a container, mount /sys/fs/cgroup"
    )


def words(error: OSError) -> str:
    """Return the reason and what would help."""
    place = error.filename or "/sys/fs/cgroup"
    if error.errno == errno.EROFS:
        return (
            f"{place}: the control groups are mounted read-only; "
            "in a container, run it with --privileged --cgroupns=host"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"{place}: this user may make no control groups; run as root, or by "
            "'systemd-run --user --scope -p Delegate=yes azureml-local up'"
        )
    if error.errno == errno.EBUSY:
        return (
            f"{place}: holds processes of others; run by 'systemd-run --user --scope -p Delegate=yes azureml-local up'"
        )
    return f"{place}: {error.strerror}"


def _make_parent_v1(mounts: Mounts, name: str, undo: contextlib.ExitStack) -> Group:
    # Below our own groups, so that whatever limits us limits the instances too.
    wanted = [*NEEDED_V1, *(["blkio"] if "blkio" in mounts.v1 else [])]
    parent = Group(1, {controller: mounts.v1[controller][0] / name for controller in wanted})
    with contextlib.ExitStack() as attempt:
        for folder in parent.distinct:
            _make(folder, attempt)
        undo.push(attempt.pop_all())
    return parent


def _make_parent_v2(own: Path, top: Path, name: str, undo: contextlib.ExitStack) -> Group:
    """Find the nearest place, our own group or above, whose children get the controllers.

    A group that has processes cannot hand controllers on (the "no internal processes" rule), so it is seldom our own.
    Above it nothing is changed: a place there has to hand them on already.
    """
    refusal: OSError | None = None
    for folder in _lineage(own, top):
        try:
            with contextlib.ExitStack() as attempt:
                parent = _try_place(folder, own, name, attempt)
                if parent is None:
                    continue
                undo.push(attempt.pop_all())
        except OSError as error:
            refusal = refusal or error
            continue
        return Group(2, dict.fromkeys((*NEEDED_V2, "io"), parent))
    if refusal is not None:
        raise refusal
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(own))


def _try_place(folder: Path, own: Path, name: str, undo: contextlib.ExitStack) -> Path | None:
    """Make our group in one place; None where that place is not to be had."""
    parent = folder / name
    if folder != own:
        if not _hands_on(folder):
            return None
        _make(parent, undo)
        # Beside our own group and not below it: what limits us would not limit the instances.
        passed = [group for group in _lineage(own, folder) if group != folder]
        _limit(parent, _inherited_quota_v2(passed), _inherited_bytes_v2(passed))
    else:
        # Before anything is moved: a group that has not got the controllers cannot hand them on.
        _require_controllers(folder)
        if not _hands_on(folder) and not _is_root(folder) and not _vacate(folder, name + LEAF_SUFFIX, undo):
            return None
        _hand_on(folder, undo)
        _make(parent, undo)
    _hand_on(parent, undo)
    return parent


def _make(folder: Path, undo: contextlib.ExitStack) -> None:
    folder.mkdir(exist_ok=True)
    undo.callback(lambda: remove(tree_of(folder)))


def _limit(parent: Path, vcpus: float | None, memory_bytes: int | None) -> None:
    """Hold all instances together to what holds us."""
    if vcpus is not None:
        (parent / "cpu.max").write_text(f"{max(SHORTEST_QUOTA_US, int(vcpus * PERIOD_US))} {PERIOD_US}")
    if memory_bytes is not None:
        (parent / "memory.max").write_text(str(memory_bytes))


def _hands_on(folder: Path) -> bool:
    return set(NEEDED_V2) <= set((folder / "cgroup.subtree_control").read_text().split())


def _require_controllers(folder: Path) -> list[str]:
    """Return the controllers that a group has and that are wanted below it; raises OSError when a needed one lacks."""
    present = (folder / "cgroup.controllers").read_text().split()
    if missing := [controller for controller in NEEDED_V2 if controller not in present]:
        raise OSError(errno.ENOENT, f"the controller {missing[0]} is not handed on to it", str(folder))
    return [controller for controller in (*NEEDED_V2, "io") if controller in present]


def _hand_on(folder: Path, undo: contextlib.ExitStack) -> None:
    """Give the controllers to the groups below a folder."""
    control = folder / "cgroup.subtree_control"
    enabled = control.read_text().split()
    if wanted := [controller for controller in _require_controllers(folder) if controller not in enabled]:
        control.write_text(" ".join(f"+{controller}" for controller in wanted))
        undo.callback(lambda: control.write_text(" ".join(f"-{controller}" for controller in wanted)))


def _is_root(folder: Path) -> bool:
    # Only the system's root group lacks this file, and it alone may have processes beside controllers.
    return not (folder / "cgroup.type").exists()


def vacated(parent: Group) -> tuple[Path, ...]:
    """Return the group that this process has gone to, if it had to make room."""
    leaves = (folder.with_name(folder.name + LEAF_SUFFIX) for folder in parent.distinct)
    return tuple(leaf for leaf in leaves if leaf.exists())


def _vacate(folder: Path, name: str, undo: contextlib.ExitStack) -> bool:
    """Move this process, and the `up` that waits for it, a group down, if nobody else is in ours."""
    members = _members(folder / "cgroup.procs")
    if not all(pid == os.getpid() or (pid == os.getppid() and _is_up(pid)) for pid in members):
        return False
    leaf = folder / name
    leaf.mkdir(exist_ok=True)
    undo.callback(leaf.rmdir)
    for pid in members:
        undo.callback(_move, pid, folder)
        _move(pid, leaf)
    return True


def _move(pid: int, folder: Path) -> None:
    (folder / "cgroup.procs").write_text(str(pid))


def _is_up(pid: int) -> bool:
    # A shell's own name is in its command line too, but not this.
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return b"up" in words and any(b"azureml" in word for word in words)


def weigh(group: Group, vcpus: float) -> None:
    """Let a group's share of busy CPUs follow its vCPUs: as much for one as for one process elsewhere."""
    cpu = group.folders["cpu"]
    if group.version == 2:
        (cpu / "cpu.weight").write_text(str(min(10_000, max(1, round(100 * vcpus)))))
    else:
        (cpu / "cpu.shares").write_text(str(min(262_144, max(2, round(1024 * vcpus)))))


def make_group(parent: Group, name: str, vcpus: float, memory_bytes: int, *, whole_machine: bool = False) -> Group:
    """Make an instance's group with its limits; one that is to have the whole machine needs no quota."""
    group = parent.child(name)
    for folder in group.distinct:
        folder.mkdir(exist_ok=True)
    quota_us = None if whole_machine else max(SHORTEST_QUOTA_US, round(vcpus * PERIOD_US))
    cpu, memory = group.folders["cpu"], group.folders["memory"]
    weigh(group, vcpus)
    if group.version == 2:
        (cpu / "cpu.max").write_text(f"{'max' if quota_us is None else quota_us} {PERIOD_US}")
        (memory / "memory.max").write_text(str(memory_bytes))
        # A machine of this size would have no swap of ours; and it dies whole, as a container does.
        for name, value in (("memory.swap.max", "0"), ("memory.oom.group", "1")):
            if (memory / name).exists():
                (memory / name).write_text(value)
        return group
    (cpu / "cpu.cfs_period_us").write_text(str(PERIOD_US))
    (cpu / "cpu.cfs_quota_us").write_text(str(-1 if quota_us is None else quota_us))
    (memory / "memory.limit_in_bytes").write_text(str(memory_bytes))
    # Memory and swap together; where swap is not accounted, none is to be used.
    together = memory / "memory.memsw.limit_in_bytes"
    if together.exists():
        together.write_text(str(memory_bytes))
    else:
        (memory / "memory.swappiness").write_text("0")
    return group


# Removing


def holds_us(folder: Path) -> bool:
    """Say whether this process is in a group."""
    return os.getpid() in _members(folder / "cgroup.procs")


def _members(entrance: Path) -> set[int]:
    try:
        return {int(line) for line in entrance.read_text().split()}
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):
            return set()
        raise


def remove(folders: Iterable[Path]) -> list[Path]:
    """Remove groups of ours, children before parents, killing what is left in them; returns those that stay."""
    left = sorted(dict.fromkeys(folders), key=lambda folder: -len(folder.parts))
    deadline = time.monotonic() + REMOVAL_LIMIT_SEC
    while left:
        left = [folder for folder in left if not _remove_one(folder)]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.02)
    return left


def _remove_one(folder: Path) -> bool:
    for pid in _members(folder / "cgroup.procs"):
        # A process of another pid namespace is listed as 0, which kill(2) takes for our own process group.
        if pid > 0 and pid != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        raise
    return True


def tree_of(folder: Path) -> list[Path]:
    """Return a group's folder and all below it."""
    try:
        below = [entry for entry in folder.iterdir() if entry.is_dir()]
    except FileNotFoundError:
        return []
    return [folder, *(path for entry in below for path in tree_of(entry))]


# Reading


def usage_of(group: Group) -> Usage:
    """Return what a group has used since it was made; raises OSError when it is gone."""
    cpu, memory = group.folders["cpu"], group.folders["memory"]
    if group.version == 2:
        statistics = _pairs(memory / "memory.stat")
        in_use = int((memory / "memory.current").read_text()) - statistics.get("inactive_file", 0)
        moved = _moved_v2(group.folders["io"] / "io.stat")
        return Usage(_pairs(cpu / "cpu.stat")["usage_usec"] / 1e6, max(0, in_use), *moved)
    statistics = _pairs(memory / "memory.stat")
    in_use = int((memory / "memory.usage_in_bytes").read_text()) - statistics.get("total_inactive_file", 0)
    used_ns = int((group.folders["cpuacct"] / "cpuacct.usage").read_text())
    blocks = group.folders.get("blkio")
    moved = _moved_v1(blocks / "blkio.throttle.io_service_bytes_recursive") if blocks else (None, None)
    return Usage(used_ns / 1e9, max(0, in_use), *moved)


def oom_kills(group: Group) -> int:
    """Return how many processes of a group the kernel has killed for its memory limit."""
    name = "memory.events" if group.version == 2 else "memory.oom_control"
    return _pairs(group.folders["memory"] / name).get("oom_kill", 0)


def _pairs(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in path.read_text().splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}


def _moved_v1(path: Path) -> tuple[int | None, int | None]:
    if not path.exists():
        return None, None
    moved = {"Read": 0, "Write": 0}
    for line in path.read_text().splitlines():
        fields = line.split()
        if len(fields) == 3 and fields[1] in moved:
            moved[fields[1]] += int(fields[2])
    return moved["Read"], moved["Write"]


def _moved_v2(path: Path) -> tuple[int | None, int | None]:
    if not path.exists():
        return None, None
    moved = {"rbytes": 0, "wbytes": 0}
    for line in path.read_text().splitlines():
        for field in line.split()[1:]:
            name, _, value = field.partition("=")
            if name in moved:
                moved[name] += int(value)
    return moved["rbytes"], moved["wbytes"]


# What limits us already


def inherited_vcpus(mounts: Mounts) -> float | None:
    """Return the CPUs that the groups we are in leave us; None when they set no limit."""
    quotas = []
    if "cpu" in mounts.v1:
        for folder in _lineage(*mounts.v1["cpu"]):
            quota = _number(folder / "cpu.cfs_quota_us")
            period = _number(folder / "cpu.cfs_period_us")
            if quota is not None and quota > 0 and period:
                quotas.append(quota / period)
    elif mounts.v2 is not None:
        return _inherited_quota_v2(_lineage(*mounts.v2))
    return min(quotas, default=None)


def _inherited_quota_v2(folders: Iterable[Path]) -> float | None:
    paths = [folder / "cpu.max" for folder in folders]
    pairs = [path.read_text().split() for path in paths if path.exists()]
    return min((int(quota) / int(period) for quota, period in pairs if quota != "max"), default=None)


def inherited_memory_bytes(mounts: Mounts) -> int | None:
    """Return the memory that the groups we are in leave us; None when they set no limit."""
    if "memory" in mounts.v1:
        paths = [folder / "memory.limit_in_bytes" for folder in _lineage(*mounts.v1["memory"])]
        return _smallest(paths)
    return None if mounts.v2 is None else _inherited_bytes_v2(_lineage(*mounts.v2))


def _inherited_bytes_v2(folders: Iterable[Path]) -> int | None:
    return _smallest(folder / "memory.max" for folder in folders)


def _smallest(paths: Iterable[Path]) -> int | None:
    limits = [limit for path in paths if (limit := _number(path)) is not None and limit < NO_LIMIT_BYTES]
    return min(limits, default=None)


def _lineage(own: Path, top: Path) -> list[Path]:
    return [own, *(folder for folder in own.parents if folder == top or top in folder.parents)]


def _number(path: Path) -> int | None:
    if not path.exists():
        return None
    text = path.read_text().strip()
    return None if text == "max" else int(text)
