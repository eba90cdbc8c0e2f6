"""Parse, validate, run, and turn every outcome into an exit code: the only place that exits."""

from __future__ import annotations

import argparse
import logging
import math
import os
import re
import signal
import stat
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from aml_tool_core import documents, logs, outputs
from aml_tool_core.errors import CriteriaMissed, InputError, Interrupted, ToolError
from aml_tool_core.tool import Flag, Job, Kind, Tool

EXIT_DEFECT = 70  # sysexits.h, EX_SOFTWARE
_TRUE = {"true", "1"}
_FALSE = {"false", "0"}
_UNIT_SEC = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST_SEC = 10 * 366 * 86400  # ten years: dates that far from now exist, and whoever means more means for ever
_DURATION = re.compile(r"(?P<count>\d+(?:\.\d+)?)(?P<unit>[smhd])", re.ASCII)


def main(tool: Tool, argv: Sequence[str] | None = None) -> NoReturn:
    """Run a tool from the command line and exit by the convention that all tools share."""
    arguments = sys.argv[1:] if argv is None else argv
    finish(tool.name, lambda: _run(tool, arguments))


def outcome(tool: Tool, argv: Sequence[str]) -> int:
    """Run a tool and return its exit code; the reason for any but 0 is on stderr."""
    return guarded(tool.name, lambda: _run(tool, argv))


def finish(name: str, action: Callable[[], None]) -> NoReturn:
    """Do what a program of another shape than `Tool` (one with subcommands) is for, and exit by the same convention."""
    _stop_on_signals(name)
    code = guarded(name, action)
    # The outcome stands: a signal during the interpreter's own end would change the exit code and print a traceback.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(code)


def guarded(name: str, action: Callable[[], None]) -> int:
    """Do something and return its exit code; the reason for any but 0 is on stderr, after the program's name."""
    try:
        logs.configure()
        logs.logger(name)
        action()
    except CriteriaMissed as missed:
        for criterion in missed.criteria:
            _say(name, criterion)
        return missed.exit_code
    except ToolError as error:
        _say(name, str(error))
        return error.exit_code
    except Interrupted as stop:
        _say(name, f"{stop}; {stop.left}")
        return stop.exit_code
    except Exception:
        sys.stderr.write(logs.redacted(traceback.format_exc()))
        _say(name, "a defect of this tool, not of your input; please report the lines above")
        return EXIT_DEFECT
    return 0


def parser(tool: Tool) -> argparse.ArgumentParser:
    """Return the tool's argument parser (also used to check job templates against)."""
    result = Parser(prog=tool.name, description=tool.summary, epilog=tool.epilog, allow_abbrev=False)
    result.add_argument("--version", action="version", version=f"{tool.name} {tool.version}")
    for flag in tool.flags:
        if flag.kind is Kind.SWITCH:
            result.add_argument(flag.name, action="store_true", help=flag.help)
        else:
            many = flag.kind is Kind.TEXTS
            result.add_argument(
                flag.name,
                metavar="TEXT" if many else flag.kind.name.split("_")[-1],
                action="append" if many else "store",
                required=flag.required,
                default=flag.default,
                help=flag.help,
            )
    return result


def _run(tool: Tool, argv: Sequence[str]) -> None:
    job = _job(tool, argv)
    if tool.outputs:
        outputs.check_writable(job.outputs)
    try:
        tool.run(job)
    except (InputError, Interrupted):
        raise  # refused or stopped before it began, it has changed nothing
    except Exception:
        job.begin()  # failed, however early: nobody is to take an earlier run's outputs for this one's
        raise


def _job(tool: Tool, argv: Sequence[str]) -> Job:
    given = vars(parser(tool).parse_args(argv))
    values = {flag.key: _checked(flag, given[flag.key]) for flag in tool.flags}
    read = {
        flag.key: documents.read_json(values[flag.key], flag.schema)
        for flag in tool.flags
        if flag.schema is not None and flag.kind is Kind.FILE and values[flag.key] is not None
    }
    return Job(tool, values, read)


def _checked(flag: Flag, value: Any) -> Any:
    if value is None or flag.kind in (Kind.TEXT, Kind.TEXTS, Kind.SWITCH):
        return value
    if flag.kind is Kind.BOOLEAN:
        if isinstance(value, bool):
            return value
        if value.lower() in _TRUE | _FALSE:
            return value.lower() in _TRUE
        raise InputError(f"{flag.name}: {value!r} is not a boolean; give True or False")
    if flag.kind is Kind.SECONDS:
        return _seconds(flag, value)
    if flag.kind is Kind.DURATION:
        return _duration_sec(flag, value)
    if value == "":
        raise InputError(f"{flag.name}: the path is empty; give {flag.kind.value} or leave the flag out")
    path = Path(value)
    found = _kind_of(flag, path)
    if found is None and flag.kind is not Kind.OUTPUT_FOLDER:
        raise InputError(f"{flag.name}: {path}: no such file or folder")
    wanted = {Kind.FILE: "a file", Kind.FOLDER: "a folder", Kind.OUTPUT_FOLDER: "a folder"}.get(flag.kind, found)
    if found is not None and found != wanted:
        raise InputError(f"{flag.name}: {path}: is {found}, {wanted} is needed")
    return path


def _kind_of(flag: Flag, path: Path) -> str | None:
    """Say what is there; None for nothing. A pipe is refused as a file: documents may be read more than once."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"{flag.name}: {path}: cannot be read: {error.strerror}") from None
    if stat.S_ISREG(mode):
        return "a file"
    return "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"


def _seconds(flag: Flag, value: Any) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InputError(f"{flag.name}: {value!r} is not {flag.kind.value}")
    return seconds


def _duration_sec(flag: Flag, value: str) -> float:
    match = _DURATION.fullmatch(value)
    if match is None or not float(match["count"]):
        raise InputError(f"{flag.name}: {value!r} is not {flag.kind.value}")
    seconds = float(match["count"]) * _UNIT_SEC[match["unit"]]
    if seconds > _LONGEST_SEC:
        raise InputError(f"{flag.name}: {value[:20]!r} is longer than ten years")
    return seconds


def _say(name: str, message: str) -> None:
    line = " ".join(logs.redacted(message).split())
    sys.stderr.write(f"{name}: error: {line}\n")


def _stop_on_signals(name: str) -> None:
    stops = 0

    def stop(signum: int, _frame: FrameType | None) -> None:
        # The first signal unwinds the tool; while it cleans up, a second is noted and a third ends it hard.
        nonlocal stops
        stops += 1
        if stops == 1:
            raise Interrupted(signum)
        logging.getLogger(name).warning("stopping already; cleaning up")
        if stops > 2:
            os._exit(128 + signum)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)


class Parser(argparse.ArgumentParser):
    """argparse's error is a usage block and a line; ours is the line, like every other error of a tool."""

    _unknown: tuple[str, ...] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Note the unknown flags first: argparse tells of them only where no required one is missing."""
        given = sys.argv[1:] if args is None else list(args)
        flags = [part.split("=", 1)[0] for part in given[: given.index("--") if "--" in given else None]]
        self._unknown = tuple(
            flag for flag in flags if flag.startswith("--") and flag not in self._option_string_actions
        )
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        if self._unknown and "unrecognized" not in message:
            message += f"; unrecognized arguments: {' '.join(self._unknown)}"
        raise InputError(f"{message}; see {self.prog} --help")
