"""Native generators are run in private, watched, and never left behind; stand-ins of a line of shell do here."""

from __future__ import annotations

import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from aml_tool_core import ToolError
from aml_tool_core.profiling import Artifacts, Command, Engine, Histogram, Load, LoadModel, Plan, Result, open_files
from aml_tool_core.profiling import engine as engines
from aml_tool_core.profiling.payload import Payload
from aml_tool_core.profiling.result import Errors
from aml_tool_core.profiling.target import target_of

PLAN = Plan(
    target_of({"scoring_uri": "http://127.0.0.1:1/"}, "t.json"),
    Payload((), None),
    Load(LoadModel.CLOSED, duration_sec=1, connections=1, threads=1, timeout_sec=1.0),
    "t/1",
)


def shell(script: str, seen: list[Artifacts] | None = None, **files: bytes) -> engines.Installed:
    def command(_plan: Plan, _folder: Path) -> Command:
        return Command(("-c", script), files, {"GREETING": "hello"})

    def parse(_plan: Plan, artifacts: Artifacts) -> Result:
        if seen is not None:
            seen.append(artifacts)
        return Result(1.0, 1, 1, 1, Errors(status={}), 0, 0, Histogram.of([(1, 1)]))

    engine = Engine("sh", "sh", "install it", ("-c", "echo sh 1.2"), r"sh (\S+)", command, parse)
    return engines.installed(engine)


def test_it_runs_in_a_private_folder_with_private_files() -> None:
    seen: list[Artifacts] = []
    script = 'stat -c "%a %n" . key; cat key; echo "$GREETING"; mkdir out; echo made > out/file'
    engines.run(shell(script, seen, key=b"k3y\n"), PLAN)
    (artifacts,) = seen
    assert artifacts.stdout.splitlines() == ["700 .", "600 key", "k3y", "hello"]
    assert artifacts.files == {"out/file": "made\n"}


ALLOWED = """
import resource, subprocess, sys
from aml_tool_core.profiling import open_files
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (100, min(hard, 500)))
for connections in (20, 200, 100, 10_000):
    open_files.allow(connections)
    print(subprocess.run(["sh", "-c", "ulimit -Sn"], capture_output=True, text=True, check=True).stdout.strip())
print(open_files.most_connections())
"""


def test_a_generator_may_open_as_many_files_as_it_needs_up_to_the_hard_limit() -> None:
    ran = subprocess.run([sys.executable, "-c", ALLOWED], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["100", "272", "272", "500", "428"], ran.stderr


@pytest.mark.parametrize(
    ("text", "limit", "most"),
    [
        ("32768\t60999\n", resource.RLIM_INFINITY, 28_232),
        ("32768\t60999\n", 1_000, 928),
        ("32768\t60999\n", 28_304, 28_232),
        ("1024\t65535\n", resource.RLIM_INFINITY, 60_000),
        ("1024\t65535\n", 1 << 20, 60_000),
        ("5000 4000\n", resource.RLIM_INFINITY, 0),
        ("not two numbers", resource.RLIM_INFINITY, 60_000),
        (None, resource.RLIM_INFINITY, 60_000),
        (None, 50, 0),
    ],
)
def test_so_many_connections_as_there_are_ports_and_files(
    text: str | None, limit: int, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "ip_local_port_range"
    if text is not None:
        told.write_text(text)
    monkeypatch.setattr(open_files, "_PORT_RANGE", told)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (min(limit, 50), limit))
    assert open_files.most_connections() == most


def test_it_is_started_with_the_limit_raised() -> None:
    script = """
import resource
from dataclasses import replace
import tests.unit.aml_tool_core_profiling.test_engine as here
resource.setrlimit(resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
seen = []
here.engines.run(here.shell("ulimit -Sn", seen), replace(here.PLAN, load=replace(here.PLAN.load, connections=300)))
print(seen[0].stdout.strip())
"""
    root = Path(__file__).parents[3]
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root)
    assert ran.stdout.split() == ["372"], ran.stderr


def test_the_version_is_what_it_says() -> None:
    assert shell("").version == "1.2"


def test_a_failure_is_its_last_line() -> None:
    with pytest.raises(ToolError, match=r"^sh on http://127.0.0.1:1: exit code 3: the reason$"):
        engines.run(shell("echo first >&2; echo the reason >&2; exit 3"), PLAN)
    with pytest.raises(ToolError, match="exit code 4: it gave no reason"):
        engines.run(shell("exit 4"), PLAN)
    with pytest.raises(ToolError, match="ended by SIGKILL"):
        engines.run(shell("kill -9 $$"), PLAN)


def test_one_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(engines, "OVERTIME_SEC", -1.0)
    with pytest.raises(ToolError, match=r"^sh: still running after 1 s; ended it"):
        engines.run(shell(f"echo $$ > {tmp_path}/pid; exec sleep 60"), PLAN)
    pid = (tmp_path / "pid").read_text().strip()
    assert not Path(f"/proc/{pid}").exists()


def test_one_of_another_machine_is_told_and_is_no_defect(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    binary = tmp_path / "sh"
    binary.write_bytes(b"\x7fELF for another machine")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match=r"sh: cannot be started: .*; install the one for this machine"):
        shell("")


def test_one_that_does_not_say_its_version_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_VERSION_SEC", 0.1)
    mute = replace(shell("").engine, version_arguments=("-c", "exec sleep 60"))
    with pytest.raises(ToolError, match="sh: does not say its version within 0 s; install it"):
        engines.installed(mute)


def test_a_chatty_one_does_not_block() -> None:
    engines.run(shell("yes | head -c 3000000; yes | head -c 3000000 >&2"), PLAN)


INTERRUPTED_WHILE_FORKING = """
import os, signal
from aml_tool_core import processes

class Stop(BaseException):
    pass

def stop(*_):
    raise Stop

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, stop)
os.register_at_fork(after_in_parent=interrupt)
try:
    with processes.running(["sleep", "60"]):
        print("lost")
except Stop:
    print("stopped")
try:
    os.waitpid(-1, os.WNOHANG)
    print("a child is left")
except ChildProcessError:
    print("no child is left")
"""


def test_an_interrupt_while_it_is_started_is_neither_lost_nor_leaves_it_behind() -> None:
    ran = subprocess.run([sys.executable, "-c", INTERRUPTED_WHILE_FORKING], capture_output=True, text=True, check=True)
    assert ran.stdout.split("\n")[:2] == ["stopped", "no child is left"], ran.stderr
