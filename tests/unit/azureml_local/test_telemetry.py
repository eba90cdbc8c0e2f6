"""Figures: counted, merged, kept and queried."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest
from azureml_local.exceptions import InvalidRequestError
from azureml_local.telemetry.catalog import metrics_of
from azureml_local.telemetry.query import evaluate, parse_filter, parse_span
from azureml_local.telemetry.request_log import RequestLog
from azureml_local.telemetry.sampler import Sampler, Watched
from azureml_local.telemetry.series import (
    MetricStore,
    Requests,
    bucket_us,
    dimensions,
    percentile,
)
from azureml_local.telemetry.usage import Usage

ENDPOINT = "/subscriptions/s/my-ep"
NOW = 1_900_000_020.0  # twenty seconds into minute 31,666,667


@pytest.fixture
def metrics(tmp_path: Path) -> MetricStore:
    return MetricStore(tmp_path / "metrics.jsonl")


def framed(*messages: str) -> bytes:
    return b"".join(f"{len(message)} {message}".encode() for message in messages)


def line(start_ms: float, took_ms: float, deployment: str = "blue", status: str = "200", model: str = "200") -> str:
    start_us = int((NOW * 1000 + start_ms) * 1000)
    return f"{start_us} {start_us + int(took_ms * 1000)} my-ep {deployment} {status} {model} 100 200 --"


def log_into(metrics: MetricStore) -> RequestLog:
    return RequestLog(metrics, lambda name: ENDPOINT if name == "my-ep" else None)


def test_the_log_is_counted_however_it_is_cut(metrics: MetricStore) -> None:
    data = framed(*(line(number, 2) for number in range(50)), line(0, 1, "-", "401", "-"))
    for size in (1, 7, 64, len(data)):
        store = MetricStore(Path("/nonexistent/never-read"))
        log, rest = log_into(store), b""
        for start in range(0, len(data), size):
            rest = log.feed(rest + data[start : start + size])
        assert rest == b"" and log.malformed == 0
        counts = [entry.count for minute in store.series(ENDPOINT).values() for entry in minute.requests.values()]
        assert sorted(counts) == [1, 50]
        deployment = store.series(f"{ENDPOINT}/deployments/blue")
        assert [entry.count for minute in deployment.values() for entry in minute.requests.values()] == [50]


def test_lines_of_unknown_endpoints_and_broken_lines_are_left_out(metrics: MetricStore) -> None:
    log = log_into(metrics)
    log.feed(framed("1 2 another-ep blue 200 200 1 1 --", "nonsense"))
    assert log.malformed == 1
    assert metrics.series(ENDPOINT) == {}


@pytest.mark.parametrize("value", [0, 1, 255, 256, 999, 12_345, 4_999_999, 2**40])
def test_buckets_are_close_below(value: int) -> None:
    assert bucket_us(value) <= value
    assert value - bucket_us(value) <= value / 128


def test_percentiles_are_nearest_rank() -> None:
    counts = dict.fromkeys(range(1, 101), 1)
    assert percentile(counts, 0.5) == 50
    assert percentile(counts, 0.99) == 99
    assert percentile(counts, 1.0) == 100
    assert percentile({7: 1}, 0.5) == 7


def test_latency_and_requests_of_a_minute(metrics: MetricStore) -> None:
    log = log_into(metrics)
    log.feed(framed(*(line(number, number) for number in range(1, 101)), line(0, 1, status="429", model="-")))
    known, span = metrics_of(is_deployment=False), parse_span(None, None, NOW + 60)
    minutes = metrics.series(ENDPOINT)

    def only(name: str, text: str | None = None) -> dict[tuple[tuple[str, str], ...], float]:
        metric = known[name.lower()]
        found = evaluate(minutes, metric, parse_filter(text, metric), span)
        return {
            series.dimensions: next(
                point.summary.total / point.summary.count for point in series.points if point.summary
            )
            for series in found
        }

    assert only("RequestsPerMinute") == {(): 101}
    by_status = only("RequestsPerMinute", "statusCode eq '*'")
    assert by_status == {(("statusCode", "200"),): 100, (("statusCode", "429"),): 1}
    assert only("RequestsPerMinute", "statusCode eq '429' and deployment eq '*'") == {
        (("deployment", "blue"), ("statusCode", "429")): 1
    }
    assert only("RequestLatency")[()] == pytest.approx((5050 + 1) / 101)
    assert only("RequestLatency_P50")[()] == pytest.approx(50, rel=0.02)
    assert only("RequestLatency_P99")[()] == pytest.approx(99, rel=0.02)


def test_a_gauge_is_merged_over_instances_and_minutes(metrics: MetricStore) -> None:
    metric = metrics_of(is_deployment=True)["cpuutilizationpercentage"]
    for instance, values in {"a": (10.0, 30.0), "b": (50.0,)}.items():
        for number, value in enumerate(values):
            metrics.gauge(ENDPOINT, metric.name, dimensions(instanceId=instance), value, NOW + 60 * number)
    minutes = metrics.series(ENDPOINT)
    start = int(NOW // 300 * 300)
    span = parse_span(f"{iso(start)}/{iso(start + 300)}", "PT5M", NOW)
    (together,) = evaluate(minutes, metric, {}, span)
    (point,) = together.points
    assert point.summary is not None
    assert (point.summary.minimum, point.summary.maximum, point.summary.total, point.summary.count) == (10, 50, 90, 3)
    split = evaluate(minutes, metric, parse_filter("InstanceId eq '*'", metric), span)
    assert [series.dimensions for series in split] == [(("instanceId", "a"),), (("instanceId", "b"),)]
    chosen = evaluate(minutes, metric, parse_filter("instanceId eq 'b' or instanceId eq 'c'", metric), span)
    assert [series.dimensions for series in chosen] == [(("instanceId", "b"),)]


def iso(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENODEV])
def test_an_instance_that_goes_while_it_is_looked_at_costs_the_others_nothing(
    metrics: MetricStore, tmp_path: Path, number: int
) -> None:
    def gone() -> Usage:
        raise OSError(number, os.strerror(number), "cpu.stat")

    watched = [
        Watched("/d", "going", 1, 1.0, 1e9, gone),
        Watched("/d", "staying", 2, 1.0, 1e9, lambda: Usage(0.0, 250_000_000, None, None)),
    ]
    Sampler(metrics, lambda: watched, tmp_path).sample()
    (minute,) = metrics.series("/d").values()
    found = [(name, summary.total) for (name, _), summary in minute.gauges.items() if "Percentage" in name]
    assert found == [("CpuMemoryUtilizationPercentage", 25.0)]


def test_a_fault_of_the_sampler_s_own_is_not_passed_over(metrics: MetricStore, tmp_path: Path) -> None:
    def refused() -> Usage:
        raise PermissionError(errno.EACCES, "Permission denied", "cpu.stat")

    with pytest.raises(PermissionError):
        Sampler(metrics, lambda: [Watched("/d", "one", 1, 1.0, 1e9, refused)], tmp_path).sample()


def test_spans() -> None:
    span = parse_span("2030-01-01T00:00:30Z/2030-01-01T00:03:00.1234567+00:00", "PT1M", 0)
    assert len(span.buckets()) == 4
    assert len(parse_span(None, None, NOW).buckets()) in (60, 61)


@pytest.mark.parametrize(
    ("timespan", "interval"),
    [("yesterday", None), ("2030-01-01T00:00:00Z/2029-01-01T00:00:00Z", None), (None, "PT7M"), ("a/b", None)],
)
def test_spans_that_are_refused(timespan: str | None, interval: str | None) -> None:
    with pytest.raises(InvalidRequestError):
        parse_span(timespan, interval, NOW)


@pytest.mark.parametrize("text", ["instanceId", "instanceId ne 'a'", "disk eq '*'", "instanceId eq a"])
def test_filters_that_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        parse_filter(text, metrics_of(is_deployment=True)["cpuutilizationpercentage"])


def test_an_hour_survives_a_restart_and_parts_of_a_minute_merge(tmp_path: Path) -> None:
    path, now = tmp_path / "metrics.jsonl", time.time()
    for value in (10.0, 20.0):
        store = MetricStore(path)
        store.gauge(ENDPOINT, "CpuUtilizationPercentage", dimensions(instanceId="a"), value, now)
        requests = store.minute(ENDPOINT, now).requests.setdefault(dimensions(statusCode="200"), Requests())
        requests.add(int(value * 1000))
        store.write_all()
    (minute,) = MetricStore(path).series(ENDPOINT).values()
    (summary,) = minute.gauges.values()
    assert (summary.total, summary.count, summary.minimum, summary.maximum) == (30, 2, 10, 20)
    (requests,) = minute.requests.values()
    assert (requests.count, requests.latency_min_us, requests.latency_max_us) == (2, 10_000, 20_000)
    assert sum(requests.latencies_us.values()) == 2


def test_old_minutes_go_and_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    path, now = tmp_path / "metrics.jsonl", time.time()
    store = MetricStore(path)
    for age_min in (200, 30, 0):
        store.gauge(ENDPOINT, "X", (), 1.0, now - age_min * 60)
    store.write_finished(now)
    assert len(store.series(ENDPOINT)) == 2
    with path.open("a") as stream:
        stream.write('{"minute": 3, "resour')
    assert len(MetricStore(path).series(ENDPOINT)) == 1
