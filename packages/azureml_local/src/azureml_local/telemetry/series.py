"""Figures by minute: what is recorded, how it merges, and how an hour of it is kept."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from azureml_local.files import write_atomic

MINUTE_SEC = 60
KEPT_MINUTES = 75
# The file is rewritten when it holds this many lines more than are kept.
SPARE_LINES = 120

# A figure's dimensions as (name, value) pairs, sorted by name.
Dimensions = tuple[tuple[str, str], ...]


def dimensions(**values: str) -> Dimensions:
    """Return dimensions in their canonical order."""
    return tuple(sorted(values.items()))


@dataclass
class Summary:
    """Samples of a gauge, merged."""

    total: float = 0.0
    count: int = 0
    minimum: float = math.inf
    maximum: float = -math.inf

    def add(self, value: float) -> None:
        """Take one sample in."""
        self.total += value
        self.count += 1
        self.minimum = min(self.minimum, value)
        self.maximum = max(self.maximum, value)

    def merge(self, other: Summary) -> None:
        """Take another summary's samples in."""
        self.total += other.total
        self.count += other.count
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)


def bucket_us(latency_us: int) -> int:
    """Round a latency down to eight significant bits: an error of 0.8 % at most, and few distinct values."""
    shift = max(0, latency_us.bit_length() - 8)
    return (latency_us >> shift) << shift


def percentile(counts: dict[int, int], quantile: float) -> float:
    """Return the nearest-rank percentile of (value, count) pairs; the values must not be empty."""
    rank = max(1, math.ceil(quantile * sum(counts.values())))
    seen = 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= rank:
            return float(value)
    raise ValueError("no values")


@dataclass
class Requests:
    """Requests of one kind in one minute."""

    count: int = 0
    latencies_us: dict[int, int] = field(default_factory=dict)
    latency_total_us: int = 0
    latency_max_us: int = 0
    latency_min_us: int = 0

    def add(self, latency_us: int) -> None:
        """Take one request in."""
        self.latency_min_us = min(self.latency_min_us, latency_us) if self.count else latency_us
        self.count += 1
        self.latency_total_us += latency_us
        self.latency_max_us = max(self.latency_max_us, latency_us)
        bucket = bucket_us(latency_us)
        self.latencies_us[bucket] = self.latencies_us.get(bucket, 0) + 1

    def merge(self, other: Requests) -> None:
        """Take another's requests in."""
        if other.count:
            low = other.latency_min_us
            self.latency_min_us = min(self.latency_min_us, low) if self.count else low
        self.count += other.count
        self.latency_total_us += other.latency_total_us
        self.latency_max_us = max(self.latency_max_us, other.latency_max_us)
        for bucket, count in other.latencies_us.items():
            self.latencies_us[bucket] = self.latencies_us.get(bucket, 0) + count


@dataclass
class Minute:
    """All that one resource's figures are in one minute."""

    gauges: dict[tuple[str, Dimensions], Summary] = field(default_factory=dict)
    # By deployment, statusCode, statusCodeClass and modelStatusCode.
    requests: dict[Dimensions, Requests] = field(default_factory=dict)

    def merge(self, other: Minute) -> None:
        """Take another part of the same minute in."""
        for key, summary in other.gauges.items():
            self.gauges.setdefault(key, Summary()).merge(summary)
        for dims, requests in other.requests.items():
            self.requests.setdefault(dims, Requests()).merge(requests)


class MetricStore:
    """The last hour's figures of every resource, by resource id in lower case."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._minutes: dict[int, dict[str, Minute]] = {}
        self._written: set[int] = set()
        if path.exists():
            self._load(path)

    def minute(self, resource_id: str, at: float) -> Minute:
        """Return where a figure of this moment (Unix time) belongs."""
        number = int(at // MINUTE_SEC)
        return self._minutes.setdefault(number, {}).setdefault(resource_id, Minute())

    def gauge(self, resource_id: str, metric: str, dims: Dimensions, value: float, at: float) -> None:
        """Record one sample of a gauge."""
        gauges = self.minute(resource_id, at).gauges
        key = (metric, dims)
        if key not in gauges:
            gauges[key] = Summary()
        gauges[key].add(value)

    def series(self, resource_id: str) -> dict[int, Minute]:
        """Return a resource's minutes by their number (Unix time / 60)."""
        key = resource_id.lower()
        return {number: resources[key] for number, resources in self._minutes.items() if key in resources}

    def write_finished(self, now: float | None = None) -> None:
        """Append finished minutes to the file, and forget old ones."""
        current = int((time.time() if now is None else now) // MINUTE_SEC)
        # A request's log line may come a moment after its minute: a minute is finished when it is one minute past.
        self._append([number for number in self._minutes if number < current - 1 and number not in self._written])
        for number in [number for number in self._minutes if number < current - KEPT_MINUTES]:
            del self._minutes[number]
            self._written.discard(number)

    def write_all(self) -> None:
        """Rewrite the file with everything, the unfinished minutes too."""
        lines = [self._line(number) for number in sorted(self._minutes)]
        write_atomic(self._path, "".join(lines), 0o600)

    def _append(self, numbers: list[int]) -> None:
        if not numbers:
            return
        with self._path.open("a") as stream:
            stream.writelines(self._line(number) for number in sorted(numbers))
        self._written.update(numbers)
        if len(self._written) > KEPT_MINUTES + SPARE_LINES:
            self.write_all()

    def _line(self, number: int) -> str:
        resources = {key: _encode(minute) for key, minute in self._minutes[number].items()}
        return json.dumps({"minute": number, "resources": resources}, separators=(",", ":")) + "\n"

    def _load(self, path: Path) -> None:
        oldest = int(time.time() // MINUTE_SEC) - KEPT_MINUTES
        for line in path.read_text().splitlines():
            try:
                document = json.loads(line)
            except json.JSONDecodeError:
                # The last line of a supervisor that was killed while it wrote.
                continue
            if document["minute"] < oldest:
                continue
            resources = self._minutes.setdefault(document["minute"], {})
            for key, encoded in document["resources"].items():
                resources.setdefault(key, Minute()).merge(_decode(encoded))
        self.write_all()


def _encode(minute: Minute) -> dict[str, Any]:
    return {
        "gauges": [
            [metric, dims, summary.total, summary.count, summary.minimum, summary.maximum]
            for (metric, dims), summary in minute.gauges.items()
        ],
        "requests": [
            [
                dims,
                entry.count,
                entry.latency_total_us,
                entry.latency_min_us,
                entry.latency_max_us,
                list(entry.latencies_us.items()),
            ]
            for dims, entry in minute.requests.items()
        ],
    }


def _decode(document: dict[str, Any]) -> Minute:
    minute = Minute()
    for metric, dims, total, count, low, high in document["gauges"]:
        minute.gauges[(metric, _pairs(dims))] = Summary(total, count, low, high)
    for dims, count, total, low, high, latencies in document["requests"]:
        minute.requests[_pairs(dims)] = Requests(count, dict(latencies), total, high, low)
    return minute


def _pairs(raw: Iterable[Iterable[str]]) -> Dimensions:
    return tuple((name, value) for name, value in raw)
