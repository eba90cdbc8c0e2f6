"""Run Olive's search in a process of its own, tell how it goes, and bring back what it found."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aml_tool_core import InputError, outputs, processes

from aml_olive_optimizer import environment, events, footprints
from aml_olive_optimizer.footprints import Footprint

log = logging.getLogger("aml_olive_optimizer")


@dataclass(frozen=True)
class Found:
    """What a search brought back, complete or not."""

    accelerators: tuple[str, ...]
    footprints: Mapping[str, Footprint]  # by accelerator; those that were begun
    failures: Mapping[str, tuple[str, ...]]  # by accelerator; "" for what belongs to none
    duration_sec: float
    tried: int = 0  # points of the search
    pruned: Mapping[str, int] = field(default_factory=dict)  # points of them that Olive did not measure, by reason


@dataclass
class _Progress:
    units: Mapping[str, str]
    accelerators: tuple[str, ...] = ()
    current: str = ""
    points: dict[str, int] = field(default_factory=dict)
    number: int = 0
    passes: list[str] = field(default_factory=list)
    failures: dict[str, list[str]] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)
    tried: int = 0
    pruned: dict[str, int] = field(default_factory=dict)
    refused: str | None = None
    done: bool = False

    def take(self, event: events.Event) -> None:
        """Note an event and log what a person wants to know of it."""
        kind = event["kind"]
        if kind == "accelerators":
            self.accelerators = tuple(event["names"])
            log.info("searching %s", ", ".join(self.accelerators))
        elif kind == "points":
            self.points[event["accelerator"]] = int(event["count"])
        elif kind == "step":
            self.current, self.number, self.passes = event["accelerator"], int(event["number"]), []
            self.tried += 1
        elif kind == "pass":
            self.passes.append(event["name"])
        elif kind == "measured":
            self._measured(event)
        elif kind == "warning":
            self._warn(event["text"])
        elif kind == "failure":
            self._warn(event["text"])
            self.failures.setdefault(self.current, []).append(event["text"])
        elif kind == "refused":
            self.refused = event["text"]
        elif kind == "done":
            self.done = True

    def _warn(self, text: str) -> None:
        # A search meets the same trouble at every point; once is enough, all of it is in olive.log.
        if text not in self.told:
            self.told.add(text)
            log.warning("Olive: %s", text)

    def _measured(self, event: events.Event) -> None:
        result = "not evaluated"
        if event["pruned"]:
            reason = event["reason"] or "no reason given"
            self.pruned[reason] = self.pruned.get(reason, 0) + 1
            result = f"pruned: {reason}"
        elif event["metrics"]:
            result = ", ".join(
                " ".join(filter(None, (name, f"{value:.6g}", self.units.get(name))))
                for name, value in event["metrics"].items()
            )
        log.info("%s, %s, %s: %s", self._position(), self.current, " + ".join(self.passes), result)

    def _position(self) -> str:
        if not self.points:
            return "passes"
        each = max(self.points.values())
        total = sum(self.points.get(name, each) for name in self.accelerators)
        before = self.accelerators[: self.accelerators.index(self.current)]
        return f"point {sum(self.points.get(name, each) for name in before) + self.number} of {total}"


def run(configuration: Mapping[str, Any], source: str, folder: Path, code: Path | None, cache: Path) -> Found:
    """Search. `folder` is the tool's temporary one; Olive's own log is written there as olive.log.

    Raises InputError for a configuration that Olive cannot take. What went wrong later is in the result: partial
    results may still be worth something.
    """
    outputs.write_text(folder / "configuration.json", json.dumps(configuration))
    temporary = folder / "tmp"
    temporary.mkdir()
    variables = environment.worker_environment(os.environ, code=code, temporary=temporary, cache=cache)
    command = [sys.executable, "-m", "aml_olive_optimizer.worker", str(folder)]
    progress = _Progress(footprints.units(configuration))
    started = time.monotonic()
    with (
        (folder / "olive.log").open("wb") as noise,
        processes.running(command, stdout=subprocess.PIPE, stderr=noise, env=variables) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            event = events.parse(line)
            if event is not None:
                progress.take(event)
        code_of_exit = process.wait()
    if progress.refused:
        raise InputError(f"{source}: {progress.refused}")
    if not progress.done:
        progress.failures.setdefault(progress.current, []).append(_how_it_ended(code_of_exit, folder / "olive.log"))
    read = _read(folder / "footprints", footprints.metric_types(configuration), progress.failures)
    return Found(
        progress.accelerators,
        read,
        {name: tuple(texts) for name, texts in progress.failures.items()},
        time.monotonic() - started,
        progress.tried,
        progress.pruned,
    )


def _read(folder: Path, types: Mapping[str, str], failures: dict[str, list[str]]) -> dict[str, Footprint]:
    """Return the footprints that can be read; of the others, it is among the failures."""
    found = {}
    for file in sorted(folder.glob("*.json")):
        try:
            found[file.stem] = footprints.parse(file.stem, json.loads(file.read_text(encoding="utf-8")), types)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"what its search found cannot be read: {error}"
            log.warning("%s: %s", file.stem, reason)
            failures.setdefault(file.stem, []).append(reason)
    return found


def _how_it_ended(code: int, noise: Path) -> str:
    if code < 0:
        return f"the search's process was ended by {signal.Signals(-code).name}"
    lines = [line.strip() for line in noise.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return f"the search's process ended with exit code {code}: {lines[-1] if lines else 'nothing said'}"
