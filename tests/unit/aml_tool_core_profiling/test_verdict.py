"""Each reason against a run, alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from aml_tool_core.profiling import (
    Errors,
    Generator,
    Histogram,
    Load,
    LoadModel,
    Result,
    Schedule,
    Second,
    SendSchedule,
)
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
        (replace(GOOD, generator=Generator(9, 30.0, 43.0)), "it waited for a core 43 % of the time, more than 20 %"),
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
        replace(GOOD, generator=Generator(9, 30.0, 20.0)),
    ],
)
def test_the_limits_themselves_are_kept(result: Result) -> None:
    assert judge(OPEN, result).valid


@pytest.mark.parametrize(
    ("demands", "count", "said"),
    [
        ({"latency_ms_99.9": 5}, 2_995, None),
        ({"latency_ms_99.9": 5}, 2_994, "2994 requests were measured, too few for latency_ms_99.9, which needs 2995"),
        ({"service_time_ms_99.99": 5}, 2_995, "too few for service_time_ms_99.99, which needs 29956"),
        ({"latency_ms_99.9": 5, "latency_ms_99.99": 5}, 298, "too few for latency_ms_99.99, which needs 29956"),
        ({"latency_ms_50": 5, "latency_ms_99": 5}, 299, None),
        ({"latency_ms_50": 5}, 298, "298 requests were measured, too few for p99, which needs 299"),
        ({"latency_ms_max": 5, "latency_ms_mean": 5, "error_percent": 5}, 299, None),
    ],
)
def test_a_percentile_that_is_demanded_needs_its_requests(
    demands: dict[str, float], count: int, said: str | None
) -> None:
    seen = Histogram.of([(1, count)])
    reasons = judge(OPEN, replace(GOOD, latency=seen, service_time=seen), demands=demands).reasons
    assert len(reasons) == (said is not None)
    assert said is None or (said in reasons[0] and reasons[0].endswith("; let the run last longer"))


def test_more_failures_are_no_reason_where_a_demand_allows_them() -> None:
    failing = replace(GOOD, errors=Errors(status={500: 60}))
    assert not judge(OPEN, failing).valid
    assert judge(OPEN, failing, demands={"error_percent": 2.0}).valid
    (reason,) = judge(OPEN, failing, demands={"error_percent": 1.9}).reasons
    assert reason == "2.0% of the requests failed (status 500: 60), more than 1.9%"
    (reason,) = judge(OPEN, failing, demands={"error_percent": 0.1}).reasons
    assert reason.endswith("more than 1%"), "a stricter demand is the SLA's to miss"


@pytest.mark.parametrize(("most", "lost"), [(5.0, 60), (5.0, 150), (2.0, 60), (1.0, 30)])
@pytest.mark.parametrize("kind", ["timeout", "read", "connect"])
def test_what_is_allowed_to_be_lost_is_no_lower_rate(most: float, lost: int, kind: str) -> None:
    answered = 3000 - lost
    losing = replace(GOOD, completed=answered, succeeded=answered, errors=Errors(status={}, **{kind: lost}))
    assert judge(OPEN, losing, demands={"error_percent": most}).valid
    if lost > 30:  # as many may be lost in any case
        (reason,) = judge(OPEN, losing, demands={"error_percent": lost / 30 - 0.1}).reasons
        assert "of the requests failed" in reason


@pytest.mark.parametrize(
    "result",
    [
        # metronome: of 3,000 due, 100 were never sent, as every connection waited for what timed out.
        replace(GOOD, sent=2900, completed=2800, succeeded=2800, errors=Errors(timeout=100, status={})),
        # wrk2: a few connections that wait are timeouts again and again, and the others are late.
        replace(GOOD, sent=2810, completed=2800, succeeded=2800, errors=Errors(timeout=150, status={})),
        # Answers that came, but too few of them.
        replace(GOOD, sent=2900, completed=2900, succeeded=2800, errors=Errors(status={500: 100})),
    ],
)
def test_a_backlog_is_no_loss_that_a_demand_allows(result: Result) -> None:
    (reason,) = judge(OPEN, result, demands={"error_percent": 10.0}).reasons
    assert f"{result.completed / 30:.2f} requests/s were reached, more than 1% below the 100 asked for" in reason


def test_late_sends_say_how_late_and_what_helps() -> None:
    (reason,) = judge(OPEN, replace(GOOD, schedule=Schedule(98.0, 60, 0, 9.0, 20, 0.35, 4.1))).reasons
    assert "20 late as every connection was busy, 40 by the load generator's own fault" in reason
    assert "; its own delay is 0.35 ms at p99, 4.10 ms at most; give it a core that nothing else uses; " in reason
    assert reason.endswith("latency, from the due time, is an upper bound")


@pytest.mark.parametrize(("busy", "missed"), [(31, 0), (20, 21), (30, 0)])
def test_a_core_is_asked_for_only_where_the_generator_itself_is_most_of_it(busy: int, missed: int) -> None:
    (reason,) = judge(OPEN, replace(GOOD, schedule=Schedule(98.0, 60, missed, 9.0, busy, 0.35, 4.1))).reasons
    assert "core" not in reason
    assert reason.endswith("less than 99.9 %; latency, from the due time, is an upper bound")


def test_where_nobody_knows_whose_fault_it_was_nobody_is_blamed() -> None:
    (reason,) = judge(OPEN, replace(GOOD, schedule=Schedule(98.0, 60, 0))).reasons
    assert reason.endswith("(60 late, 0 never), less than 99.9 %")


@pytest.mark.parametrize("scale", [100, 100_000])
def test_every_reason_is_short(scale: int) -> None:
    late = Schedule(1.234, 9 * scale, 3 * scale, 9.0, scale, 1234.56, 12345.67)
    slow = replace(
        GOOD, sent=3 * scale, completed=3, schedule=late, generator=Generator(99, 40.0, 43.0),
        service_time=Histogram.of([(9_999_999, 3)]),
        errors=Errors(scale, scale, scale, scale, dict.fromkeys((404, 429, 500, 502, 503), scale)),
        latency=Histogram.of([]), stopped_early="error_percent cannot keep to its limit of 0.1 any more",
    )  # fmt: skip
    reasons = judge(replace(OPEN, schedule=SendSchedule.CLOCK, target_rps=99_999.5), slow).reasons
    assert len(reasons) == 7
    assert max(map(len, reasons)) <= 300


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
    reasons = judge(OPEN, replace(slow, errors=Errors(timeout=900, status={}), schedule=Schedule(60.0, 900, 0))).reasons
    assert reasons[0] == (
        "4 connections carry at most 66.7 requests/s at the mean service time of 60.00 ms; 100 requests/s need 7"
    )
    assert len(reasons) == 4, "the cause stands before what follows from it"


def test_a_clock_serves_clients() -> None:
    slow = replace(
        GOOD,
        completed=2000,
        service_time=Histogram.of([(60_000, 2000)]),
        schedule=Schedule(60.0, 9, 0, 9.0, 9, 0.0, 0.0),
    )
    reasons = judge(replace(OPEN, schedule=SendSchedule.CLOCK), slow).reasons
    assert reasons[0].startswith("4 clients carry at most ")
    assert "9 late as every client was busy" in reasons[1]
    assert "connection" not in " ".join(reasons)
    assert judge(replace(OPEN, connections=1), slow).reasons[0].startswith("1 connection carries at most ")


def seconds(*rates: float) -> tuple[Second, ...]:
    return tuple(Second(t_sec, rate, 0) for t_sec, rate in enumerate(rates))


@pytest.mark.parametrize(
    ("timeline", "is_steady"),
    [
        (seconds(300, 300, 237, 237), False),
        (seconds(300, 300, 243, 243), True),
        (seconds(237, 237, 300, 300), False),
        (seconds(100, 100, 0, 100, 100), True),  # the second in the middle belongs to neither half
        (seconds(5, 5, 3, 3), True),  # of so few requests, chance
        (seconds(100), True),
        ((), True),
    ],
)
def test_a_run_whose_halves_differ_says_so(timeline: tuple[Second, ...], is_steady: bool) -> None:
    verdict = judge(CLOSED, replace(GOOD, timeline=timeline))
    said = [note for note in verdict.notes if note.startswith("not steady: ")]
    assert (not said) is is_steady
    assert verdict.valid


def test_the_halves_are_those_of_each_repeated_run() -> None:
    slow, fast = replace(GOOD, timeline=seconds(*[50] * 10)), replace(GOOD, timeline=seconds(*[100] * 10))
    whole = replace(GOOD, timeline=(*slow.timeline, *fast.timeline))
    assert not any("not steady" in note for note in judge(CLOSED, whole, (slow, fast)).notes)
    slowing = replace(GOOD, timeline=seconds(*[100] * 5, *[50] * 5))
    (note,) = [note for note in judge(CLOSED, whole, (fast, slowing)).notes if "not steady" in note]
    assert "100.0 requests/s in the first half of the run, 50.0 in the second" in note


def test_a_generator_that_waits_a_little_is_noted() -> None:
    verdict = judge(OPEN, replace(GOOD, generator=Generator(9, 30.0, 12.0)))
    assert verdict.valid
    assert verdict.notes == (
        "the load generator waited for a core 12 % of the time; a part of the latencies may be that",
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
