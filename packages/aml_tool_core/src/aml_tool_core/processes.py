"""Run a native command so that it never outlives the tool, and its secrets never reach a process list."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import signal
import subprocess
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

from aml_tool_core.errors import ToolError

_PR_SET_PDEATHSIG = 1  # prctl(2)
_GRACE_SEC = 5.0
_libc = ctypes.CDLL(None, use_errno=True)


def find(binary: str, remedy: str) -> str:
    """Return the path of a native binary: beside this Python's scripts (wheels put theirs there), else on PATH.

    Raises ToolError with the remedy when it is not there.
    """
    found = shutil.which(binary, path=sysconfig.get_path("scripts")) or shutil.which(binary)
    if found is None:
        raise ToolError(f"{binary}: not found on PATH; {remedy}")
    return found


@contextmanager
def running(
    command: Sequence[str],
    *,
    stdout: int | IO[bytes] | None = subprocess.PIPE,
    stderr: int | IO[bytes] | None = subprocess.PIPE,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command in a process group of its own and yield it; on the way out, however that happens, it is gone.

    It is asked to stop (SIGTERM), given five seconds, then killed with its group; the kernel kills it should the tool
    itself be killed. Raises ToolError where it cannot be started.
    """
    process = None
    try:
        with _signals_held() as mask:
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    env=None if env is None else dict(env),
                    cwd=cwd,
                    start_new_session=True,
                    preexec_fn=partial(_prepare, mask),
                )
            except OSError as error:
                remedy = "; install the one for this machine" if error.errno == errno.ENOEXEC else ""
                raise ToolError(f"{command[0]}: cannot be started: {error.strerror}{remedy}") from error
        yield process
    finally:
        if process is not None:
            _end(process)
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()


@contextmanager
def too_late_to_stop() -> Iterator[None]:
    """Let no signal stop the tool any more: its work is done, and is only written down, which takes a moment.

    Else it would say that it was interrupted, with its output there, or half of it.
    """
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _signals_held() -> Iterator[set[signal.Signals]]:
    """Hold the signals that stop a tool back until a process is started and known, and yield the mask before.

    The exception that their handler raises would be lost in the callbacks that Python runs around a fork (it ignores
    those of `os.register_at_fork`, which `logging` uses), or would leave a process behind that nobody knows.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield {signal.Signals(number) for number in before}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prepare(mask: set[signal.Signals]) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_GRACE_SEC)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    try:
        os.killpg(process.pid, signal.SIGKILL)  # whatever it started and left behind
    except ProcessLookupError:
        return  # nothing left: the usual case
