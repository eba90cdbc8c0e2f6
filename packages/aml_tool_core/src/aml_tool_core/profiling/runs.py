"""A run: one load, what it was for, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from aml_tool_core.profiling.cost import Cost
from aml_tool_core.profiling.deployment import Usage
from aml_tool_core.profiling.load import Load
from aml_tool_core.profiling.payload import Payload
from aml_tool_core.profiling.result import Result
from aml_tool_core.profiling.sla import Criterion
from aml_tool_core.profiling.standing import Standing
from aml_tool_core.profiling.verdict import Verdict


class Purpose(Enum):
    """What a run is for."""

    POINT = "point"  # of a sweep, or the only one
    PROBE = "probe"
    CONFIRMATION = "confirmation"


@dataclass(frozen=True)
class Point:
    """What distinguishes the load of one run from that of another."""

    purpose: Purpose
    connections: int
    duration_sec: int
    target_rps: float | None = None
    payload_class: str | None = None

    def of(self, load: Load) -> Load:
        """Return a load at this point; a thread that has no connection to drive is left out."""
        return replace(
            load,
            connections=self.connections,
            threads=min(load.threads, self.connections),
            duration_sec=self.duration_sec,
            target_rps=self.target_rps,
        )


@dataclass(frozen=True)
class Run:
    """A point and what was measured at it; repeated measurements are taken together in `result`."""

    number: int  # from 1
    point: Point
    load: Load
    payload: Payload
    started_at: datetime
    ended_at: datetime
    repeats: tuple[Result, ...]
    result: Result
    verdict: Verdict
    usage: Usage | None  # None where it has not been asked for
    cost: Cost
    criteria: tuple[Criterion, ...] | None  # None where nothing is demanded
    standing: Standing


@dataclass(frozen=True)
class Failure:
    """A point of a sweep that was not measured, and why."""

    point: Point
    reason: str
