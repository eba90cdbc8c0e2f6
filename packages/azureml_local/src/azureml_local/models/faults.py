"""Faults that are queued for calls to come, and the calls that were made."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from importlib import resources
from typing import Any

from azureml_local.exceptions import InvalidRequestError, ResourceNotFoundError
from azureml_local.models.store import now_text

MOST_CALLS = 10_000
DROPS = ("before", "after")
OPERATIONS = ("slow", "fail", "fail_midway", "cancel", "hang")
CONTAINERS = ("crash", "hang", "slow")
LONGEST_DELAY_SEC = 3600.0


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and with which calls."""

    method: str = "*"
    path: str = "**"
    times: int | None = 1  # None: until it is removed
    skip: int = 0  # so many matching calls go well first
    delay_sec: float = 0.0
    status: int | None = None
    code: str = "InternalServerError"
    message: str = "A fault that was asked for."
    retry_after_sec: float | None = None
    drop: str | None = None
    operation: str | None = None
    container: str | None = None

    def matches(self, method: str, path: str) -> bool:
        """Say whether a call, its path with the fixed words as the routes spell them, is one of those."""
        return self.method in ("*", method) and _pattern(self.path).fullmatch(path) is not None


@dataclass
class Queued:
    """A fault in the queue: how often it has struck, and what waits for its end."""

    id: str
    fault: Fault
    seen: int = 0
    struck: int = 0
    lifted: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def spent(self) -> bool:
        return self.fault.times is not None and self.struck >= self.fault.times

    async def delay(self) -> None:
        """Wait as long as the fault says, or until it is removed."""
        if self.fault.delay_sec:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.lifted.wait(), self.fault.delay_sec)

    def document(self) -> dict[str, Any]:
        """Return the fault as it is shown."""
        shown = {name: value for name, value in asdict(self.fault).items() if value != getattr(_NOTHING, name)}
        always = {"method": self.fault.method, "path": self.fault.path, "times": self.fault.times}
        return {"id": self.id, **always, **shown, "struck": self.struck}


@dataclass
class Call:
    """A call as it is kept: no headers, no bodies, for they hold secrets."""

    number: int
    at: str
    method: str
    path: str
    query: str
    status: int | None = None  # None: not answered, or not yet
    ended: bool = False
    fault: str | None = None  # the id of the fault that struck it


_NOTHING = Fault()
_WORDS: Mapping[str, tuple[str, ...]] = {"drop": DROPS, "operation": OPERATIONS, "container": CONTAINERS}


class Faults:
    """The queue of faults, and the last calls. It lives as long as the plane's process."""

    def __init__(self) -> None:
        self._queue: dict[str, Queued] = {}
        self._calls: deque[Call] = deque(maxlen=MOST_CALLS)
        self._made = 0
        self._called = 0

    def add(self, fault: Fault) -> Queued:
        """Queue a fault; of several that match a call, the one that was queued first strikes."""
        self._made += 1
        queued = Queued(f"fault-{self._made}", fault)
        self._queue[queued.id] = queued
        return queued

    def queued(self) -> list[Queued]:
        """Return all faults that were not removed, those that have struck as often as they should among them."""
        return list(self._queue.values())

    def remove(self, identity: str) -> None:
        """Remove a fault; an operation that hangs by it goes on. Raises ResourceNotFoundError."""
        queued = self._queue.pop(identity, None)
        if queued is None:
            raise ResourceNotFoundError(f"There is no fault '{identity}'.")
        queued.lifted.set()

    def clear(self) -> None:
        """Remove all faults."""
        for identity in list(self._queue):
            self.remove(identity)

    def of_request(self, method: str, path: str) -> Queued | None:
        """Return the fault that strikes the request itself: its answer, its connection, its time."""
        return self._take(method, path, lambda fault: fault.operation is None and fault.container is None)

    def of_operation(self, method: str, path: str) -> Queued | None:
        """Return the fault that strikes the long-running operation which such a request has begun."""
        return self._take(method, path, lambda fault: fault.operation is not None)

    def of_container(self, path: str) -> Queued | None:
        """Return the fault that strikes the containers of the deployment that is being put."""
        return self._take("PUT", path, lambda fault: fault.container is not None)

    def _take(self, method: str, path: str, kind: Callable[[Fault], bool]) -> Queued | None:
        for queued in self._queue.values():
            if kind(queued.fault) and not queued.spent and queued.fault.matches(method, path):
                queued.seen += 1
                if queued.seen > queued.fault.skip:
                    queued.struck += 1
                    return queued
        return None

    def record(self, method: str, path: str, query: str) -> Call:
        """Note a call that has come in."""
        self._called += 1
        call = Call(self._called, now_text(), method, path, query)
        self._calls.append(call)
        return call

    def calls(self) -> Iterator[Call]:
        """Iterate over the calls, oldest first."""
        return iter(list(self._calls))

    def forget_calls(self) -> None:
        """Forget the calls."""
        self._calls.clear()


def parse_fault(body: Mapping[str, Any]) -> Fault:
    """Read a fault: a known one by its `name`, changed or completed by the other keys. Raises InvalidRequestError."""
    asked = dict(body)
    name = asked.pop("name", None)
    if name is not None:
        if not isinstance(name, str) or name not in known_faults():
            raise InvalidRequestError(f"There is no known fault {name!r}; there are {', '.join(known_faults())}.")
        asked = {**known_faults()[name]["fault"], **asked}
    unknown = sorted(set(asked) - {entry.name for entry in fields(Fault)})
    if unknown:
        raise InvalidRequestError(f"A fault has no {', '.join(unknown)}.")
    values = {key: _checked(key, value) for key, value in asked.items()}
    fault = Fault(**values)
    effects = [key for key in ("status", *_WORDS) if getattr(fault, key) is not None]
    if len(effects) > 1:
        raise InvalidRequestError(f"A fault has one effect, not {' and '.join(effects)}.")
    if not effects and not fault.delay_sec:
        raise InvalidRequestError("A fault needs status, drop, operation, container or delay_sec.")
    # What would do nothing is a slip.
    if fault.retry_after_sec is not None and fault.status is None:
        raise InvalidRequestError("retry_after_sec is of an answer: it needs a status.")
    slow = [key for key in ("operation", "container") if getattr(fault, key) == "slow"]
    if slow and not fault.delay_sec:
        raise InvalidRequestError(f"{slow[0]} slow needs delay_sec: how slow.")
    return fault


@cache
def known_faults() -> dict[str, dict[str, Any]]:
    """Return the faults that have a name: what they are, and their keys."""
    text = resources.files("azureml_local").joinpath("data/faults.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def _checked(key: str, value: Any) -> Any:
    if key in _WORDS:
        fits, wanted = value in _WORDS[key], f"one of {', '.join(_WORDS[key])}"
    elif key == "times":
        fits, wanted = value is None or _is_number(value, 1, math.inf, whole=True), "a whole number from 1, or null"
    elif key == "skip":
        fits, wanted = _is_number(value, 0, math.inf, whole=True), "a whole number from 0"
    elif key == "status":
        fits, wanted = _is_number(value, 400, 599, whole=True), "a status from 400 to 599"
    elif key in ("delay_sec", "retry_after_sec"):
        fits, wanted = _is_number(value, 0, LONGEST_DELAY_SEC), f"seconds from 0 to {LONGEST_DELAY_SEC:g}"
    else:
        fits, wanted = isinstance(value, str) and bool(value) and value.isprintable(), "a line of text"
    if not fits:
        raise InvalidRequestError(f"{key} must be {wanted}, not {value!r}.")
    return value.upper() if key == "method" else value


def _is_number(value: Any, least: float, most: float, *, whole: bool = False) -> bool:
    kinds = int if whole else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and least <= value <= most


@cache
def _pattern(text: str) -> re.Pattern[str]:
    """Turn `onlineEndpoints/*/deployments/*` into a pattern of whole paths.

    `*` is any part of one segment, `**` any number of segments; a pattern that does not begin with a slash may have any
    segments before it.
    """
    words = {"**": ".*", "*": "[^/]*"}
    parts = [words.get(part, re.escape(part)) for part in re.split(r"(\*\*|\*)", text)]
    before = "" if text.startswith(("/", "**")) else "(?:.*/)?"
    return re.compile(before + "".join(parts), re.IGNORECASE)
