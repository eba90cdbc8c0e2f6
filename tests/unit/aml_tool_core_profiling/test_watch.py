"""A demand is given up exactly when no rest of the run could still meet it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from aml_tool_core.profiling import Errors, Histogram, Load, LoadModel, Result
from aml_tool_core.profiling.deployment import Usage
from aml_tool_core.profiling.progress import Counts, Snapshot
from aml_tool_core.profiling.sla import judge
from aml_tool_core.profiling.watch import Watch, watch_of

LOAD = Load(LoadModel.OPEN, 10, 4, 1, 10.0, target_rps=100.0)  # 1000 requests
GOOD = Counts(0, {}, ((1_000, 100),), ((900, 100),))


def watched(sla: dict[str, float], *seconds: Counts, runs: int = 1) -> Watch:
    watch = watch_of(sla, LOAD, runs)
    watch.begin()
    for counts in seconds:
        watch.seen(Snapshot(100.0, 1.0, 0, counts))
    return watch


def counts(**changes: Any) -> Counts:
    return replace(GOOD, **changes)


@pytest.mark.parametrize(
    ("sla", "last_good", "first_lost", "said"),
    [
        ({"latency_ms_99": 50}, counts(latency_us=((60_000, 10),)), counts(latency_us=((60_000, 11),)), "11 answers"),
        ({"latency_ms_50": 50}, counts(latency_us=((60_000, 500),)), counts(latency_us=((60_000, 501),)), "500 may"),
        ({"latency_ms_99": 50}, counts(latency_us=((50_000, 99),)), counts(latency_us=((50_047, 99),)), "took longer"),
        ({"service_time_ms_90": 5}, counts(latency_us=((9_000, 900),)), counts(service_time_us=((9_000, 101),)), "101"),
        ({"latency_ms_99": 50}, counts(latency_us=((60_000, 4),), errors=6), counts(errors=11), "11 requests were not"),
        (
            {"service_time_ms_99": 50},
            counts(errors=10),
            counts(service_time_us=((60_000, 1),), errors=10),
            "10 requests",
        ),
        ({"latency_ms_max": 50}, counts(latency_us=((50_050, 1),)), counts(latency_us=((50_200, 1),)), "was seen"),
        ({"latency_ms_max": 50}, counts(not_2xx={500: 9}), counts(errors=1), "1 requests were not answered in time"),
        ({"latency_ms_mean": 10}, counts(latency_us=((99_000, 101),)), counts(latency_us=((99_000, 102),)), "at least"),
        (
            {"error_percent": 1},
            counts(errors=4, not_2xx={500: 6, 429: 90}),
            counts(errors=5, not_2xx={500: 6}),
            "11 of",
        ),
        ({"refused_percent": 1}, counts(not_2xx={429: 10}, errors=99), counts(not_2xx={429: 11}), "11 of the 1000"),
        ({"requests_per_sec": 99}, counts(errors=10, not_2xx={500: 90}), counts(errors=11), "98.9 is the best"),
        ({"succeeded_per_sec": 99}, counts(errors=4, not_2xx={500: 6}), counts(errors=5, not_2xx={429: 6}), "98.9"),
    ],
)
def test_each_demand_at_its_limit(sla: dict[str, float], last_good: Counts, first_lost: Counts, said: str) -> None:
    assert watched(sla, last_good).lost is None
    lost = watched(sla, first_lost).lost
    assert lost is not None
    (metric,) = sla
    assert lost.startswith(f"{metric} cannot keep to its limit of {sla[metric]:g} any more: ")
    assert said in lost


@pytest.mark.parametrize("percent", ["50", "90", "99", "99.9", "99.99"])
@pytest.mark.parametrize("sent", [998, 1000])
@pytest.mark.parametrize("unanswered", [0, 1, 7])
def test_what_is_lost_is_missed_at_the_end_and_what_is_not_could_be_met(
    percent: str, sent: int, unanswered: int
) -> None:
    """Hold the bound against the judge: the rest of the run being as good as can be."""
    metric = f"latency_ms_{percent}"
    seconds = [counts(latency_us=((9_000, n),), errors=unanswered) for n in range(1001)]
    allowed = next(n for n in range(1001) if watched({metric: 5}, seconds[n]).lost) - 1
    if sent == 1000 and allowed >= 0:
        assert met(metric, sent, allowed, unanswered), "not lost, and met by the best of rests"
    assert not met(metric, sent, allowed + 1, unanswered)


def met(metric: str, sent: int, slow: int, unanswered: int) -> bool:
    answered = sent - unanswered
    histogram = Histogram.of([(9_000, slow), (1_000, answered - slow)])
    result = Result(10.0, sent, answered, answered, Errors(timeout=unanswered, status={}), None, None, histogram)
    (criterion,) = judge({metric: 5.0}, result, Usage(None, ()))
    return criterion.met


def test_what_an_engine_counts_so_far_is_not_counted_twice_and_latencies_add_up() -> None:
    assert watched({"error_percent": 1}, counts(errors=6), counts(errors=6)).lost is None
    slow = counts(errors=2, latency_us=((60_000, 4),))
    assert watched({"error_percent": 1, "latency_ms_99": 50}, slow, slow).lost is None, "8 and 2, which 10 may be"
    lost = str(watched({"error_percent": 1, "latency_ms_99": 50}, slow, slow, slow).lost)
    assert lost.endswith("12 answers took longer, 2 requests were not answered in time, and of the 1000 planned 10 may")


def test_repeated_runs_share_what_is_allowed() -> None:
    watch = watched({"error_percent": 1}, counts(errors=12), runs=2)
    assert watch.lost is None
    watch.begin()
    watch.seen(Snapshot(100.0, 1.0, 0, counts(errors=8)))
    assert watch.lost is None
    watch.seen(Snapshot(100.0, 1.0, 0, counts(errors=9)))
    assert re.search(r"21 of the 2000", str(watch.lost))


def test_what_only_the_end_tells_never_stops_a_run() -> None:
    worst = counts(errors=900, not_2xx={500: 100})
    assert watched({"cpu_percent_max": 0}, worst).lost is None
    watch = watched({"latency_ms_max": 0})
    watch.seen(Snapshot(1.0, 999.0, 9))
    assert watch.lost is None, "an engine that does not tell counts"


@pytest.mark.parametrize(
    ("sla", "change"),
    [
        ({"latency_ms_99": 50}, {"latency": Histogram.of([(1_000, 991), (60_000, 9)])}),
        ({"service_time_ms_99": 50}, {"service_time": Histogram.of([(1_000, 991), (60_000, 9)])}),
        ({"latency_ms_99.0": 50}, {"errors": Errors(connect=2, read=2, write=2, timeout=3, status={500: 90})}),
        ({"error_percent": 0.9}, {"errors": Errors(read=4, status={500: 3, 429: 50}, unknown_status=2)}),
        ({"refused_percent": 0.9}, {"errors": Errors(status={429: 9, 500: 50})}),
    ],
)
def test_a_run_that_was_made_before_counts_like_one_that_was_seen(
    sla: dict[str, float], change: dict[str, Any]
) -> None:
    """Two runs of 1,000 requests may hold 20 that are too slow, or 18 that fail; the first, read from disk, has 9."""
    good = Histogram.of([(1_000, 1000)])
    before = replace(Result(10.0, 1000, 1000, 1000, Errors(), 1, 1, good, service_time=good), **change)
    watch = watch_of(sla, LOAD, 2)
    watch.take(before)
    assert watch.lost is None
    watch.begin()
    bad = {
        "latency_ms_99": counts(latency_us=((60_000, 12),)),
        "latency_ms_99.0": counts(latency_us=((60_000, 12),)),
        "service_time_ms_99": counts(service_time_us=((60_000, 12),)),
        "error_percent": counts(errors=10),
        "refused_percent": counts(not_2xx={429: 10}),
    }[next(iter(sla))]
    watch.seen(Snapshot(100.0, 1.0, 0, bad))
    assert watch.lost is not None
    alone = watched(sla, bad, runs=2)
    assert alone.lost is None, "without the first, it may still be met"
