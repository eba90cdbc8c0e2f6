"""Each demand that an SLA can make, kept and missed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from aml_tool_core import InputError
from aml_tool_core.documents import validate
from aml_tool_core.profiling import Errors, Histogram, Result
from aml_tool_core.profiling.deployment import Usage
from aml_tool_core.profiling.sla import judge, latency_value_ms, stricter

RESULT = Result(
    duration_sec=10.0,
    sent=1000,
    completed=990,
    succeeded=960,
    errors=Errors(read=10, status={429: 20, 500: 10}),
    bytes_read=1,
    bytes_written=1,
    latency=Histogram.of([(1_000, 950), (10_000, 40)]),
    service_time=Histogram.of([(500, 990)]),
)
ANSWERED = replace(RESULT, errors=Errors(status={429: 20, 500: 10}))  # all of what was sent
NO_USAGE = Usage(None, ("the run covers no whole minute",))
CPU = Usage({"CpuUtilizationPercentage": {"maximum": 71.5}}, ())


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("latency_ms_50", 1.0),
        ("latency_ms_99.5", 10.0),
        ("latency_ms_max", 10.0),
        ("latency_ms_mean", (950 + 400) / 990),
        ("service_time_ms_99", 0.5),
        ("requests_per_sec", 99.0),
        ("succeeded_per_sec", 96.0),
        ("error_percent", 2.0),
        ("refused_percent", 2.0),
        ("cpu_percent_max", 71.5),
    ],
)
def test_each_metric(metric: str, value: float) -> None:
    validate({"version": 1.0, "profiler_config": {"sla": {metric: value}}}, "wrk_profiler_config", "c.json")
    at_least = metric.endswith("_per_sec")
    result = ANSWERED if metric.startswith("latency_ms_") else RESULT
    (measured,) = judge({metric: value}, result, CPU)
    assert measured.value == pytest.approx(value, rel=1e-2)
    (easy,) = judge({metric: value * (0.9 if at_least else 1.1)}, result, CPU)
    (hard,) = judge({metric: value * (1.1 if at_least else 0.9)}, result, CPU)
    assert (easy.met, hard.met) == (True, False)
    assert hard.miss.startswith(f"SLA missed: {metric} is ")
    assert ("less than the" if at_least else "more than the") in hard.miss


def test_the_limit_itself_is_met() -> None:
    assert all(criterion.met for criterion in judge({"error_percent": 2.0, "requests_per_sec": 99.0}, RESULT, NO_USAGE))


def test_what_is_not_known_is_a_miss() -> None:
    nothing = Result(10.0, 5, 0, 0, Errors(timeout=5, status={}), 0, 0, Histogram.of([]))
    latency, cpu = judge({"latency_ms_99": 100, "cpu_percent_max": 80}, nothing, NO_USAGE)
    assert not latency.met and not cpu.met
    assert latency.miss == (
        "SLA missed: latency_ms_99 is not known (5 of 5 requests were not answered in time); its limit is 100"
    )
    (never,) = judge({"latency_ms_99": 100}, Result(10.0, 0, 0, 0, Errors(status={}), 0, 0, Histogram.of([])), NO_USAGE)
    assert never.miss == "SLA missed: latency_ms_99 is not known; its limit is 100"


def with_unanswered(count: int, errors: Errors) -> Result:
    """Return a run of so many requests, which were answered at once but for the errors."""
    good = count - errors.unanswered
    answered = Histogram.of([(1_000, good)])
    return Result(10.0, count, good, good, errors, 0, 0, answered, answered)


@pytest.mark.parametrize("metric", ["latency_ms_99.9", "service_time_ms_99.9"])
@pytest.mark.parametrize(
    ("errors", "is_met"),
    [
        (Errors(timeout=10, status={}), True),
        (Errors(timeout=11, status={}), False),
        (Errors(connect=3, read=3, write=3, timeout=1, status={}), True),
        (Errors(connect=3, read=3, write=3, timeout=2, status={}), False),
        (Errors(timeout=90, status={}), False),
        (Errors(status={500: 90, 429: 900}), True),
    ],
)
def test_who_is_not_answered_in_time_waits_longer_than_all_who_are(metric: str, errors: Errors, is_met: bool) -> None:
    (criterion,) = judge({metric: 100}, with_unanswered(10_000, errors), NO_USAGE)
    assert criterion.met is is_met
    assert criterion.value == (1.0 if is_met else None)
    if not is_met:
        assert criterion.miss == (
            f"SLA missed: {metric} is not known ({errors.unanswered} of 10000 requests were not answered in time, and "
            "it falls on one of them); its limit is 100"
        )


def test_the_percentile_moves_up_among_the_answers() -> None:
    """Of 10,000 requests 80 take long and 30 are lost: the 9,900th is one of the long ones."""
    result = with_unanswered(10_000, Errors(timeout=30, status={}))
    slow = Histogram.of([(1_000, 9_890), (50_000, 80)])
    (criterion,) = judge({"latency_ms_99": 20}, replace(result, latency=slow), NO_USAGE)
    assert criterion.value == pytest.approx(50, rel=1e-3) and not criterion.met
    assert latency_value_ms("latency_ms_99", replace(result, latency=slow)) == criterion.value, "what ranks is the same"
    assert latency_value_ms("latency_ms_99.9", replace(result, latency=slow)) is None


def test_one_that_is_not_answered_is_the_longest_and_no_part_of_the_mean() -> None:
    result = with_unanswered(10_000, Errors(read=1, status={}))
    longest, mean, median = judge({"latency_ms_max": 9, "latency_ms_mean": 9, "latency_ms_50": 9}, result, NO_USAGE)
    assert (longest.value, longest.met) == (None, False)
    assert longest.reason == "1 of 10000 requests were not answered in time, and it falls on one of them"
    assert (mean.value, median.value) == (1.0, 1.0)


@pytest.mark.parametrize(("metric", "enough"), [("latency_ms_99", 299), ("service_time_ms_99.9", 2_995)])
def test_a_percentile_says_whether_there_were_enough_requests_for_it(metric: str, enough: int) -> None:
    for lost in (0, 1):
        errors = Errors(timeout=lost, status={})
        (few,) = judge({metric: 9}, with_unanswered(enough - 1, errors), NO_USAGE)
        (many,) = judge({metric: 9}, with_unanswered(enough, errors), NO_USAGE)
        assert (few.certified, many.certified) == (False, True)
        assert few.met and many.met


def test_what_is_no_percentile_needs_no_certificate() -> None:
    demands = {"latency_ms_mean": 1, "latency_ms_max": 1, "error_percent": 1, "requests_per_sec": 1}
    assert {one.certified for one in judge(demands, RESULT, NO_USAGE)} == {None}


def test_where_nothing_was_sent_the_share_of_failures_is_not_known() -> None:
    nothing = Result(10.0, 0, 0, 0, Errors(status={}), 0, 0, Histogram.of([]))
    failures, refusals = judge({"error_percent": 1, "refused_percent": 1}, nothing, NO_USAGE)
    assert (failures.value, failures.met, refusals.value, refusals.met) == (None, False, None, False)
    assert failures.miss == "SLA missed: error_percent is not known (nothing was sent); its limit is 1"


def test_connections_that_could_not_be_made_count_as_requests_that_were_tried() -> None:
    nobody = Result(10.0, 0, 0, 0, Errors(connect=48, status={}), 0, 0, Histogram.of([]))
    few = Result(10.0, 1, 1, 1, Errors(connect=48, status={}), 0, 0, Histogram.of([(1, 1)]))
    assert [one.value for one in judge({"error_percent": 1}, nobody, NO_USAGE)] == [100.0]
    assert [one.value for one in judge({"error_percent": 1}, few, NO_USAGE)] == [pytest.approx(100 * 48 / 49)]


def test_the_cpu_of_minutes_that_are_only_touched_is_not_known() -> None:
    touched = Usage({"CpuUtilizationPercentage": {"maximum": 1.0}}, ("the run covers no whole minute",), False)
    (cpu,) = judge({"cpu_percent_max": 80}, RESULT, touched)
    assert (cpu.value, cpu.met) == (None, False)
    assert cpu.miss == (
        "SLA missed: cpu_percent_max is not known (the run covers no whole clock minute, so other traffic is in the "
        "minutes' figures); its limit is 80"
    )


def test_why_there_is_no_cpu_is_said() -> None:
    (cpu,) = judge({"cpu_percent_max": 80}, RESULT, Usage(None, ("Azure answered 403",)))
    assert cpu.miss == "SLA missed: cpu_percent_max is not known (Azure answered 403); its limit is 80"


def test_in_a_closed_loop_the_service_time_is_the_latency() -> None:
    closed = Result(10.0, 5, 5, 5, Errors(status={}), 0, 0, Histogram.of([(700, 5)]))
    assert judge({"service_time_ms_50": 1}, closed, NO_USAGE)[0].value == 0.7


@pytest.mark.parametrize(
    "sla", [{}, {"p99": 1}, {"latency_ms_0": 1}, {"latency_ms_100": 1}, {"latency_ms_99.": 1}, {"latency_ms_99": "1"}]
)
def test_a_demand_that_is_none_is_refused(sla: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="/profiler_config/sla"):
        validate({"version": 1.0, "profiler_config": {"sla": sla}}, "labench_profiler_config", "c.json")


def test_of_two_limits_the_stricter_one_holds() -> None:
    sla = {"latency_ms_99": 20.0, "succeeded_per_sec": 40.0, "error_percent": 1.0}
    more = {"latency_ms_99": 50.0, "succeeded_per_sec": 50.0, "latency_ms_mean": 5.0}
    expected = {"latency_ms_99": 20.0, "succeeded_per_sec": 50.0, "error_percent": 1.0, "latency_ms_mean": 5.0}
    assert stricter(sla, more) == stricter(more, sla) == expected
    assert stricter() == {} and stricter(sla) == sla
