"""Sizes: what is granted, and that real processes are held to it."""

from __future__ import annotations

import asyncio
import errno
import json
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from azureml_local.models.vm_sizes import VmSize, find_vm_size
from azureml_local.runtime import cgroups
from azureml_local.runtime import confinement as module
from azureml_local.runtime.cgroups import Group, own_mounts
from azureml_local.runtime.confinement import (
    Cell,
    Confinement,
    Machine,
    confine,
    remove_stale,
    this_machine,
    write_folders,
)
from azureml_local.telemetry.sampler import Sampler, Watched
from azureml_local.telemetry.series import MetricStore, Summary

GIB = 1024**3
MACHINE = Machine((0, 1, 2, 3), 4.0, 8 * GIB)
LIMIT_SEC = 60


def size_of(name: str) -> VmSize:
    size = find_vm_size(name)
    assert size is not None
    return size


# Sizes of this plane's own


@pytest.mark.parametrize(
    ("name", "canonical", "vcpus", "memory_gib"),
    [
        ("Local_0.5vCPU_256MiB", "Local_0.5vCPU_256MiB", 0.5, 0.25),
        ("local_2VCPU_3.5gib", "Local_2vCPU_3.5GiB", 2, 3.5),
        ("standard_f2S_v2", "Standard_F2s_v2", 2, 4),
    ],
)
def test_sizes(name: str, canonical: str, vcpus: float, memory_gib: float) -> None:
    size = size_of(name)
    assert (size.name, size.vcpus, size.memory_gib) == (canonical, vcpus, memory_gib)


@pytest.mark.parametrize("name", ["Local_0vCPU_1GiB", "Local_1vCPU_1MiB", "Local_1vCPU_1GB", "Local_1", "Standard_X1"])
def test_names_that_are_no_sizes(name: str) -> None:
    assert find_vm_size(name) is None


# https://learn.microsoft.com/azure/machine-learning/reference-managed-online-endpoints-vm-sku-list
MANAGED = """
DS1_v2 DS2_v2 DS3_v2 DS4_v2 DS5_v2 D2a_v4 D4a_v4 D8a_v4 D16a_v4 D32a_v4 D48a_v4 D64a_v4 D96a_v4
D2as_v4 D4as_v4 D8as_v4 D16as_v4 D32as_v4 D48as_v4 D64as_v4 D96as_v4
F2s_v2 F4s_v2 F8s_v2 F16s_v2 F32s_v2 F48s_v2 F64s_v2 F72s_v2 FX4mds FX12mds FX24mds FX36mds FX48mds
E2s_v3 E4s_v3 E8s_v3 E16s_v3 E32s_v3 E48s_v3 E64s_v3
NC4as_T4_v3 NC8as_T4_v3 NC16as_T4_v3 NC64as_T4_v3 NC6s_v2 NC12s_v2 NC24s_v2 NC6s_v3 NC12s_v3 NC24s_v3
NC24ads_A100_v4 NC48ads_A100_v4 NC96ads_A100_v4 ND96asr_v4 ND96amsr_A100_v4 ND40rs_v2
"""


@pytest.mark.parametrize("name", MANAGED.split())
def test_every_size_of_managed_endpoints_is_known(name: str) -> None:
    assert (size_of(f"Standard_{name}").gpus > 0) == name.startswith("N")


# Grants


def test_a_size_that_fits_is_granted_whole() -> None:
    grant = Confinement(MACHINE, Group(2, {})).grant(size_of("Standard_F2s_v2"), 1)
    assert (grant.vcpus, grant.memory_bytes, grant.notes) == (2.0, 4 * GIB, ())
    assert str(grant) == "2 vCPU, 4 GiB (cgroup v2)"


def test_what_the_machine_lacks_is_said() -> None:
    grant = Confinement(MACHINE, Group(1, {})).grant(size_of("Standard_NC64as_T4_v3"), 2)
    assert (grant.vcpus, grant.memory_bytes) == (4.0, 8 * GIB)
    told = " | ".join(grant.notes)
    assert all(words in told for words in ("64 vCPUs", "440 GiB", "2 instances", "4 GPU")), told


def test_without_groups_a_part_of_a_cpu_becomes_a_whole_one_and_that_is_said() -> None:
    confinement = Confinement(MACHINE, None, "/sys/fs/cgroup: read-only; remedy")
    grant = confinement.grant(size_of("Local_0.5vCPU_256MiB"), 1)
    assert grant.vcpus == 1 and "whole CPUs" in grant.notes[0] and "affinity" in str(grant)
    warning = confinement.warning
    assert warning is not None and "\n" not in warning and warning.endswith("(/sys/fs/cgroup: read-only; remedy)")
    assert Confinement(MACHINE, Group(2, {})).warning is None


def test_instances_are_spread_over_the_cpus() -> None:
    confinement = Confinement(MACHINE)
    two, one = size_of("Standard_F2s_v2"), size_of("Standard_DS1_v2")
    cells = [confinement.admit(str(number), size, 1) for number, size in enumerate((two, one, one))]
    assert [cell.cpus for cell in cells] == [(0, 1), (2,), (3,)]
    asyncio.run(cells[0].close())
    assert confinement.admit("next", two, 1).cpus == (0, 1)
    # All there are: nothing to choose.
    assert confinement.admit("all", size_of("Standard_F4s_v2"), 1).cpus == ()


# Real processes


@pytest.fixture
def groups() -> Iterator[Confinement]:
    """This machine's control groups."""
    real = confine(f"azureml_local-test-{uuid.uuid4().hex[:8]}")
    if real.refusal is not None:
        pytest.skip(f"no control groups on this machine: {real.refusal}")
    yield real
    real.close()
    assert [folder for folder in real.folders if folder.exists()] == []


@pytest.fixture(params=["groups", "without"])
def held(request: pytest.FixtureRequest) -> Confinement:
    """What this machine offers, and what is left where it offers no control groups."""
    if request.param == "without":
        return Confinement(this_machine(own_mounts()), None, "as if there were none")
    found = request.getfixturevalue("groups")
    assert isinstance(found, Confinement)
    return found


def start(cell: Cell, code: str, *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        cell.command([sys.executable, "-S", "-c", code, *arguments]),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    cell.follow(process.pid)
    return process


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_SEC
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


def test_a_process_is_inside_from_its_first_instruction(held: Confinement) -> None:
    cell = held.admit("one", size_of("Local_1vCPU_256MiB"), 1)
    code = "import os; print(open('/proc/self/cgroup').read()); print('cpus', len(os.sched_getaffinity(0)))"
    told = start(cell, code).communicate(timeout=LIMIT_SEC)[0]
    assert "cpus 1\n" in told
    for folder in held.folders:
        assert f"/{folder.name}/one\n" in told
    asyncio.run(cell.close())


def test_a_size_of_all_there_is_keeps_to_this_process_s_cpus(groups: Confinement) -> None:
    """Said to the process, since a group that is not below ours may have more of them."""
    cell = groups.admit("one", size_of("Standard_NC64as_T4_v3"), 1)
    assert cell.cpus == groups.machine.cpus
    told = start(cell, "import os; print(sorted(os.sched_getaffinity(0)))").communicate(timeout=LIMIT_SEC)[0]
    assert told == f"{list(groups.machine.cpus)}\n"
    asyncio.run(cell.close())


def test_a_limit_that_cannot_be_entered_starts_nothing(groups: Confinement, tmp_path: Path) -> None:
    cell = groups.admit("one", size_of("Local_1vCPU_256MiB"), 1)
    asyncio.run(cell.close())
    command = cell.command([sys.executable, "-c", f"open({str(tmp_path / 'ran')!r}, 'w')"])
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "not started without its limit" in done.stderr
    assert not (tmp_path / "ran").exists()


BURN = """
import os, sys, time
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
child = os.fork()
burn(float(sys.argv[1]))
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
"""


def test_half_a_cpu_is_half_a_cpu(groups: Confinement) -> None:
    """Two processes that want all they can get are given no more than the quota; a busy machine only gives less."""
    cell = groups.admit("half", size_of("Local_0.5vCPU_256MiB"), 1)
    process = start(cell, BURN, "100")
    wait_for(lambda: _cpu_sec(cell) > 0.1)
    # The clock is read around the counters: whatever comes between the reads only makes the time longer.
    began = time.monotonic()
    before = _cpu_sec(cell)
    wait_for(lambda: _cpu_sec(cell) > before + 0.5)
    used = _cpu_sec(cell) - before
    took = time.monotonic() - began
    # A period of 0.1 s may begin and end inside of the look.
    assert used <= 0.5 * (took + 0.2)
    assert process.poll() is None
    asyncio.run(cell.close())
    assert process.wait(LIMIT_SEC) == -signal.SIGKILL


def _cpu_sec(cell: Cell) -> float:
    usage = cell.usage()
    assert usage is not None
    return usage.cpu_sec


# Says what the kernel counts of it, before and after; each time it waits for a line.
ACCOUNT = """
import os, resource, sys, time
def used():
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in both)
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
print(used(), flush=True)
sys.stdin.readline()
child = os.fork()
burn(0.7)
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
print(used(), flush=True)
sys.stdin.readline()
"""


def test_reported_cpu_is_the_kernels(groups: Confinement, tmp_path: Path) -> None:
    """What the sampler records, against what getrusage(2) says of the same processes over the same time."""
    cell = groups.admit("one", size_of("Local_2vCPU_256MiB"), 1)
    metrics = MetricStore(tmp_path / "metrics.jsonl")
    entry = Watched("/d", "one", 1, cell.grant.vcpus, cell.grant.memory_bytes, cell.usage)
    looks: list[float] = []

    def clock() -> float:
        looks.append(time.monotonic())
        return looks[-1]

    sampler = Sampler(metrics, lambda: [entry], tmp_path, clock)
    command = cell.command([sys.executable, "-S", "-c", ACCOUNT])
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        before_sec = float(process.stdout.readline())
        sampler.sample()
        process.stdin.write("\n")
        process.stdin.flush()
        used_sec = float(process.stdout.readline()) - before_sec
        sampler.sample()
        process.stdin.write("\n")
    # The sampler's own time: on a busy machine another clock's would be that of another moment.
    took_sec = looks[1] - looks[0]
    (recorded,) = _gauges(metrics, "CpuUtilizationPercentage")
    assert recorded.count == 1
    assert recorded.total == pytest.approx(100 * used_sec / took_sec / cell.grant.vcpus, rel=0.05)
    (capacity,) = _gauges(metrics, "CpuCapacityMillicores")
    assert capacity.maximum == 1000 * cell.grant.vcpus
    asyncio.run(cell.close())
    assert cell.usage() is None


def _gauges(metrics: MetricStore, name: str) -> list[Summary]:
    together: dict[str, Summary] = {}
    for minute in metrics.series("/d").values():
        for (metric, _), summary in minute.gauges.items():
            if metric == name:
                together.setdefault(name, Summary()).merge(summary)
    return list(together.values())


HOLD = "import sys, time\nheld = bytearray(int(sys.argv[1]) << 20)\nprint('holds', flush=True)\ntime.sleep(100)"


def test_memory_is_reported(held: Confinement) -> None:
    cell = held.admit("one", size_of("Local_1vCPU_256MiB"), 1)
    process = start(cell, HOLD, "64")
    assert process.stdout is not None and process.stdout.readline() == "holds\n"
    usage = cell.usage()
    assert usage is not None and 64 << 20 <= usage.memory_bytes < 100 << 20
    assert not cell.out_of_memory()
    process.kill()
    process.wait(LIMIT_SEC)
    asyncio.run(cell.close())


def test_more_memory_than_the_size_has_is_out_of_memory(held: Confinement) -> None:
    cell = held.admit("one", size_of("Local_1vCPU_128MiB"), 1)
    process = start(cell, HOLD, "300")
    wait_for(cell.out_of_memory)
    if held.refusal is None:
        assert process.wait(LIMIT_SEC) == -signal.SIGKILL
    process.kill()
    process.wait(LIMIT_SEC)
    words = cell.out_of_memory_words
    assert "terminated by OOM" in words and "128 MiB" in words and "Local_1vCPU_128MiB" in words
    assert "instance_type with more memory" in words
    asyncio.run(cell.close())


DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    print(os.getpid(), flush=True)
    time.sleep(100)
"""


def test_what_has_left_its_session_goes_with_its_group(groups: Confinement) -> None:
    cell = groups.admit("one", size_of("Local_1vCPU_256MiB"), 1)
    process = start(cell, DAEMON)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.wait(LIMIT_SEC)
    assert psutil.pid_exists(pid)
    asyncio.run(cell.close())
    wait_for(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_what_a_killed_plane_has_left_is_removed_and_nothing_else(groups: Confinement, tmp_path: Path) -> None:
    cell = groups.admit("one", size_of("Local_1vCPU_256MiB"), 1)
    process = start(cell, HOLD, "1")
    assert process.stdout is not None and process.stdout.readline() == "holds\n"
    record = tmp_path / "cgroups.json"
    write_folders(record, groups)
    stranger = groups.folders[0].parent / f"other-{uuid.uuid4().hex[:8]}"
    stranger.mkdir()
    try:
        record.write_text(json.dumps([*json.loads(record.read_text()), str(stranger)]))
        remove_stale(record)
        assert process.wait(LIMIT_SEC) == -signal.SIGKILL
        assert not any(folder.exists() for folder in groups.folders) and not record.exists()
        assert stranger.exists()
        # A second time there is nothing to do.
        remove_stale(record)
    finally:
        stranger.rmdir()


def test_groups_that_may_be_made_but_not_entered_are_refused(
    monkeypatch: pytest.MonkeyPatch, groups: Confinement, tmp_path: Path
) -> None:
    broken = tmp_path / "confine.py"
    broken.write_text("import sys; sys.exit('cannot enter: Operation not permitted')")
    monkeypatch.setattr(module, "CONFINE", broken)
    refused = confine(f"azureml_local-test-{uuid.uuid4().hex[:8]}")
    assert refused.refusal == "cannot enter: Operation not permitted" and refused.folders == ()


def test_groups_in_which_nothing_comes_to_its_end_are_refused(
    monkeypatch: pytest.MonkeyPatch, groups: Confinement, tmp_path: Path
) -> None:
    stuck = tmp_path / "confine.py"
    stuck.write_text("import time; time.sleep(600)")
    monkeypatch.setattr(module, "CONFINE", stuck)
    monkeypatch.setattr(module, "TRIAL_LIMIT_SEC", 0.5)
    name = f"azureml_local-test-{uuid.uuid4().hex[:8]}"
    refused = confine(name)
    assert refused.refusal is not None and "not come to its end within 0.5 s" in refused.refusal
    assert not any((folder.parent / name).exists() for folder in groups.folders)


def test_a_group_that_cannot_be_removed_is_refused(monkeypatch: pytest.MonkeyPatch, groups: Confinement) -> None:
    def refuse(_: object) -> list[Path]:
        raise PermissionError(errno.EPERM, "Operation not permitted", "/sys/fs/cgroup/x/trial")

    with monkeypatch.context() as patched:
        patched.setattr(cgroups, "remove", refuse)
        name = f"azureml_local-test-{uuid.uuid4().hex[:8]}"
        refused = confine(name)
    assert refused.refusal is not None and refused.refusal.startswith("/sys/fs/cgroup/x/trial: ")
    made = [folder.parent / name for folder in groups.folders]
    assert cgroups.remove(path for folder in made for path in cgroups.tree_of(folder)) == []


def test_control_groups_can_be_declined() -> None:
    declined = confine("azureml_local-test", {"AZUREML_LOCAL_CGROUPS": "off"})
    assert declined.folders == () and "AZUREML_LOCAL_CGROUPS=off" in (declined.warning or "")
