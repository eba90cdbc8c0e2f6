"""Each reason against a run, alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from aml_tool_core.profiling import Errors, Generator, Histogram, Load, LoadModel, Result, Schedule
from aml_tool_core.profiling.cost import Cost, cost_of
from aml_tool_core.profiling.target import Target
from aml_tool_core.profiling.verdict import clients_needed, judge

OPEN = Load(LoadModel.OPEN, 30, 4, 1, 10.0, target_rps=100.0)
CLOSED = Load(LoadModel.CLOSED, 30, 4, 1, 10.0)
GOOD = Result(
    duration_sec=30.0,
    sent=3000,
    completed=3000,
    succeeded=3000,
    errors=Errors(status={}),
    bytes_read=1,
    bytes_written=1,
    latency=Histogram.of([(5_000, 3000)]),
    service_time=Histogram.of([(5_000, 3000)]),
    planned=3000,
    schedule=Schedule(100.0, 0, 0, 0.1),
    generator=Generator(3.0, 10.0),
)


def test_nothing_speaks_against_a_good_run() -> None:
    verdict = judge(OPEN, GOOD)
    assert verdict.valid
    assert verdict.notes == ()


def test_a_closed_loop_is_explained() -> None:
    assert judge(CLOSED, GOOD).notes[0].startswith("closed loop: ")


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (replace(GOOD, schedule=Schedule(99.8, 6, 0)), "99.80 % of the requests were sent on time (6 late, 0 never)"),
        (replace(GOOD, completed=2960), "98.67 requests/s were reached, more than 1% below the 100 asked for"),
        (
            replace(GOOD, errors=Errors(read=1, timeout=30, status={})),
            "1.0% of the requests failed (read: 1, timeout: 30)",
        ),
        (replace(GOOD, generator=Generator(29, 96.6)), "its 1 thread(s) ran 97 % of the time and waited"),
        (
            replace(GOOD, latency=Histogram.of([(1, 298)])),
            "298 requests were measured, too few for p99, which needs 299",
        ),
        (replace(GOOD, succeeded=0, errors=Errors(status={401: 3000})), "no request succeeded (status 401: 3000)"),
    ],
)
def test_each_rule_gives_its_reason_with_figures(result: Result, said: str) -> None:
    verdict = judge(OPEN, result)
    assert len(verdict.reasons) == 1
    assert said in verdict.reasons[0]


@pytest.mark.parametrize(
    "result",
    [
        replace(GOOD, schedule=Schedule(99.9, 3, 0)),
        replace(GOOD, completed=2970),
        replace(GOOD, errors=Errors(timeout=30, status={})),
        replace(GOOD, errors=Errors(status={429: 1500})),
        replace(GOOD, latency=Histogram.of([(1, 299)])),
    ],
)
def test_the_limits_themselves_are_kept(result: Result) -> None:
    assert judge(OPEN, result).valid


def test_late_sends_say_how_late_and_what_helps() -> None:
    (reason,) = judge(OPEN, replace(GOOD, schedule=Schedule(98.0, 60, 0, 9.0, 20, 0.35, 4.1))).reasons
    assert "20 late because every connection was busy, 40 by the load generator's own fault" in reason
    assert "itself delayed 99 % of the sends by no more than 0.35 ms, the worst by 4.10 ms" in reason
    assert reason.endswith("give it a core that nothing else uses, or run it on another machine than what it loads")


def test_a_generator_that_was_not_late_is_told_nothing() -> None:
    (reason,) = judge(OPEN, replace(GOOD, schedule=Schedule(98.0, 60, 0, 9.0, 60, 0.01, 0.09))).reasons
    assert reason.endswith("less than 99.9 %")


def test_a_run_that_was_stopped_is_not_valid() -> None:
    (reason,) = judge(OPEN, replace(GOOD, stopped_early="too slow")).reasons
    assert reason == "stopped early, after 30.0 s, as abort_on_fail asks: too slow"


def test_refusals_by_concurrency_are_noted() -> None:
    notes = judge(OPEN, replace(GOOD, errors=Errors(status={429: 150}))).notes
    assert notes[0].startswith("150 requests (5.0%) were refused with 429")


def test_too_few_connections_are_named_with_the_number_that_would_do() -> None:
    slow = replace(GOOD, completed=2000, service_time=Histogram.of([(60_000, 2000)]))
    reasons = judge(OPEN, slow).reasons
    assert reasons[-1] == (
        "4 connections carry at most 66.7 requests/s at the mean service time of 60.00 ms; 100 requests/s need 7"
    )


def test_enough_connections_are_not_blamed() -> None:
    assert len(judge(OPEN, replace(GOOD, completed=2000)).reasons) == 1


@pytest.mark.parametrize(("rps", "sec", "needed"), [(100, 0.06, 7), (100, 0.05, 6), (1, 0.001, 1)])
def test_little(rps: float, sec: float, needed: int) -> None:
    assert clients_needed(rps, sec) == needed


TARGET = Target("http://a/", sku="Standard_F8s_v2", location="eastus", instance_count=2)


def test_cost_by_its_formula() -> None:
    assert cost_of(TARGET, 8, None, 50.0) == Cost(8, 8 * 2 * 1e6 / (50 * 3600))


@pytest.mark.parametrize(
    ("target", "vcpus", "rate", "reason"),
    [
        (replace(TARGET, sku=None, location=None), None, 50.0, "sku, location of the scoring target not known"),
        (TARGET, None, 50.0, "asked in vain"),
        (TARGET, 8, 0.0, "no request succeeded"),
    ],
)
def test_a_missing_part_of_the_cost_is_named(target: Target, vcpus: int | None, rate: float, reason: str) -> None:
    cost = cost_of(target, vcpus, "asked in vain", rate)
    assert cost.core_hour_per_million_requests is None
    assert cost.reason == reason
