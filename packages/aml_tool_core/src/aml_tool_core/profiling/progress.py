"""Live progress: a line that rewrites itself on a terminal, a log line every ten seconds elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

_TERMINAL_EVERY_SEC = 1.0
_LOG_EVERY_SEC = 10.0


@dataclass(frozen=True)
class Counts:
    """What went wrong so far in a run, and the latencies of one second: (highest value of a bucket, count)."""

    errors: int  # not answered
    not_2xx: Mapping[int, int]  # answers by status code
    latency_us: tuple[tuple[int, int], ...]
    service_time_us: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Snapshot:
    """What an engine says of itself while it runs."""

    requests_per_sec: float
    latency_ms_99: float | None
    errors: int  # so far, whatever went wrong
    counts: Counts | None = None  # None of an engine that does not tell them


class Ticker:
    """Says how far a run is; knows the time by itself and whatever the engine last told."""

    def __init__(self, log: logging.Logger, planned_sec: float) -> None:
        self._log = log
        self._planned_sec = planned_sec
        self._started = self._said = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._last: Snapshot | None = None

    def seen(self, snapshot: Snapshot) -> None:
        """Note what the engine told; the next tick shows it."""
        self._last = snapshot

    def close(self) -> None:
        """Take the line off a terminal, so that what follows has one of its own."""
        if self._terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def tick(self) -> None:
        """Say something, if it is time to."""
        now = time.monotonic()
        if now - self._said < (_TERMINAL_EVERY_SEC if self._terminal else _LOG_EVERY_SEC):
            return
        self._said = now
        text = _text(now - self._started, self._planned_sec, self._last)
        if self._terminal:
            sys.stderr.write(f"\r\x1b[K{text}\r")
            sys.stderr.flush()
        else:
            self._log.info("%s", text)


def _text(elapsed_sec: float, planned_sec: float, last: Snapshot | None) -> str:
    parts = [f"{min(elapsed_sec, planned_sec):.0f} of {planned_sec:.0f} s"]
    if elapsed_sec > planned_sec:
        parts.append("waiting for the last answers")
    if last is not None:
        parts.append(f"{last.requests_per_sec:.1f} requests/s")
        if last.latency_ms_99 is not None:
            parts.append(f"p99 {last.latency_ms_99:.2f} ms")
        parts.append(f"{last.errors} errors")
    return ", ".join(parts)
