"""What is kept of runs that did not come to their end, and of earlier ones, so that all that stands is known."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aml_tool_core import documents, outputs
from aml_tool_core.azure.traffic import Move, read_move
from aml_tool_core.azure.workspace import Workspace
from aml_tool_core.errors import InputError, ToolError

from aml_online_endpoints_deployer import settings

_log = logging.getLogger("aml_online_endpoints_deployer")
_NO_PART = re.compile(r"[^A-Za-z0-9-]")  # what names in Azure do not have either
_LONGEST_PART = 64


@dataclass(frozen=True)
class Note:
    """The note of one run, and whether an earlier one has left one of the same names."""

    path: Path
    document: Mapping[str, Any]
    left_earlier: bool

    @property
    def run(self) -> str:
        """The run's mark, by which what it creates is known."""
        return str(self.document["deployment_settings"]["run"])

    @property
    def move(self) -> Move | None:
        """What the earlier run that this one continues did to the traffic."""
        found = self.document["deployment_settings"].get(settings.MOVE)
        return None if found is None else read_move(found)

    def write(self, move: Move | None = None) -> None:
        """Put the note on disk, with what the run is about to do to the traffic."""
        named = self.document["deployment_settings"]
        if move is not None:
            named = {**named, settings.MOVE: move.document()}
        outputs.write_json(self.path, {**self.document, "deployment_settings": named}, settings.SCHEMA)

    def remove(self) -> None:
        """Take the note away: nothing stands that it is needed for."""
        self.path.unlink(missing_ok=True)


def open_note(folder: Path, workspace: Workspace, endpoint_name: str, deployment_name: str) -> Note:
    """Return the note of this run, which continues an earlier one where that was cut short at the same thing.

    A note of something else is moved aside: what it names may still stand.
    """
    path = folder / settings.PARTIAL_NAME
    new = settings.partial(workspace, endpoint_name, deployment_name, uuid.uuid4().hex)
    found = _read(path)
    if found is None:
        return Note(path, new, False)
    named = found["deployment_settings"]
    run = named.get("run")
    of_this = settings.partial(workspace, endpoint_name, deployment_name, str(run))["deployment_settings"]
    if {name: value for name, value in named.items() if name != settings.MOVE} == of_this:
        _log.info("%s: an earlier run was cut short; this one continues it", path)
        return Note(path, found, True)
    aside = path.with_name(f"deployment_settings.partial.{_part(run or 'earlier')}.json")
    _move(path, aside)
    _log.warning(
        "%s: an earlier run may have left deployment %s of endpoint %s standing; its note is %s now",
        path, named.get("deployment_name"), named.get("endpoint_name"), aside,
    )  # fmt: skip
    return Note(path, new, False)


def set_aside(folder: Path) -> Path | None:
    """Move the settings of an earlier run to where no tool takes them for this run's; return where, if there are any.

    Not removed: should this run fail, they alone tell of what that one deployed.
    """
    path = folder / settings.FILE_NAME
    if not path.exists():
        return None
    try:
        named = documents.read_json(path, settings.SCHEMA)["deployment_settings"]
    except InputError as fault:
        _log.warning("%s; it is an earlier run's, and kept", fault)
        named = {}
    aside = earlier(folder, str(named.get("endpoint_name")), str(named.get("deployment_name")))
    _move(path, aside)
    return aside


def earlier(folder: Path, endpoint_name: str, deployment_name: str) -> Path:
    """Return where the settings of an earlier run are that deployed something of these names."""
    return folder / f"deployment_settings.earlier.{_part(endpoint_name)}.{_part(deployment_name)}.json"


def _part(name: str) -> str:
    """Return a name as a part of a file's: it may come from a file that says anything."""
    return _NO_PART.sub("_", name)[:_LONGEST_PART]


def _move(path: Path, aside: Path) -> None:
    try:
        path.replace(aside)
    except OSError as error:
        raise ToolError(
            f"{path}: an earlier run's, cannot be moved aside: {error.strerror}; make its folder writable, or move it"
        ) from None


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        document = documents.read_json(path, settings.SCHEMA)
    except InputError as fault:
        raise InputError(
            f"{fault}; it is the note of an earlier run: remove it if nothing of that run stands"
        ) from None
    return dict(document)
