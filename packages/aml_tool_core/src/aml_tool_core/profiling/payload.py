"""What is sent: JSON Lines, one request body per line, all of them in rotation."""

from __future__ import annotations

import hashlib
import json
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from aml_tool_core import documents
from aml_tool_core.errors import InputError

JSON_TYPE = "application/json"


@dataclass(frozen=True)
class Payload:
    """Request bodies in order, and where they come from; without one the request is a GET."""

    bodies: tuple[bytes, ...]
    source: str | None
    name: str | None = None  # of its class, where the payload is divided into some

    @property
    def method(self) -> str:
        """POST with a body, GET without."""
        return "POST" if self.bodies else "GET"

    @property
    def bytes_mean(self) -> float | None:
        """Mean size of a body."""
        return sum(map(len, self.bodies)) / len(self.bodies) if self.bodies else None

    @property
    def sha256(self) -> str | None:
        """Hash of all bodies in order, one per line: the same payload has the same hash wherever it came from."""
        return hashlib.sha256(b"".join(body + b"\n" for body in self.bodies)).hexdigest() if self.bodies else None


def content_type(headers: Mapping[str, str]) -> str:
    """Return the content type of the bodies: what the headers say, else JSON."""
    return next((value for name, value in headers.items() if name.lower() == "content-type"), JSON_TYPE)


def read(path: Path | None, config: Mapping[str, Any], config_source: str, content_type: str) -> Payload:
    """Return the payload: the file's lines, else the configuration's one body, else none. Raises InputError."""
    is_json = holds_json(content_type)
    if path is not None:
        if path.is_dir():
            raise InputError(
                f"--payload_path: {path}: is a folder; name a file, or set payload_classes to file, which makes each "
                "file of a folder a class"
            )
        return Payload(_lines(path, is_json), path.name)
    if "payload" in config:
        body = _one_body(str(config["payload"]), f"{config_source}: /profiler_config/payload", is_json)
        return Payload((body.encode("utf-8"),), "profiler_config")
    return Payload((), None)


def classes(path: Path | None, config: Mapping[str, Any], config_source: str, content_type: str) -> tuple[Payload, ...]:
    """Return the payload divided as `payload_classes` asks, none where it does not. Raises InputError."""
    if "payload_classes" not in config:
        return ()
    place = f"{config_source}: /profiler_config/payload_classes"
    if path is None:
        raise InputError(f"{place}: needs --payload_path, whose lines it divides")
    is_json = holds_json(content_type)
    if config["payload_classes"] == "file":
        return _by_file(path, place, is_json)
    limits = [int(one) for one in config["payload_classes"]["size_bytes"]]
    if limits != sorted(limits):
        raise InputError(f"{place}/size_bytes: not ascending; sort it")
    return _by_size(read(path, config, config_source, content_type), limits)


def _by_file(path: Path, place: str, is_json: bool) -> tuple[Payload, ...]:
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else []
    if not files:
        raise InputError(f"{place}: file: --payload_path {path} is no folder with .jsonl files, each of them a class")
    return tuple(Payload(_lines(file, is_json), file.name, file.stem) for file in files)


def _by_size(payload: Payload, limits: Sequence[int]) -> tuple[Payload, ...]:
    """Divide by size: up to and including each limit, and above the last; classes without a line are left out."""
    between = [f"{low + 1} to {high} bytes" for low, high in pairwise(limits)]
    names = [f"up to {limits[0]} bytes", *between, f"more than {limits[-1]} bytes"]
    parts: dict[str, list[bytes]] = {name: [] for name in names}
    for body in payload.bodies:
        parts[names[bisect_left(limits, len(body))]].append(body)
    return tuple(Payload(tuple(bodies), payload.source, name) for name, bodies in parts.items() if bodies)


def holds_json(content_type: str) -> bool:
    """Tell whether a content type promises JSON (RFC 6839: also by its +json suffix)."""
    media_type = content_type.split(";")[0].strip().lower()
    return media_type == JSON_TYPE or media_type.endswith("+json")


def _one_body(body: str, place: str, is_json: bool) -> str:
    if not body.strip():
        raise InputError(f"{place}: empty; write a request body, or leave the key out for a GET")
    if not is_json:
        return body
    _check_json(body, place)
    # In valid JSON a line break is mere space between tokens; without any, the body can be a line like all others.
    return re.sub(r"[\r\n]+", " ", body).strip()


def _lines(path: Path, is_json: bool) -> tuple[bytes, ...]:
    # Only \n ends a line: U+2028 and its like may stand inside a JSON string.
    lines = [line.removesuffix("\r") for line in documents.read_text(path).split("\n")]
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise InputError(f"{path}: holds no request body; write one per line (JSON Lines)")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise InputError(f"{path}: line {number}: empty; every line is one request body, remove the line")
        if is_json:
            _check_json(line, f"{path}: line {number}")
    return tuple(line.encode("utf-8") for line in lines)


def _check_json(text: str, place: str) -> None:
    try:
        json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        # The text itself is not quoted: payloads do not belong in a log.
        raise InputError(
            f"{place}: column {error.colno}: not JSON: {error.msg}; every line is one request body in JSON, or set "
            "another Content-Type in scoring_headers"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: not JSON: {error}") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
