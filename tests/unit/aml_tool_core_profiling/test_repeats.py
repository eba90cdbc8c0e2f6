"""Repeated runs, taken together and apart."""

from __future__ import annotations

from dataclasses import replace

import pytest
from aml_tool_core.profiling import Errors, Generator, Histogram, Result, Schedule, Second
from aml_tool_core.profiling.repeats import Spread, spreads, together

FIRST = Result(
    duration_sec=2.0,
    sent=100,
    completed=100,
    succeeded=98,
    errors=Errors(read=1, status={429: 2}),
    bytes_read=10,
    bytes_written=20,
    latency=Histogram.of([(1_000, 100)], mean_us=999.5),
    service_time=Histogram.of([(900, 100)]),
    planned=100,
    schedule=Schedule(99.0, 1, 0, 5.0, 1, 0.5, 4.0),
    timeline=(Second(0, 50.0, 0), Second(1, 50.0, 2)),
    generator=Generator(0.2, 10.0, 1.0),
    notes=("same",),
)
SECOND = replace(
    FIRST,
    sent=300,
    completed=300,
    succeeded=300,
    errors=Errors(timeout=4, status={429: 1, 500: 3}),
    latency=Histogram.of([(1_000, 100), (3_000, 200)]),
    planned=302,
    schedule=Schedule(97.0, 9, 2, 8.0, 4, 0.2, 7.0),
    generator=Generator(0.6, 30.0, None),
)


def test_one_run_is_itself() -> None:
    assert together([FIRST]) is FIRST


def test_counts_and_histograms_add_up() -> None:
    whole = together([FIRST, SECOND])
    assert (whole.duration_sec, whole.planned, whole.sent, whole.completed, whole.succeeded) == (
        4.0,
        402,
        400,
        400,
        398,
    )
    assert whole.requests_per_sec == 100
    assert whole.errors == Errors(read=1, timeout=4, status={429: 3, 500: 3})
    assert whole.latency.counts == ((1_000, 200), (3_000, 200))
    assert whole.latency.mean_us == 2_000
    assert whole.service_time is not None and whole.service_time.total == 200
    assert whole.schedule == Schedule(97.5, 10, 2, 8.0, 5, 0.5, 7.0)
    assert [second.t_sec for second in whole.timeline] == [0, 1, 2, 3]
    assert whole.generator == Generator(pytest.approx(0.8), 20.0, None)  # type: ignore[arg-type]
    assert whole.notes == ("same",)


def test_what_one_run_lacks_the_whole_lacks() -> None:
    whole = together([FIRST, replace(SECOND, service_time=None, schedule=None, generator=None, bytes_read=None)])
    assert (whole.service_time, whole.schedule, whole.generator, whole.bytes_read) == (None, None, None, None)


def test_the_spread_is_between_the_runs() -> None:
    found = spreads([FIRST, SECOND, replace(FIRST, completed=120)])
    assert found["requests_per_sec"] == Spread(50.0, 60.0, 150.0)
    assert found["latency_ms_99"].minimum == pytest.approx(1.0)
    assert found["latency_ms_99"].maximum == pytest.approx(3.0, rel=1e-3)
    assert "latency_ms_50" not in spreads([FIRST, replace(FIRST, latency=Histogram.of([]))])
