"""Control groups: found in whatever is mounted, and read in both versions. No group is made here."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from pathlib import Path

import pytest
from azureml_local.runtime import cgroups
from azureml_local.runtime.cgroups import CgroupsUnavailable, Group, Mounts, parse_mounts

V1 = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/abc /sys/fs/cgroup/mem\\040ory ro,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
OWN_V1 = "4:memory:/docker/abc/inner\n2:cpu,cpuacct:/\n1:name=systemd:/\n0::/\n"
V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


def test_version_1_is_found_also_behind_a_bind_mount() -> None:
    mounts = parse_mounts(V1, OWN_V1)
    top = Path("/sys/fs/cgroup/cpu,cpuacct")
    assert mounts.v1["cpu"] == mounts.v1["cpuacct"] == (top, top)
    assert mounts.v1["memory"] == (Path("/sys/fs/cgroup/mem ory/inner"), Path("/sys/fs/cgroup/mem ory"))
    assert mounts.v2 == (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup/unified"))


@pytest.mark.parametrize(
    ("own", "folder"),
    [
        ("0::/\n", "/sys/fs/cgroup"),
        ("0::/user.slice/session-3.scope\n", "/sys/fs/cgroup/user.slice/session-3.scope"),
        # Moved out of its namespace's root by somebody outside: there is no path to it.
        ("0::/../other\n", None),
    ],
)
def test_version_2_is_found(own: str, folder: str | None) -> None:
    mounts = parse_mounts(V2, own)
    assert mounts.v1 == {}
    assert mounts.v2 == (None if folder is None else (Path(folder), Path("/sys/fs/cgroup")))


def test_nothing_mounted_is_said() -> None:
    with pytest.raises(CgroupsUnavailable, match="mount /sys/fs/cgroup"):
        cgroups.make_parent(parse_mounts("", "0::/\n"), "azureml_local-test", ExitStack())


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EROFS, "--privileged"),
        (errno.EACCES, "run as root"),
        (errno.EPERM, "Delegate=yes"),
        (errno.EBUSY, "Delegate=yes"),
        (errno.ENOSPC, "No space left"),
    ],
)
def test_a_refusal_names_its_place_and_the_remedy(number: int, remedy: str) -> None:
    words = cgroups.words(OSError(number, os.strerror(number), "/sys/fs/cgroup/x"))
    assert words.startswith("/sys/fs/cgroup/x: ") and remedy in words and "\n" not in words


def folder_v2(path: Path, *, controllers: str = "cpu io memory", enabled: str = "", processes: str = "") -> Path:
    path.mkdir(parents=True)
    (path / "cgroup.type").write_text("domain\n")
    (path / "cgroup.controllers").write_text(f"{controllers}\n")
    (path / "cgroup.subtree_control").write_text(f"{enabled}\n")
    (path / "cgroup.procs").write_text(processes)
    return path


def test_in_version_2_the_nearest_group_that_hands_the_controllers_on_is_taken(tmp_path: Path) -> None:
    top = folder_v2(tmp_path / "top", enabled="cpu memory pids")
    slice_ = folder_v2(top / "a.slice", enabled="cpu io memory")
    own = folder_v2(slice_ / "session.scope", processes="1\n")
    # The kernel fills a new group's folder; here it is there already.
    folder_v2(slice_ / "azureml_local-test")
    parent = cgroups.make_parent(Mounts({}, (own, top)), "azureml_local-test", ExitStack())
    assert parent.distinct == (slice_ / "azureml_local-test",)
    # Writing replaces the list here, while the kernel would add to it.
    assert (parent.distinct[0] / "cgroup.subtree_control").read_text() == "+cpu +memory +io"
    # Nobody limits us here.
    assert not (parent.distinct[0] / "cpu.max").exists() and not (parent.distinct[0] / "memory.max").exists()


def test_in_version_2_what_limits_us_goes_along_to_a_group_beside_ours(tmp_path: Path) -> None:
    """As in a container that sees the machine's groups: `docker run --cpus 1.5 --memory 1g --cgroupns=host`."""
    top = folder_v2(tmp_path / "top", enabled="cpu io memory")
    (top / "cpu.max").write_text("50000 100000\n")
    docker = folder_v2(top / "docker", enabled="cpu memory")
    outer = folder_v2(docker / "abc", enabled="", processes="")
    own = folder_v2(outer / "inner", controllers="", processes="1\n")
    (outer / "cpu.max").write_text("75000 50000\n")
    (outer / "memory.max").write_text("1073741824\n")
    (own / "memory.max").write_text("max\n")
    folder_v2(docker / "azureml_local-test", controllers="cpu memory")
    parent = cgroups.make_parent(Mounts({}, (own, top)), "azureml_local-test", ExitStack())
    (made,) = parent.distinct
    assert made == docker / "azureml_local-test"
    # The limit of what lies above both holds by itself.
    assert (made / "cpu.max").read_text() == "150000 100000"
    assert (made / "memory.max").read_text() == "1073741824"
    # Others' groups stay as they are.
    assert (docker / "cgroup.subtree_control").read_text() == "cpu memory\n"


def test_in_version_2_nothing_is_changed_above_our_own_group(tmp_path: Path) -> None:
    """The system's root, which may have processes beside controllers, hands none on here."""
    top = folder_v2(tmp_path / "top", enabled="pids", processes="1\n")
    (top / "cgroup.type").unlink()
    own = folder_v2(top / "session.scope", processes="1\n")
    with pytest.raises(CgroupsUnavailable, match="processes of others"):
        cgroups.make_parent(Mounts({}, (own, top)), "azureml_local-test", ExitStack())
    assert (top / "cgroup.subtree_control").read_text() == "pids\n"
    assert [entry.name for entry in top.iterdir() if entry.is_dir()] == ["session.scope"]


def test_in_version_2_a_group_that_lacks_the_controllers_is_not_vacated(tmp_path: Path) -> None:
    own = folder_v2(tmp_path / "top" / "delegated.scope", controllers="memory pids", processes=f"{os.getpid()}\n")
    folder_v2(own / "azureml_local-test-supervisor")
    with pytest.raises(CgroupsUnavailable, match="the controller cpu is not handed on"):
        cgroups.make_parent(Mounts({}, (own, tmp_path / "top")), "azureml_local-test", ExitStack())
    assert (own / "cgroup.procs").read_text() == f"{os.getpid()}\n"


def test_in_version_2_a_refusal_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = folder_v2(tmp_path / "top" / "delegated.scope", processes=f"{os.getpid()}\n")
    moves: list[tuple[int, str]] = []
    # In the kernel's file system an empty group's folder can be removed although there are files in it.
    monkeypatch.setattr(cgroups, "_move", lambda pid, folder: moves.append((pid, folder.name)))
    # Our own group, once made, has no files here: it cannot hand on what it has not got.
    with pytest.raises(CgroupsUnavailable, match=r"cgroup\.subtree_control: No such file"):
        cgroups.make_parent(Mounts({}, (own, tmp_path / "top")), "azureml_local-test", ExitStack())
    assert moves == [(os.getpid(), "azureml_local-test-supervisor"), (os.getpid(), "delegated.scope")]
    assert [entry.name for entry in own.iterdir() if entry.is_dir()] == []
    assert (own / "cgroup.subtree_control").read_text() == "-cpu -memory -io"


def test_what_was_made_can_be_taken_back_later(tmp_path: Path) -> None:
    own = tmp_path / "cpu"
    own.mkdir()
    with ExitStack() as undo:
        mounts = Mounts(dict.fromkeys(("cpu", "cpuacct", "memory"), (own, own)), None)
        parent = cgroups.make_parent(mounts, "azureml_local-test", undo)
        (own / "azureml_local-test" / "trial").mkdir()
    assert parent.distinct == (own / "azureml_local-test",) and list(own.iterdir()) == []


def test_in_version_2_a_group_with_other_processes_is_left_alone(tmp_path: Path) -> None:
    top = folder_v2(tmp_path / "top", processes="1\n")
    own = folder_v2(top / "session.scope", processes=f"1\n{os.getpid()}\n")
    with pytest.raises(CgroupsUnavailable, match=r"holds processes of others.*Delegate=yes"):
        cgroups.make_parent(Mounts({}, (own, top)), "azureml_local-test", ExitStack())
    assert {entry.name for entry in own.iterdir() if entry.is_dir()} == set()


def test_in_version_2_a_group_of_our_own_is_vacated(tmp_path: Path) -> None:
    own = folder_v2(tmp_path / "top" / "delegated.scope", processes=f"{os.getpid()}\n")
    folder_v2(own / "azureml_local-test")
    leaf = folder_v2(own / "azureml_local-test-supervisor")
    parent = cgroups.make_parent(Mounts({}, (own, tmp_path / "top")), "azureml_local-test", ExitStack())
    assert parent.distinct == (own / "azureml_local-test",) and cgroups.vacated(parent) == (leaf,)
    assert (leaf / "cgroup.procs").read_text() == str(os.getpid())


def test_in_version_2_the_shell_that_started_us_is_not_moved(tmp_path: Path) -> None:
    top = folder_v2(tmp_path / "top")
    own = folder_v2(top / "delegated.scope", processes=f"{os.getpid()}\n{os.getppid()}\n")
    with pytest.raises(CgroupsUnavailable, match="processes of others"):
        cgroups.make_parent(Mounts({}, (own, top)), "azureml_local-test", ExitStack())


def test_limits_and_figures_of_version_2(tmp_path: Path) -> None:
    parent = Group(2, dict.fromkeys(("cpu", "memory", "io"), tmp_path))
    folder = tmp_path / "one"
    folder.mkdir()
    for name, text in {
        "memory.swap.max": "max\n",
        "memory.oom.group": "0\n",
        "cpu.stat": "usage_usec 2500000\nuser_usec 2000000\nnr_throttled 3\n",
        "memory.current": "104857600\n",
        "memory.stat": "anon 90000000\ninactive_file 4857600\n",
        "memory.events": "low 0\nhigh 0\nmax 12\noom 2\noom_kill 2\noom_group_kill 1\n",
        "io.stat": "253:0 rbytes=1000 wbytes=50 rios=2 wios=1\n8:0 rbytes=24 wbytes=0 rios=1 wios=0\n",
    }.items():
        (folder / name).write_text(text)
    group = cgroups.make_group(parent, "one", 0.5, 128 * 1024**2)
    assert (folder / "cpu.max").read_text() == "50000 100000"
    assert (folder / "memory.max").read_text() == str(128 * 1024**2)
    assert (folder / "memory.swap.max").read_text() == "0" and (folder / "memory.oom.group").read_text() == "1"
    usage = cgroups.usage_of(group)
    assert (usage.cpu_sec, usage.memory_bytes, usage.read_bytes, usage.written_bytes) == (2.5, 100_000_000, 1024, 50)
    assert cgroups.oom_kills(group) == 2
    assert (folder / "cpu.weight").read_text() == "50"
    cgroups.make_group(parent, "one", 128.0, 1, whole_machine=True)
    assert (folder / "cpu.max").read_text() == "max 100000"
    assert (folder / "cpu.weight").read_text() == "10000"


def test_figures_of_version_1(tmp_path: Path) -> None:
    for name, text in {
        "cpuacct.usage": "2500000000\n",
        "memory.usage_in_bytes": "104857600\n",
        "memory.stat": "inactive_file 1\ntotal_inactive_file 4857600\n",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n",
        "blkio.throttle.io_service_bytes_recursive": "253:0 Read 1024\n253:0 Write 50\n253:0 Total 1074\nTotal 1074\n",
    }.items():
        (tmp_path / name).write_text(text)
    group = Group(1, dict.fromkeys(("cpu", "cpuacct", "memory", "blkio"), tmp_path))
    usage = cgroups.usage_of(group)
    assert (usage.cpu_sec, usage.memory_bytes, usage.read_bytes, usage.written_bytes) == (2.5, 100_000_000, 1024, 50)
    assert cgroups.oom_kills(group) == 4
    assert group.entrances == (tmp_path / "cgroup.procs",)


def test_the_limits_around_us_count(tmp_path: Path) -> None:
    own = tmp_path / "container" / "inner"
    own.mkdir(parents=True)
    (own / "cpu.max").write_text("max 100000\n")
    (own.parent / "cpu.max").write_text("150000 100000\n")
    (own / "memory.max").write_text("2000000\n")
    (own.parent / "memory.max").write_text("1000000\n")
    mounts = Mounts({}, (own, tmp_path))
    assert cgroups.inherited_vcpus(mounts) == 1.5
    assert cgroups.inherited_memory_bytes(mounts) == 1_000_000
    assert cgroups.inherited_vcpus(Mounts({}, None)) is None


def test_a_process_of_another_namespace_is_not_taken_for_our_own(tmp_path: Path) -> None:
    """It is listed as 0, and kill(0) would end this test."""
    folder = tmp_path / "azureml_local-test"
    folder.mkdir()
    (folder / "cgroup.procs").write_text("0\n")
    with pytest.raises(OSError, match="not empty"):
        cgroups.remove([folder])
