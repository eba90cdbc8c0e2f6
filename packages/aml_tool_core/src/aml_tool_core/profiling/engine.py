"""Run a native load generator: its files in a private folder, its secrets in none of its arguments."""

from __future__ import annotations

import logging
import os
import re
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from aml_tool_core import processes
from aml_tool_core.errors import ToolError
from aml_tool_core.profiling import open_files
from aml_tool_core.profiling.load import Load
from aml_tool_core.profiling.payload import Payload
from aml_tool_core.profiling.progress import Snapshot, Ticker
from aml_tool_core.profiling.result import Result
from aml_tool_core.profiling.target import Target
from aml_tool_core.profiling.watch import Watch
from aml_tool_core.scratch import scratch_folder

log = logging.getLogger(__name__)

Poll = Callable[[], None]  # called some times a second while a generator runs; what it raises ends the generator

# What a generator may take beyond its duration: reading a large payload, waiting for the last answers, its own report.
OVERTIME_SEC = 120.0
_POLL_SEC = 0.2
_VERSION_SEC = 30.0
_LAST_LINES_SEC = 5.0
_STDERR_LINES_KEPT = 50


@dataclass(frozen=True)
class Plan:
    """All that an engine's command is made from."""

    target: Target
    payload: Payload
    load: Load
    user_agent: str
    ca_file: str | None = None
    config_source: str = "config"  # the files that errors name
    target_source: str = "target"
    start_at_ns: int | None = None  # of CLOCK_MONOTONIC: when to begin, of a generator that is one of several


@dataclass(frozen=True)
class Command:
    """A native command: arguments without the binary, and the files it reads, by name in its private folder.

    It runs in that folder. `env` is added to the environment; like the arguments it holds no secrets.
    """

    arguments: tuple[str, ...]
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ThreadTimes:
    """What the threads of a process, but for its first, which sets up and waits, did with their time."""

    cpu_sec: float
    run_queue_wait_sec: float  # they could have run, but others had the CPU


@dataclass(frozen=True)
class Artifacts:
    """What a native command left behind: its output and the files that it wrote, by their path in its folder."""

    stdout: str
    files: Mapping[str, str]
    cpu_sec: float
    workers: ThreadTimes | None = None  # None where the kernel does not tell


@dataclass(frozen=True)
class Engine:
    """A native load generator: how to call it and how to read it; both are pure functions."""

    name: str
    binary: str
    remedy: str  # what to do where the binary is not on PATH
    version_arguments: tuple[str, ...] | None  # None where it cannot be asked
    version_pattern: str  # its first group is the version in the output of version_arguments
    command: Callable[[Plan, Path], Command]
    parse: Callable[[Plan, Artifacts], Result]
    progress: Callable[[str], Snapshot | None] | None = None  # reads one line of stderr
    warms_up: bool = False  # by itself; the others are run for the warm-up first
    whole_rates: bool = False  # it can be asked for whole requests per second only
    starts_at: bool = False  # can be told when to send its first request; the others are started then
    start_missed: str | None = None  # a pattern of what it says where it was not ready by then


@dataclass(frozen=True)
class Installed:
    """An engine that is there."""

    engine: Engine
    path: str
    version: str


def installed(engine: Engine) -> Installed:
    """Find the engine's binary and ask its version. Raises ToolError where it is not there, or mute."""
    path = processes.find(engine.binary, engine.remedy)
    if engine.version_arguments is None:
        return Installed(engine, path, "unknown")
    with processes.running([path, *engine.version_arguments], stderr=subprocess.STDOUT) as asked:
        try:
            said, _ = asked.communicate(timeout=_VERSION_SEC)
        except subprocess.TimeoutExpired:
            raise ToolError(f"{path}: does not say its version within {_VERSION_SEC:.0f} s; {engine.remedy}") from None
    found = re.search(engine.version_pattern, said.decode("utf-8", "replace"))
    return Installed(engine, path, found.group(1) if found else "unknown")


class StartMissed(ToolError):
    """The generator was not ready at the moment at which it was to begin."""


def measure(tool: Installed, plan: Plan, watch: Watch | None = None, poll: Poll | None = None) -> Result:
    """Warm up where asked, run, and return what was measured. Raises ToolError where the engine fails.

    With a watch, the run is stopped as soon as that says that a demand is lost, and the result says why.
    """
    if not plan.load.warmup_sec or tool.engine.warms_up:
        return run(tool, plan, watch, poll)
    log.info("warming up for %d s, not counted", plan.load.warmup_sec)
    run(tool, replace(plan, load=replace(plan.load, duration_sec=plan.load.warmup_sec, warmup_sec=0)), None, poll)
    return run(tool, replace(plan, load=replace(plan.load, warmup_sec=0), start_at_ns=None), watch, poll)


def run(tool: Installed, plan: Plan, watch: Watch | None = None, poll: Poll | None = None) -> Result:
    """Run the engine once, to its end or the watch's. Raises ToolError where it fails or does not end, StartMissed."""
    engine = tool.engine
    open_files.allow(plan.load.connections)
    if watch is not None:
        watch.begin()
    if plan.start_at_ns is not None and not engine.starts_at:
        _sleep_until_start(plan, poll)
    with scratch_folder("aml-profiler-") as folder:
        command = engine.command(plan, folder)
        for file, content in command.files.items():
            _write_private(folder / file, content)
        given = set(command.files) | {"stdout"}
        ticker = Ticker(log, plan.load.warmup_sec + plan.load.duration_sec)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        limit_sec = plan.load.warmup_sec + plan.load.duration_sec + plan.load.timeout_sec + OVERTIME_SEC
        limit_sec += max(0.0, _until_sec(plan))
        with (
            open(folder / "stdout", "w+b") as stdout,
            processes.running(
                [tool.path, *command.arguments], stdout=stdout, env=os.environ | command.env, cwd=folder
            ) as process,
            _lines_read(process.stderr, engine.progress, ticker, watch) as last_lines,
        ):
            workers = _Workers(process.pid)
            code, stopped = _wait(process, limit_sec, ticker, workers, engine.name, watch, poll)
        ticker.close()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # A generator that is stopped says so in its exit code, as the shell does, and writes its result all the same.
        if code != 0 and not (stopped and code == 128 + signal.SIGTERM):
            said = _failure(code, last_lines)
            missed = engine.start_missed is not None and re.search(engine.start_missed, said)
            raise (StartMissed if missed else ToolError)(f"{engine.name} on {plan.target.origin}: {said}")
        result = engine.parse(
            plan,
            Artifacts(
                stdout=(folder / "stdout").read_text("utf-8", "replace"),
                files={
                    name: path.read_text("utf-8", "replace")
                    for path in sorted(folder.rglob("*"))
                    if path.is_file() and (name := path.relative_to(folder).as_posix()) not in given
                },
                cpu_sec=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
                workers=workers.times(),
            ),
        )
        return replace(result, stopped_early=stopped) if result.duration_sec < plan.load.duration_sec else result


def _until_sec(plan: Plan) -> float:
    """Return how long it is until the plan begins; 0 where it begins at once."""
    return 0.0 if plan.start_at_ns is None else (plan.start_at_ns - time.monotonic_ns()) / 1e9


def _sleep_until_start(plan: Plan, poll: Poll | None) -> None:
    while (left_sec := _until_sec(plan)) > 0:
        if poll is not None:
            poll()
        time.sleep(min(left_sec, _POLL_SEC))


class _Workers:
    """The threads of a process but for its first, as last seen: Linux' schedstat."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._seen: dict[str, tuple[int, int]] = {}  # by thread: nanoseconds on a CPU, nanoseconds on its run queue

    def sample(self) -> None:
        """Look now; a thread that has ended is remembered with what it had when last seen."""
        for task in Path(f"/proc/{self._pid}/task").glob("*"):
            try:
                # Documentation/scheduler/sched-stats.rst, /proc/<pid>/schedstat
                cpu_ns, wait_ns, _ = (task / "schedstat").read_text().split()
            except (OSError, ValueError):
                continue  # the thread ended just now, or the kernel keeps no such figures
            if task.name != str(self._pid):
                self._seen[task.name] = (int(cpu_ns), int(wait_ns))

    def times(self) -> ThreadTimes | None:
        """Return what all of them had."""
        if not self._seen:
            return None
        cpu_ns, wait_ns = (sum(figures) for figures in zip(*self._seen.values(), strict=True))
        return ThreadTimes(cpu_ns / 1e9, wait_ns / 1e9)


def _write_private(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def _wait(
    process: subprocess.Popen[bytes],
    limit_sec: float,
    ticker: Ticker,
    workers: _Workers,
    name: str,
    watch: Watch | None,
    poll: Poll | None,
) -> tuple[int, str | None]:
    """Wait for the end; return the exit code and, where the watch stopped it, why."""
    stopped = None
    deadline = time.monotonic() + limit_sec
    while (code := process.poll()) is None:
        if time.monotonic() > deadline:
            raise ToolError(f"{name}: still running after {limit_sec:.0f} s; ended it, no report is written")
        if watch is not None and watch.lost is not None and stopped is None:
            stopped = watch.lost
            process.terminate()
            log.warning("stopping early: %s", stopped)
        ticker.tick()
        workers.sample()
        if poll is not None:
            poll()
        time.sleep(_POLL_SEC)
    return code, stopped


@contextmanager
def _lines_read(
    pipe: IO[bytes] | None,
    progress: Callable[[str], Snapshot | None] | None,
    ticker: Ticker,
    watch: Watch | None,
) -> Iterator[Sequence[str]]:
    """Read the engine's stderr as it comes: progress to the ticker, the rest kept for an error message."""
    kept: list[str] = []

    def read() -> None:
        for raw in pipe or ():
            line = raw.decode("utf-8", "replace").strip()
            snapshot = progress(line) if progress else None
            if snapshot is not None:
                ticker.seen(snapshot)
                if watch is not None:
                    watch.seen(snapshot)
            elif line:
                kept.append(line)
                del kept[:-_STDERR_LINES_KEPT]

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    yield kept
    reader.join(_LAST_LINES_SEC)  # the process has ended, and so has the pipe; an exception does not wait for that


def _failure(code: int, lines: Sequence[str]) -> str:
    said = lines[-1] if lines else "it gave no reason"
    if code < 0:
        return f"ended by {signal.Signals(-code).name}: {said}"
    return f"exit code {code}: {said}"
