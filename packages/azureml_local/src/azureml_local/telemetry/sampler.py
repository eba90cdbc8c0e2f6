"""Samples of the processes, about once a second: CPU and memory of every instance, connections of every endpoint."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from azureml_local.telemetry.series import MetricStore, dimensions

PERIOD_SEC = 1.0
# Memory needs a walk over the page tables, and process trees seldom change: less often.
SLOW_EVERY = 5


@dataclass(frozen=True)
class Watched:
    """One instance to be sampled."""

    deployment_id: str
    instance_id: str
    root_pid: int
    vcpus: int
    memory_bytes: float


class ProcessTree:
    """CPU time that a process and its descendants have used since the last look."""

    def __init__(self, root_pid: int) -> None:
        self._root_pid = root_pid
        self._members: dict[int, psutil.Process] = {}
        self._used_sec: dict[int, float] = {}

    def refresh(self) -> None:
        """Look for new descendants."""
        try:
            root = psutil.Process(self._root_pid)
            found = [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            found = []
        self._members = {process.pid: self._members.get(process.pid, process) for process in found}

    def cpu_sec(self) -> float:
        """Return the CPU time used since the last call; a member's first look is its base line."""
        used_sec = 0.0
        for pid, process in list(self._members.items()):
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                del self._members[pid]
                self._used_sec.pop(pid, None)
                continue
            now_sec = times.user + times.system
            used_sec += max(0.0, now_sec - self._used_sec.get(pid, now_sec))
            self._used_sec[pid] = now_sec
        return used_sec

    def memory_bytes(self) -> int:
        """Return the proportional set size of all members: shared pages count once over those who share them."""
        total = 0
        for process in list(self._members.values()):
            try:
                total += process.memory_full_info().pss
            except psutil.NoSuchProcess:
                continue
        return total


class Sampler:
    """Takes the samples."""

    def __init__(
        self,
        metrics: MetricStore,
        watched: Callable[[], Iterable[Watched]],
        disk: Path,
    ) -> None:
        self._metrics = metrics
        self._watched = watched
        self._disk = disk
        self._trees: dict[int, ProcessTree] = {}
        self._last = time.monotonic()
        self._round = 0

    def sample(self) -> None:
        """Take one sample of every instance."""
        now, at = time.monotonic(), time.time()
        elapsed_sec, self._last = now - self._last, now
        slow = self._round % SLOW_EVERY == 0
        self._round += 1
        present: set[int] = set()
        capacity: Counter[str] = Counter()
        for entry in self._watched():
            present.add(entry.root_pid)
            self._sample_one(entry, elapsed_sec, at, slow)
            capacity[entry.deployment_id.lower()] += 1
        for pid in set(self._trees) - present:
            del self._trees[pid]
        if slow:
            for resource, instances in capacity.items():
                self._metrics.gauge(resource, "DeploymentCapacity", (), instances, at)
            self._metrics.write_finished(at)

    def _sample_one(self, entry: Watched, elapsed_sec: float, at: float, slow: bool) -> None:
        resource = entry.deployment_id.lower()
        dims = dimensions(instanceId=entry.instance_id)
        tree = self._trees.get(entry.root_pid)
        first = tree is None
        if tree is None:
            tree = self._trees[entry.root_pid] = ProcessTree(entry.root_pid)
        if slow or first:
            tree.refresh()
        used_sec = tree.cpu_sec()
        if not first and elapsed_sec > 0:
            percent = 100 * used_sec / elapsed_sec / entry.vcpus
            self._metrics.gauge(resource, "CpuUtilizationPercentage", dims, percent, at)
        if slow:
            memory = 100 * tree.memory_bytes() / entry.memory_bytes
            self._metrics.gauge(resource, "CpuMemoryUtilizationPercentage", dims, memory, at)
            usage = shutil.disk_usage(self._disk)
            disk = dimensions(instanceId=entry.instance_id, disk="/")
            self._metrics.gauge(resource, "DiskUtilization", disk, 100 * usage.used / usage.total, at)
