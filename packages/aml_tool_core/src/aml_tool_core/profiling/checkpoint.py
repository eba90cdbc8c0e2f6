"""Every finished run on disk at once, so that an interrupted measurement goes on where it was, on another machine too.

A course is deterministic: sent the same runs, it asks for the same loads. So nothing of its state is kept but the runs
themselves, one file each in the order in which they were made, and what they were made from.

A run is known by what it depends on: its load and its payload, which its file states, and what all of them have in
common, such as the target. Where else the configuration has changed (a longer list of loads, a larger budget, another
demand or price), a run is as good as before, and is found again wherever in the list it now stands. Those of a finished
measurement may be of any age, so they are only where the target's model is known, or where somebody says so.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from typing import Any

from aml_tool_core import outputs
from aml_tool_core.errors import InputError, ToolError
from aml_tool_core.profiling.engine import Plan
from aml_tool_core.profiling.result import Result
from aml_tool_core.profiling.result_wire import load_as_json, result_as_json, result_of
from aml_tool_core.profiling.watch import Watch

FOLDER = "runs"
STATE_NAME = "state.json"
CONFIGURATION, PAYLOAD, TARGET = "the configuration", "the payload", "the target"
MODEL = "model_sha256"  # of the target, where it is known
_FORMAT = 2

# What runs were made from, by the words in which a difference is told. Of a mapping, what only one of two knows is no
# difference: a payload class that is new, a machine size that could not be asked.
Facts = Mapping[str, str | Mapping[str, Any]]


@dataclass(frozen=True)
class Measured:
    """One finished measurement."""

    result: Result
    started_at: datetime
    ended_at: datetime


@dataclass(frozen=True)
class Identity:
    """What one measurement depends on, besides what all of a folder were made from."""

    load: Mapping[str, Any]
    method: str
    payload_sha256: str | None
    repeat: int  # which of the measurements of a load that is repeated
    watched: Mapping[str, Any] | None = None  # what could have stopped it, and matters only where it did

    def fits(self, wanted: Identity, stopped: bool) -> bool:
        """Tell whether a measurement of this, stopped early or not, is one of what is wanted."""
        same = all(getattr(self, name) == getattr(wanted, name) for name in ("load", "method", "payload_sha256"))
        return same and self.repeat == wanted.repeat and (not stopped or self.watched == wanted.watched)


def identity_of(plan: Plan, repeat: int, watch: Watch | None = None) -> Identity:
    """Return what a measurement is known by."""
    watched = None if watch is None else {"sla": dict(watch.sla), "planned": watch.planned}
    return Identity(load_as_json(plan.load), plan.payload.method, plan.payload.sha256, repeat, watched)


@dataclass
class Checkpoint:
    """The finished measurements of one course. Without a folder, as for a single run, nothing is kept."""

    folder: Path | None
    made_from: Facts = field(default_factory=dict)
    log: logging.Logger = field(default_factory=lambda: logging.getLogger(__name__))
    taken_over: bool = False  # what is there was made for another list of loads, or brought from elsewhere just now
    count: int = 0  # how many measurements were read from disk or written there
    reused_since: list[datetime] = field(default_factory=list)  # when those that were read from disk were begun

    def __post_init__(self) -> None:
        """See what is there."""
        self._there: dict[Path, tuple[Identity, bool]] = {}
        if self.folder is not None:
            self._there = _usable(self.folder, self.log)
        self._unused = dict(self._there)

    def recorded(self, wanted: Identity) -> Measured | None:
        """Return the first measurement of this that is on disk and was not returned yet; else it is to be made."""
        for path, (identity, stopped) in self._unused.items():
            if identity.fits(wanted, stopped):
                del self._unused[path]
                self.count += 1
                found = _read(path)[1]
                self.reused_since.append(found.started_at)
                return found
        return None

    def leading(self, wanted: Iterable[Identity]) -> int:
        """Return how many of a row of measurements are on disk from its beginning on, one after the other."""
        there = zip(self._there.values(), wanted, strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0][0].fits(pair[1], pair[0][1]), there))

    def keep(self, identity: Identity, measured: Measured) -> None:
        """Write a measurement down."""
        if self.folder is None:
            return
        number = 1
        while (path := self.folder / f"{number:04d}.json") in self._there:
            number += 1
        document = {
            **vars(identity),
            "started_at": measured.started_at.isoformat(),
            "ended_at": measured.ended_at.isoformat(),
            "result": result_as_json(measured.result),
        }
        outputs.write_text(path, json.dumps(document, allow_nan=False) + "\n")
        self._there[path] = (identity, measured.result.stopped_early is not None)
        self.count += 1

    def finish(self) -> None:
        """Note that the report is written: the same command then measures anew."""
        if self.folder is not None:
            _write_state(self.folder, self.made_from, finished=True)

    @property
    def waiting(self) -> list[tuple[Identity, bool]]:
        """What is on disk and was not returned yet, in the order in which it was made: each, and whether it stopped."""
        return list(self._unused.values())

    @property
    def on_disk(self) -> int:
        """How many measurements are there."""
        return len(self._there)

    @property
    def reused_words(self) -> str:
        """What is told of measurements that were not made now; nothing where all were."""
        if not self.reused_since:
            return ""
        oldest = min(self.reused_since)
        age_min = (datetime.now(oldest.tzinfo) - oldest).total_seconds() / 60
        aged = f"{age_min:.0f} min" if age_min < 120 else f"{age_min / 60:.1f} h"
        began = oldest.isoformat(timespec="seconds")
        return f"{len(self.reused_since)} of {self.count} runs were made earlier, the oldest {aged} ago ({began})"

    @property
    def kept_words(self) -> str:
        """What is told of the finished runs where a measurement ends before its end; nothing where there are none."""
        return f"{self.count} finished run(s) are kept in {self.folder}, start again to go on" if self.count else ""


def opened(folder: Path, made_from: Facts, resume: Path | None, log: logging.Logger) -> Checkpoint:
    """Return the checkpoint in a folder: what is there is gone on with if it was made from the same, else set aside.

    With `resume`, a folder brought from elsewhere (one of runs, or the outputs that hold it), its runs are taken over
    first, unless what is here is already farther. Raises InputError where there are none, or none that fit.
    """
    taken_over = resume is not None and _take_over(_runs_in(resume), folder, made_from, log)
    state = _state(folder, log)
    reason = "it has no state" if state is None else _obstacle(state, made_from)
    if state is not None and reason is None and resume is None:
        reason = _doubt(state, made_from)
    if state is None or reason is not None:
        _set_aside(folder, reason, log)
        outputs.make_folder(folder)
        _write_state(folder, made_from, finished=False)
        return Checkpoint(folder, made_from, log)
    is_same = state["made_from"].get(CONFIGURATION) == made_from.get(CONFIGURATION)
    made_from = _with_what_was_known(state, made_from)
    _write_state(folder, made_from, finished=False)
    kept = Checkpoint(folder, made_from, log, taken_over or not is_same)
    runs = f"{kept.on_disk} finished run{'' if kept.on_disk == 1 else 's'}"
    if is_same:
        log.info("%s: going on after %s", folder, runs)
    elif not kept.on_disk:
        log.info("%s: starting anew: %s changed since", folder, CONFIGURATION)
    else:
        log.info(
            "%s: going on instead of starting anew: %s changed since; of its %s, those of a load that is asked for are "
            "not made again",
            folder, CONFIGURATION, runs,
        )  # fmt: skip
    return kept


def _take_over(source: Path, folder: Path, made_from: Facts, log: logging.Logger) -> bool:
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
    brought, here = _usable(source, log), _state(folder, log)
    goes_on = here is not None and _obstacle(here, made_from) is None and _is_same_list(here, made_from)
    if goes_on and len(_usable(folder, log)) >= len(brought):
        log.info("%s: not taken over: %s is as far or farther", source, folder)  # the same command, a second time
        return False
    _set_aside(folder, f"those of {source} take its place", log)
    outputs.make_folder(folder)
    for path in brought:
        outputs.write_text(folder / path.name, _text(path))
    assert state is not None, "without one there is an obstacle"
    # Last: without it, what was copied does not count.
    _write_state(folder, _with_what_was_known(state, made_from), finished=False)
    log.info("%s: its %d finished runs are taken over", source, len(brought))
    return True


def _runs_in(folder: Path) -> Path:
    for candidate in (folder, folder / FOLDER, folder / "outputs" / FOLDER):
        if (candidate / STATE_NAME).is_file():
            return candidate
    raise InputError(
        f"--resume_path: {folder}: holds no {STATE_NAME} of an interrupted measurement; give its outputs/{FOLDER}, or "
        "leave the flag out to start anew"
    )


def _obstacle(state: Mapping[str, Any], made_from: Facts) -> str | None:
    """Return why a folder's runs cannot be gone on with; None where they can."""
    if state.get("format") != _FORMAT:
        return "it was written in another format"
    before = state.get("made_from")
    if not isinstance(before, Mapping):
        return "it does not say what it was made from"
    changed = [name for name, now in made_from.items() if _differ(before.get(name), now)]
    if changed and changed != [CONFIGURATION]:
        return f"{' and '.join(changed)} changed since"
    # Asked for more or for something else, a finished measurement is gone on with; asked for the same, it is repeated.
    return "that measurement is finished" if state.get("finished") and _is_same_list(state, made_from) else None


def _doubt(state: Mapping[str, Any], made_from: Facts) -> str | None:
    """Return why the runs of a finished measurement are not mixed with new ones unasked; None where they may be.

    At an address alone, another model may answer by now: what was interrupted goes on at once, but what was finished
    may be of any age.
    """
    if not state.get("finished") or all(_model(facts) for facts in (state["made_from"], made_from)):
        return None
    return (
        "that measurement is finished, and nothing tells whether the same model still answers there "
        "(--resume_path takes its runs over all the same)"
    )


def _model(facts: Mapping[str, Any]) -> str | None:
    target = facts.get(TARGET)
    return target.get(MODEL) if isinstance(target, Mapping) else None


def _with_what_was_known(state: Mapping[str, Any], made_from: Facts) -> Facts:
    """Return what runs are made from, with what an earlier start knew of it and this one could not be told.

    Else a target that was known, then not, could be any other one by the next start. Payloads need it not, as each run
    states its own; and what is asked for of them is that of this start.
    """
    before: Mapping[str, Any] = state["made_from"]
    return {
        name: {**before[name], **now}
        if name != PAYLOAD and isinstance(now, Mapping) and isinstance(before.get(name), Mapping)
        else now
        for name, now in made_from.items()
    }


def _differ(before: Any, now: Any) -> bool:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        return any(before[name] != now[name] for name in before.keys() & now.keys())
    return bool(before != now)


def _is_same_list(state: Mapping[str, Any], made_from: Facts) -> bool:
    """Tell whether the same loads are asked for, and the same of them."""
    return all(state["made_from"].get(name) == made_from.get(name) for name in (CONFIGURATION, PAYLOAD))


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


def _write_state(folder: Path, made_from: Facts, *, finished: bool) -> None:
    state = {"format": _FORMAT, "finished": finished, "made_from": dict(made_from)}
    outputs.write_text(folder / STATE_NAME, json.dumps(state, indent=2) + "\n")


def _set_aside(folder: Path, reason: str | None, log: logging.Logger) -> None:
    """Give a folder of runs another name: they took hours, and somebody may want them. Raises ToolError."""
    count = len(_files(folder))
    if not count:
        return
    number = 1
    while (aside := folder.with_name(f"{folder.name}_before_{number}")).exists():
        number += 1
    try:
        os.rename(folder, aside)
    except OSError as error:
        raise ToolError(f"{folder}: cannot be moved to {aside.name}: {error.strerror}; move it away") from None
    log.info("%s: starting anew: %s; its %d finished run(s) are now in %s", folder, reason, count, aside)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*.json"), key=lambda path: (len(path.name), path.name))


def _usable(folder: Path, log: logging.Logger) -> dict[Path, tuple[Identity, bool]]:
    """Return the runs of a folder in the order in which they were made: what each is, and whether it was stopped."""
    found = {}
    for path in _files(folder):
        try:
            identity, measured = _read(path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s: cannot be used (%s); it is measured again", path, error)
            continue
        found[path] = (identity, measured.result.stopped_early is not None)
    return found


def _read(path: Path) -> tuple[Identity, Measured]:
    document = json.loads(path.read_text(encoding="utf-8"))
    times = (datetime.fromisoformat(document[name]) for name in ("started_at", "ended_at"))
    identity = Identity(**{name: document[name] for name in Identity.__dataclass_fields__})
    return identity, Measured(result_of(document["result"]), *times)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ToolError(f"{path}: cannot be read: {error.strerror}") from None
