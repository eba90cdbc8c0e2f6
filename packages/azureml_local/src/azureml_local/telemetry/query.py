"""Answers to a metrics query: recorded minutes, grouped and aggregated as Azure Monitor does."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from dataclasses import dataclass

from azureml_local.exceptions import InvalidRequestError
from azureml_local.models.durations import parse_duration_sec
from azureml_local.telemetry.catalog import Metric
from azureml_local.telemetry.series import MINUTE_SEC, Dimensions, Minute, Requests, Summary, percentile

AGGREGATIONS = ("average", "minimum", "maximum", "total", "count")
INTERVALS_SEC = (60, 300, 900, 1800, 3600)
DEFAULT_SPAN_SEC = 3600
CLAUSE = re.compile(r"\s*\(*\s*(\w+)\s+eq\s+'([^']*)'\s*\)*\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Span:
    """The minutes that a query asks for, in buckets."""

    start_sec: int
    end_sec: int
    interval_sec: int

    def buckets(self) -> range:
        """Return the buckets' starts (Unix time)."""
        first = self.start_sec - self.start_sec % self.interval_sec
        return range(first, self.end_sec, self.interval_sec)


@dataclass(frozen=True)
class Point:
    """One bucket of a time series; None where nothing was recorded."""

    start_sec: int
    summary: Summary | None


@dataclass(frozen=True)
class TimeSeries:
    """One combination of the dimensions that were asked for."""

    dimensions: Dimensions
    points: tuple[Point, ...]


def parse_span(timespan: str | None, interval: str | None, now_sec: float) -> Span:
    """Read `timespan` (start/end) and `interval`; raises InvalidRequestError."""
    interval_sec = parse_duration_sec(interval) if interval and interval.upper() != "FULL" else 60.0
    if interval_sec not in INTERVALS_SEC:
        raise InvalidRequestError(f"Detected invalid time grain input: {interval}; PT1M, PT5M, PT15M, PT30M or PT1H.")
    if timespan:
        start_text, separator, end_text = timespan.partition("/")
        if not separator:
            raise InvalidRequestError(f"The timespan {timespan!r} is not START/END.")
        start, end = _moment(start_text), _moment(end_text)
    else:
        start, end = now_sec - DEFAULT_SPAN_SEC, now_sec
    if end <= start:
        raise InvalidRequestError(f"The timespan {timespan!r} ends before it starts.")
    return Span(int(start), -int(-end // 1), int(interval_sec))


def _moment(text: str) -> float:
    # A plus sign that was not escaped arrives as a space.
    normal = text.strip().replace(" ", "+").replace("Z", "+00:00")
    # Python 3.10 reads no fraction of other than 3 or 6 digits.
    normal = re.sub(r"\.(\d+)", lambda match: "." + match[1][:6].ljust(6, "0"), normal)
    try:
        moment = dt.datetime.fromisoformat(normal)
    except ValueError as error:
        raise InvalidRequestError(f"{text!r} is not a time such as 2030-01-31T12:00:00Z.") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.timezone.utc)).timestamp()


def parse_filter(text: str | None, metric: Metric) -> dict[str, set[str]]:
    """Read `$filter`: the dimensions to split by, each with its values or '*'; raises InvalidRequestError."""
    wanted: dict[str, set[str]] = {}
    if not text:
        return wanted
    known = {name.lower(): name for name in metric.dimensions}
    for clause in re.split(r"\s+(?:and|or)\s+", text, flags=re.IGNORECASE):
        match = CLAUSE.fullmatch(clause)
        if match is None:
            raise InvalidRequestError(f"The filter {text!r} is not understood: NAME eq 'VALUE' [and|or ...].")
        name = known.get(match[1].lower())
        if name is None:
            raise InvalidRequestError(f"Metric {metric.name} has no dimension {match[1]}.")
        wanted.setdefault(name, set()).add(match[2])
    return wanted


def evaluate(minutes: dict[int, Minute], metric: Metric, wanted: dict[str, set[str]], span: Span) -> list[TimeSeries]:
    """Return the time series of a metric."""
    cells: dict[Dimensions, dict[int, list[Summary | Requests]]] = {}
    for number, minute in minutes.items():
        start_sec = number * MINUTE_SEC
        if not span.buckets().start <= start_sec < span.end_sec:
            continue
        bucket = start_sec - start_sec % span.interval_sec
        for group, value in _of_minute(minute, metric, wanted):
            cells.setdefault(group, {}).setdefault(bucket, []).append(value)
    return [
        TimeSeries(
            group,
            tuple(
                Point(start, _summarise(metric, buckets[start]) if start in buckets else None)
                for start in span.buckets()
            ),
        )
        for group, buckets in sorted(cells.items())
    ]


def _of_minute(
    minute: Minute, metric: Metric, wanted: dict[str, set[str]]
) -> Iterable[tuple[Dimensions, Summary | Requests]]:
    grouped: dict[Dimensions, Summary | Requests] = {}
    if metric.kind == "gauge":
        for (name, dims), summary in minute.gauges.items():
            group = _group(dims, wanted)
            if name == metric.name and group is not None:
                merged = grouped.setdefault(group, Summary())
                if isinstance(merged, Summary):
                    merged.merge(summary)
    else:
        for dims, requests in minute.requests.items():
            group = _group(dims, wanted)
            if group is not None:
                together = grouped.setdefault(group, Requests())
                if isinstance(together, Requests):
                    together.merge(requests)
    return grouped.items()


def _group(dims: Dimensions, wanted: dict[str, set[str]]) -> Dimensions | None:
    """Return the values of the dimensions that are split by; None when the filter leaves the figure out."""
    values = dict(dims)
    for name, allowed in wanted.items():
        if "*" not in allowed and values.get(name) not in allowed:
            return None
    return tuple(sorted((name, values.get(name, "")) for name in wanted))


def _summarise(metric: Metric, values: list[Summary | Requests]) -> Summary:
    result = Summary()
    if metric.kind == "requests":
        # Each minute's number of requests is one sample.
        for value in values:
            result.add(float(value.count))
        return result
    together = Requests()
    for value in values:
        if isinstance(value, Summary):
            result.merge(value)
        else:
            together.merge(value)
    if metric.kind == "latency" and together.count:
        if metric.quantile is not None:
            result.add(percentile(together.latencies_us, metric.quantile) / 1000)
        else:
            result = Summary(
                together.latency_total_us / 1000,
                together.count,
                together.latency_min_us / 1000,
                together.latency_max_us / 1000,
            )
    return result
