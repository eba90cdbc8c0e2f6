"""Every finished run on disk at once, so that an interrupted measurement goes on where it was, on another machine too.

A course is deterministic: sent the same runs, it asks for the same points. So nothing of its state is kept but the runs
themselves, one file each in the order in which they were made, and what they were made from.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from aml_tool_core import outputs
from aml_tool_core.errors import InputError, ToolError
from aml_tool_core.profiling.result import Result
from aml_tool_core.profiling.result_wire import result_as_json, result_of
from aml_tool_core.profiling.runs import Point

FOLDER = "runs"
STATE_NAME = "state.json"
_FORMAT = 1


@dataclass(frozen=True)
class Measured:
    """One finished measurement."""

    result: Result
    started_at: datetime
    ended_at: datetime


@dataclass
class Checkpoint:
    """The finished measurements of one course. Without a folder, as for a single run, nothing is kept."""

    folder: Path | None
    made_from: Mapping[str, str] = field(default_factory=dict)
    log: logging.Logger = field(default_factory=lambda: logging.getLogger(__name__))
    taken_over: bool = False  # what is there was brought from elsewhere just now
    _next: int = 1

    def recorded(self, point: Point, repeat: int) -> Measured | None:
        """Return the next measurement where it is on disk and is of this point; else it is to be made, and kept."""
        path = self._path(self._next)
        if path is None or not path.exists():
            return None
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["point"] != _point(point) or document["repeat"] != repeat:
                raise ValueError("it is of another load")
            found = Measured(
                result_of(document["result"]),
                datetime.fromisoformat(document["started_at"]),
                datetime.fromisoformat(document["ended_at"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.log.warning("%s: cannot be used (%s); it is measured again", path, error)
            return None
        self._next += 1
        return found

    def keep(self, point: Point, repeat: int, measured: Measured) -> None:
        """Write a measurement down."""
        path = self._path(self._next)
        self._next += 1
        if path is None:
            return
        document = {
            "point": _point(point),
            "repeat": repeat,
            "started_at": measured.started_at.isoformat(),
            "ended_at": measured.ended_at.isoformat(),
            "result": result_as_json(measured.result),
        }
        outputs.write_text(path, json.dumps(document, allow_nan=False) + "\n")

    def finish(self) -> None:
        """Note that the report is written: the same command then measures anew."""
        if self.folder is not None:
            _write_state(self.folder, self.made_from, finished=True)

    @property
    def count(self) -> int:
        """How many measurements are on disk or were read from there."""
        return 0 if self.folder is None else self._next - 1

    @property
    def on_disk(self) -> int:
        """How many measurements were there before the first new one is made."""
        return 0 if self.folder is None else len(_files(self.folder))

    def _path(self, number: int) -> Path | None:
        return None if self.folder is None else self.folder / f"{number:04d}.json"


def opened(folder: Path, made_from: Mapping[str, str], resume: Path | None, log: logging.Logger) -> Checkpoint:
    """Return the checkpoint in a folder: what is there is gone on with if it was made from the same, else removed.

    With `resume`, a folder brought from elsewhere (one of runs, or the outputs that hold it), its runs are taken over
    first, unless what is here is already farther. Raises InputError where there are none, or none that fit.
    """
    taken_over = resume is not None and _take_over(_runs_in(resume), folder, made_from, log)
    state = _state(folder, log)
    if state is not None:
        reason = _obstacle(state, made_from)
        count = len(_files(folder))
        if reason is None:
            log.info("%s: going on after %d finished run%s", folder, count, "" if count == 1 else "s")
            return Checkpoint(folder, made_from, log, taken_over)
        log.info("%s: starting anew: %s", folder, reason)
    outputs.make_folder(folder)
    _clear(folder)
    _write_state(folder, made_from, finished=False)
    return Checkpoint(folder, made_from, log)


def _take_over(source: Path, folder: Path, made_from: Mapping[str, str], log: logging.Logger) -> bool:
    """Tell whether the runs of a folder now stand in another, in the place of what was there."""
    state = _state(source, log)
    reason = "its state cannot be read" if state is None else _obstacle(state, made_from)
    if reason is not None:
        raise InputError(
            f"--resume_path: {source}: cannot be gone on with: {reason}; bring the runs of this measurement, or leave "
            "the flag out"
        )
    if folder.exists() and source.resolve() == folder.resolve():
        return False
    here = _state(folder, log)
    if here is not None and _obstacle(here, made_from) is None and len(_files(folder)) >= len(_files(source)):
        log.info("%s: not taken over: %s is as far or farther", source, folder)  # the same command, a second time
        return False
    outputs.make_folder(folder)
    _clear(folder)
    for path in _files(source):
        outputs.write_text(folder / path.name, _text(path))
    _write_state(folder, made_from, finished=False)  # last: without it, what was copied does not count
    log.info("%s: its %d finished runs are taken over", source, len(_files(folder)))
    return True


def _runs_in(folder: Path) -> Path:
    for candidate in (folder, folder / FOLDER, folder / "outputs" / FOLDER):
        if (candidate / STATE_NAME).is_file():
            return candidate
    raise InputError(
        f"--resume_path: {folder}: holds no {STATE_NAME} of an interrupted measurement; give its outputs/{FOLDER}, or "
        "leave the flag out to start anew"
    )


def _obstacle(state: Mapping[str, Any], made_from: Mapping[str, str]) -> str | None:
    """Return why a folder's runs cannot be gone on with; None where they can."""
    if state.get("format") != _FORMAT:
        return "it was written in another format"
    before = state.get("made_from")
    if not isinstance(before, Mapping):
        return "it does not say what it was made from"
    changed = [name for name in made_from if before.get(name) != made_from[name]]
    if changed:
        return f"{' and '.join(changed)} changed since"
    return "that measurement is finished" if state.get("finished") else None


def _state(folder: Path, log: logging.Logger) -> Mapping[str, Any] | None:
    path = folder / STATE_NAME
    if not path.is_file():
        return None
    try:
        state = json.loads(_text(path))
    except ValueError as error:
        log.warning("%s: cannot be read (%s)", path, error)
        return {}
    return state if isinstance(state, Mapping) else {}


def _write_state(folder: Path, made_from: Mapping[str, str], *, finished: bool) -> None:
    state = {"format": _FORMAT, "finished": finished, "made_from": dict(made_from)}
    outputs.write_text(folder / STATE_NAME, json.dumps(state, indent=2) + "\n")


def _clear(folder: Path) -> None:
    """Remove what an earlier measurement left: the state first, as without it the runs count for nothing."""
    outputs.remove([folder / STATE_NAME])
    outputs.remove(_files(folder))


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*.json"))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ToolError(f"{path}: cannot be read: {error.strerror}") from None


def _point(point: Point) -> dict[str, Any]:
    return {
        "purpose": point.purpose.value,
        "connections": point.connections,
        "duration_sec": point.duration_sec,
        "target_rps": point.target_rps,
        "payload_class": point.payload_class,
    }
