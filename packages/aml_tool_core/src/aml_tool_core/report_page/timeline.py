"""A report's timeline, thinned to what a chart can show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

_MOST_POINTS = 300  # the default duration, so that its seconds stand as they are


@dataclass(frozen=True)
class Moment:
    """One step of the thinned timeline."""

    t_sec: float
    requests_per_sec: float
    latency_ms_50: float | None
    latency_ms_99: float | None
    errors: int


def thinned(timeline: Sequence[Mapping[str, Any]], most: int = _MOST_POINTS) -> tuple[list[Moment], int]:
    """Return the timeline in at most `most` steps, and how many seconds a step has.

    A step shows the mean rate, the median of the medians, the worst p99 and the sum of errors of its seconds.
    """
    step = max(1, math.ceil(len(timeline) / most))
    return [_joined(timeline[start : start + step]) for start in range(0, len(timeline), step)], step


def seconds_between(start: str, at: str) -> float:
    """Return the seconds from one time of a report to another."""
    return (utc(at) - utc(start)).total_seconds()


def utc(text: str) -> datetime:
    """Return a time as a report holds it, RFC 3339 in UTC with any number of decimals (Python 3.10 reads 3 or 6)."""
    whole, _, decimals = text.removesuffix("Z").partition(".")
    at = datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    return at + timedelta(seconds=float(f"0.{decimals or 0}"))


def _joined(seconds: Sequence[Mapping[str, Any]]) -> Moment:
    medians = sorted(one["latency_ms_50"] for one in seconds if one.get("latency_ms_50") is not None)
    worst = [one["latency_ms_99"] for one in seconds if one.get("latency_ms_99") is not None]
    return Moment(
        t_sec=seconds[0]["t_sec"],
        requests_per_sec=sum(one["requests_per_sec"] for one in seconds) / len(seconds),
        latency_ms_50=medians[(len(medians) - 1) // 2] if medians else None,
        latency_ms_99=max(worst) if worst else None,
        errors=sum(one["errors"] for one in seconds),
    )
