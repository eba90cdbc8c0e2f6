"""Samples of the instances, about once a second: CPU, memory, block and network I/O of each."""

from __future__ import annotations

import errno
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from azureml_local.telemetry.series import Dimensions, MetricStore, dimensions
from azureml_local.telemetry.usage import Usage

PERIOD_SEC = 1.0
# What seldom changes is looked at less often.
SLOW_EVERY = 5
# As the metrics that are counted in megabytes: https://learn.microsoft.com/azure/machine-learning/monitor-resource-reference
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Watched:
    """One instance to be sampled: what it has been given, and how to ask what it has used."""

    deployment_id: str
    instance_id: str
    # Tells one run of an instance from the next: counters begin anew.
    root_pid: int
    vcpus: float
    memory_bytes: float
    usage: Callable[[], Usage | None]


@dataclass(frozen=True)
class _Look:
    root_pid: int
    at: float
    usage: Usage


class Sampler:
    """Takes the samples."""

    def __init__(
        self,
        metrics: MetricStore,
        watched: Callable[[], Iterable[Watched]],
        disk: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = metrics
        self._watched = watched
        self._disk = disk
        self._clock = clock
        self._looks: dict[str, _Look] = {}
        self._bytes: dict[str, tuple[int, int]] = {}
        self._round = 0

    def sample(self) -> None:
        """Take one sample of every instance."""
        at = time.time()
        slow = self._round % SLOW_EVERY == 0
        self._round += 1
        present: set[str] = set()
        capacity: Counter[str] = Counter()
        for entry in self._watched():
            present.add(entry.instance_id)
            self._sample_one(entry, at, slow)
            capacity[entry.deployment_id.lower()] += 1
        for gone in set(self._looks) - present:
            del self._looks[gone]
        if slow:
            for resource, instances in capacity.items():
                self._metrics.gauge(resource, "DeploymentCapacity", (), instances, at)
            self._metrics.write_finished(at)

    def sample_network(self, moved: Mapping[str, tuple[int, int]]) -> None:
        """Take a sample of the bytes that the gateway has moved to and from each instance since its start."""
        at = time.time()
        for entry in self._watched():
            now = moved.get(entry.instance_id)
            if now is None:
                continue
            # The first look counts from nothing: the gateway's counters begin with the instance. A reload begins anew.
            before = self._bytes.get(entry.instance_id, (0, 0))
            if now[0] < before[0] or now[1] < before[1]:
                before = (0, 0)
            dims = dimensions(instanceId=entry.instance_id)
            for name, number in (("NetworkInputMegabytes", 0), ("NetworkOutputMegabytes", 1)):
                value = (now[number] - before[number]) / MEGABYTE
                self._metrics.gauge(entry.deployment_id.lower(), name, dims, value, at)
        self._bytes = dict(moved)

    def _sample_one(self, entry: Watched, at: float, slow: bool) -> None:
        resource = entry.deployment_id.lower()
        dims = dimensions(instanceId=entry.instance_id)
        try:
            usage = entry.usage()
        except OSError as error:
            # Its control group has gone since it was listed; a file of it that was open by then says ENODEV.
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise
            return
        # Read after the counters' own read would make a busy second look shorter than it was.
        now = self._clock()
        if usage is None:
            return
        self._record_use(resource, dims, entry, usage, at)
        before = self._looks.get(entry.instance_id)
        self._looks[entry.instance_id] = _Look(entry.root_pid, now, usage)
        if before is not None and before.root_pid == entry.root_pid and now > before.at:
            self._record_change(resource, dims, entry, before, self._looks[entry.instance_id], at)
        if slow:
            disk = shutil.disk_usage(self._disk)
            disk_dims = dimensions(instanceId=entry.instance_id, disk="/")
            self._metrics.gauge(resource, "DiskUtilization", disk_dims, 100 * disk.used / disk.total, at)

    def _record_use(self, resource: str, dims: Dimensions, entry: Watched, usage: Usage, at: float) -> None:
        for name, value in (
            ("CpuMemoryUtilizationPercentage", 100 * usage.memory_bytes / entry.memory_bytes),
            ("CpuMemoryUtilizationMegabytes", usage.memory_bytes / MEGABYTE),
            ("CpuMemoryCapacityMegabytes", entry.memory_bytes / MEGABYTE),
            ("CpuCapacityMillicores", 1000 * entry.vcpus),
        ):
            self._metrics.gauge(resource, name, dims, value, at)

    def _record_change(
        self, resource: str, dims: Dimensions, entry: Watched, before: _Look, look: _Look, at: float
    ) -> None:
        cores = (look.usage.cpu_sec - before.usage.cpu_sec) / (look.at - before.at)
        self._metrics.gauge(resource, "CpuUtilizationPercentage", dims, 100 * cores / entry.vcpus, at)
        self._metrics.gauge(resource, "CpuUtilizationMillicores", dims, 1000 * cores, at)
        for name, now_bytes, then_bytes in (
            ("DiskReadMegabytes", look.usage.read_bytes, before.usage.read_bytes),
            ("DiskWriteMegabytes", look.usage.written_bytes, before.usage.written_bytes),
        ):
            if now_bytes is not None and then_bytes is not None:
                self._metrics.gauge(resource, name, dims, (now_bytes - then_bytes) / MEGABYTE, at)
