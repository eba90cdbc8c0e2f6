"""Sizes that mean something: what an instance of a VM size gets of this machine, and how it is held to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from azureml_local.exceptions import DeploymentError, PlaneError
from azureml_local.files import write_json
from azureml_local.models.vm_sizes import VmSize
from azureml_local.runtime import cgroups
from azureml_local.runtime.cgroups import CgroupsUnavailable, Group
from azureml_local.runtime.process_tree import ProcessTree
from azureml_local.telemetry.usage import Usage

LOGGER = logging.getLogger(__name__)

CONFINE = Path(__file__).with_name("confine.py")
GIB = 1024**3
MIB = 1024**2
GROUP_PREFIX = "azureml_local-"
# For who does not want them; "off" is the one value.
SWITCH_VARIABLE = "AZUREML_LOCAL_CGROUPS"
TRIAL = "trial"
TRIAL_BYTES = 256 * MIB
# Python's own start takes a tenth of a second; a machine may be busy.
TRIAL_LIMIT_SEC = 60.0


@dataclass(frozen=True)
class Machine:
    """What there is to give."""

    cpus: tuple[int, ...]
    # Fewer than the CPUs where a control group around us has a quota.
    vcpus: float
    memory_bytes: int


@dataclass(frozen=True)
class Grant:
    """What an instance gets, and what of its size it does not."""

    vcpus: float
    memory_bytes: int
    how: str
    notes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.vcpus:g} vCPU, {size_text(self.memory_bytes)} ({self.how})"


def size_text(size_bytes: float) -> str:
    """Return a size in the unit that suits it."""
    return f"{size_bytes / GIB:.4g} GiB" if size_bytes >= GIB else f"{size_bytes / MIB:.4g} MiB"


def this_machine(mounts: cgroups.Mounts) -> Machine:
    """Look at what this process may use."""
    cpus = tuple(sorted(os.sched_getaffinity(0)))
    quota, limit = cgroups.inherited_vcpus(mounts), cgroups.inherited_memory_bytes(mounts)
    total = psutil.virtual_memory().total
    return Machine(
        cpus,
        float(len(cpus)) if quota is None else min(quota, len(cpus)),
        total if limit is None else min(limit, total),
    )


class Confinement:
    """Gives each instance its share; one per plane."""

    def __init__(self, machine: Machine, parent: Group | None = None, refusal: str | None = None) -> None:
        self.machine = machine
        # Why there are no control groups, and what would help.
        self.refusal = refusal
        self._parent = parent
        self._loads: Counter[int] = Counter(dict.fromkeys(machine.cpus, 0))

    @property
    def folders(self) -> tuple[Path, ...]:
        """Our own control groups, for whoever has to remove them after a crash."""
        return self._parent.distinct if self._parent else ()

    @property
    def vacated(self) -> tuple[Path, ...]:
        """The group that the plane itself had to move to; it cannot remove that one itself."""
        return cgroups.vacated(self._parent) if self._parent else ()

    @property
    def how(self) -> str:
        """Say by what instances are held."""
        return f"cgroup v{self._parent.version}" if self._parent else "CPU affinity and a watch on memory"

    @property
    def warning(self) -> str | None:
        """Return the one line that a user must see."""
        if self.refusal is None:
            return None
        return (
            "sizes are held by CPU affinity and a watch on memory, once a second, not by control groups: "
            f"whole CPUs only, and memory may be exceeded for a moment ({self.refusal})"
        )

    def grant(self, size: VmSize, instance_count: int) -> Grant:
        """Say what an instance of this size gets."""
        machine, notes = self.machine, []
        vcpus, memory_bytes = float(size.vcpus), size.memory_gib * GIB
        if vcpus > machine.vcpus:
            notes.append(f"{size.name} has {size.vcpus:g} vCPUs, this machine {machine.vcpus:g}: it gets those")
            vcpus = machine.vcpus
        elif self._parent is None and vcpus != math.ceil(vcpus):
            notes.append(f"{size.name} has {size.vcpus:g} vCPU: without control groups it gets whole CPUs")
            vcpus = min(machine.vcpus, float(math.ceil(vcpus)))
        if memory_bytes > machine.memory_bytes:
            notes.append(
                f"{size.name} has {size_text(memory_bytes)}, this machine {size_text(machine.memory_bytes)}: "
                "it gets those"
            )
            memory_bytes = machine.memory_bytes
        if instance_count > 1 and instance_count * vcpus > machine.vcpus:
            notes.append(f"{instance_count} instances of {vcpus:g} vCPUs share this machine's {machine.vcpus:g}")
        if size.gpus:
            notes.append(f"{size.name} has {size.gpus} GPU(s): none is set apart here")
        return Grant(vcpus, int(memory_bytes), self.how, tuple(notes))

    def admit(self, name: str, size: VmSize, instance_count: int) -> Cell:
        """Make an instance's place, with its limits in force before anything runs in it; raises DeploymentError."""
        grant = self.grant(size, instance_count)
        group: Group | None = None
        if self._parent is not None:
            whole = grant.vcpus >= self.machine.vcpus
            try:
                group = cgroups.make_group(self._parent, name, grant.vcpus, grant.memory_bytes, whole_machine=whole)
            except OSError as error:
                message = f"{error.filename}: the instance's control group cannot be made: {error.strerror}"
                raise DeploymentError("InternalServerError", message) from error
        cpus = self._take_cpus(grant.vcpus)
        give_back = partial(self._give_back, cpus)
        # Said even where it is all of them: a group that is not below ours has its own set of CPUs.
        return Cell(grant, size.name, cpus or (self.machine.cpus if group else ()), group, give_back)

    def _take_cpus(self, vcpus: float) -> tuple[int, ...]:
        """Choose the CPUs with the fewest instances, so that a program counts as many as the size has."""
        count = math.ceil(vcpus)
        if count >= len(self.machine.cpus):
            return ()
        chosen = tuple(sorted(sorted(self._loads, key=lambda cpu: (self._loads[cpu], cpu))[:count]))
        self._loads.update(chosen)
        return chosen

    def _give_back(self, cpus: tuple[int, ...]) -> None:
        self._loads.subtract(cpus)

    def close(self) -> None:
        """Remove our own control groups."""
        if left := cgroups.remove(path for folder in self.folders for path in cgroups.tree_of(folder)):
            LOGGER.warning("%s: the control group is still in use; the next start removes it", left[0])


class Cell:
    """The place of one instance."""

    def __init__(
        self,
        grant: Grant,
        size_name: str,
        cpus: tuple[int, ...],
        group: Group | None,
        give_back: Callable[[], None],
    ) -> None:
        self.grant = grant
        self.cpus = cpus
        self._size_name = size_name
        self._group = group
        self._give_back = give_back
        # A group that an earlier try has left keeps its counters.
        self._kills_before = cgroups.oom_kills(group) if group else 0
        # Without a group: one for the figures and one for the watch, since each has its own pace.
        self._tree: ProcessTree | None = None
        self._watched: ProcessTree | None = None
        self._closed = False

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return the command line that runs another inside."""
        entrances = self._group.entrances if self._group else ()
        options = [word for entrance in entrances for word in ("--group", str(entrance))]
        if self.cpus:
            options += ["--cpus", ",".join(map(str, self.cpus))]
        return [sys.executable, "-I", "-S", str(CONFINE), *options, "--", *argv] if options else list(argv)

    def follow(self, root_pid: int) -> None:
        """Say which process runs inside."""
        if self._group is None:
            self._tree, self._watched = ProcessTree(root_pid), ProcessTree(root_pid)

    def usage(self) -> Usage | None:
        """Return what has been used so far; None when nothing runs."""
        if self._closed:
            return None
        if self._group is not None:
            return cgroups.usage_of(self._group)
        return self._tree.usage() if self._tree else None

    def out_of_memory(self) -> bool:
        """Say whether the kernel has killed one of the processes for the limit, or, without it, whether one must go."""
        if self._closed:
            return False
        if self._group is not None:
            return cgroups.oom_kills(self._group) > self._kills_before
        return self._watched is not None and self._watched.exceeds(self.grant.memory_bytes)

    @property
    def out_of_memory_words(self) -> str:
        """Say what has happened and what helps."""
        return (
            f"The container was terminated by OOM: it needed more than its memory limit of "
            f"{size_text(self.grant.memory_bytes)} ({self._size_name}, {self.grant.how}). "
            "Choose an instance_type with more memory, fewer workers (WORKER_COUNT), or a smaller model."
        )

    async def close(self) -> None:
        """Give the place up; whatever still runs in it is killed."""
        if self._closed:
            return
        self._closed = True
        self._give_back()
        if self._group is not None and (left := await asyncio.to_thread(cgroups.remove, self._group.distinct)):
            LOGGER.warning("%s: the control group is still in use; the next start removes it", left[0])


# Its life


def confine(name: str, environ: Mapping[str, str] = os.environ) -> Confinement:
    """Return what can hold instances on this machine, tried out; `name` is our own control group's."""
    mounts = cgroups.own_mounts()
    machine = this_machine(mounts)
    if environ.get(SWITCH_VARIABLE, "").lower() == "off":
        return Confinement(machine, None, f"{SWITCH_VARIABLE}=off: unset it and start again")
    try:
        with contextlib.ExitStack() as undo:
            parent = cgroups.make_parent(mounts, name, undo)
            _try_out(parent, machine.vcpus)
            undo.pop_all()
    except CgroupsUnavailable as refusal:
        return Confinement(machine, None, str(refusal))
    except OSError as error:
        # What was begun cannot be taken back; the next start tries again.
        return Confinement(machine, None, cgroups.words(error))
    return Confinement(machine, parent)


def _try_out(parent: Group, vcpus: float) -> None:
    """Run a process in a group: being allowed to make one does not mean being allowed to enter it."""
    try:
        cgroups.weigh(parent, vcpus)
        group = cgroups.make_group(parent, TRIAL, vcpus, TRIAL_BYTES)
        options = [word for entrance in group.entrances for word in ("--group", str(entrance))]
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(CONFINE), *options, "--", sys.executable, "-I", "-S", "-c", "pass"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=TRIAL_LIMIT_SEC,
        )
        if done.returncode != 0:
            said = done.stderr.strip() or f"a process in {group.distinct[0]}: status {done.returncode}"
            raise CgroupsUnavailable(said)
        left = cgroups.remove(group.distinct)
    except OSError as error:
        raise CgroupsUnavailable(cgroups.words(error)) from error
    except subprocess.TimeoutExpired:
        message = f"{group.distinct[0]}: a process in it has not come to its end within {TRIAL_LIMIT_SEC:g} s"
        raise CgroupsUnavailable(message) from None
    if left:
        raise CgroupsUnavailable(f"{left[0]}: cannot be removed, although no process is in it")


def group_name(home_id: str) -> str:
    """Return the name of a plane's own control group."""
    return f"{GROUP_PREFIX}{home_id[:16]}"


def write_folders(path: Path, confinement: Confinement) -> None:
    """Write our own control groups down, for whoever has to remove them after a crash."""
    write_json(path, [str(folder) for folder in (*confinement.folders, *confinement.vacated)])


def remove_stale(path: Path) -> None:
    """Remove the control groups of a plane that is gone."""
    if not path.exists():
        return
    folders = [Path(folder) for folder in json.loads(path.read_text())]
    # Only what bears our name, whatever the file says, and not what this very process is in.
    ours = [folder for folder in folders if folder.name.startswith(GROUP_PREFIX) and not cgroups.holds_us(folder)]
    if left := cgroups.remove(below for folder in ours for below in cgroups.tree_of(folder)):
        raise PlaneError(f"{left[0]}: the control group of an earlier run is still in use; end the processes in it")
    path.unlink()
