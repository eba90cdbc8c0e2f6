"""A tool is a declaration and one function."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from aml_tool_core.outputs import DEFAULT_FOLDER, remove


class Kind(Enum):
    """What a flag's value is, and so how it is checked before the tool runs."""

    FILE = "an existing file"
    FOLDER = "an existing folder"
    PATH = "an existing file or folder"
    OUTPUT_FOLDER = "a folder, made when absent"
    BOOLEAN = "True or False"
    SECONDS = "a number of seconds, more than 0"
    DURATION = "a time such as 90s, 30m, 2h or 7d"
    TEXT = "text"
    TEXTS = "text, as often as wanted"
    SWITCH = "given or not"


@dataclass(frozen=True)
class Flag:
    """One command-line flag. A FILE with a `schema` is read as JSON and validated before the tool runs."""

    name: str  # with its dashes: "--config_path"
    help: str
    kind: Kind = Kind.TEXT
    required: bool = False
    default: Any = None
    schema: str | None = None

    @property
    def key(self) -> str:
        """The flag's name without its dashes, as in `Job.values`."""
        return self.name.lstrip("-")


@dataclass(frozen=True)
class Job:
    """One run of a tool: its checked flag values, its validated documents, and where its outputs go."""

    tool: Tool
    values: Mapping[str, Any]  # by Flag.key: Path, bool, float (seconds), str or list by its kind; None if absent
    documents: Mapping[str, Any] = field(default_factory=dict)  # by Flag.key, for flags with a schema
    outputs: Path = DEFAULT_FOLDER
    _begun: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)

    def begin(self) -> None:
        """Remove what an earlier run left under the names of the tool's outputs.

        A tool that has such calls this once its inputs are found good, and before it loads, deploys or writes anything.
        """
        if self._begun.is_set():
            return
        self._begun.set()
        given = [path for path in self.values.values() if isinstance(path, Path)]
        removed = remove([self.outputs / name for name in self.tool.outputs], but=given)
        if removed:
            told = ", ".join(map(str, removed))
            logging.getLogger(self.tool.name).info("removed what an earlier run left: %s", told)

    def path(self, key: str) -> Path:
        """Return a path flag that must be there (a required one, or one the tool has checked)."""
        value = self.values[key]
        assert isinstance(value, Path), f"{key} is not a given path"
        return value


@dataclass(frozen=True)
class Tool:
    """A command-line tool: its name (one word everywhere), what it does, its flags and its function.

    `run` raises the errors of `aml_tool_core.errors`; whatever else it raises is a defect (exit code 70).
    """

    name: str
    version: str
    summary: str
    flags: tuple[Flag, ...]
    run: Callable[[Job], None]
    epilog: str = ""
    # Its own final files in ./outputs. Those of an earlier run are removed by `Job.begin`, which `run` calls, and where
    # `run` fails otherwise than by its input: nobody takes them for its own.
    outputs: tuple[str, ...] = ()
