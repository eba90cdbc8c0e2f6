"""What a run says of its target, and what a search learns from it."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest
from aml_tool_core.profiling import Result, Schedule, Second
from aml_tool_core.profiling import sla as slas
from aml_tool_core.profiling.deployment import Usage
from aml_tool_core.profiling.search import Reading
from aml_tool_core.profiling.standing import Standing, reading, stand, stray

from tests.unit.aml_tool_core_profiling.made_runs import POINT, histogram, load_of, result_of

LOAD = load_of()
SLOW = {"latency_ms_99": 10.0}
FINE = {"latency_ms_99": 40.0}


def judged(result: Result, demands: dict[str, float], objective: str = "succeeded_per_sec") -> tuple[Standing, Reading]:
    criteria = slas.judge(demands, result, Usage(None, ()))
    standing = stand(LOAD, result, criteria, objective)
    return standing, reading(LOAD, result, criteria, standing)


def test_a_run_that_keeps_its_limits_holds_with_its_margin() -> None:
    standing, seen = judged(result_of(), FINE)
    assert standing.feasible
    assert seen.holds is True
    assert seen.margin == pytest.approx(math.log(20 / 40), abs=0.002)
    assert seen.noise >= 0.02
    assert seen.ceiling is None


def test_a_latency_above_its_limit_does_not_hold_and_says_by_how_much() -> None:
    standing, seen = judged(result_of(), SLOW)
    assert standing.usable and not standing.feasible
    assert "latency_ms_99" in standing.misses[0]
    assert seen.holds is False and seen.margin == pytest.approx(math.log(2), abs=0.002)


def test_the_worst_of_several_limits_is_the_margin() -> None:
    _, seen = judged(result_of(), {"latency_ms_50": 11.0, "latency_ms_99": 100.0})
    assert seen.margin == pytest.approx(math.log(10 / 11), abs=0.002)


def test_a_starved_generator_says_nothing_of_a_target_that_does_not_hold() -> None:
    standing, seen = judged(result_of(cpu_percent=97), SLOW)
    assert not standing.usable and not standing.feasible
    assert seen == Reading(None)


def test_what_holds_although_the_generator_was_starved_holds_in_an_open_loop_alone() -> None:
    starved = result_of(cpu_percent=97)
    assert judged(starved, FINE)[1].holds is True, "what the generator lost is in the latency"
    load = load_of(replace(POINT, target_rps=None))
    criteria = slas.judge(FINE, starved, Usage(None, ()))
    assert not stand(load, starved, criteria, "succeeded_per_sec").usable, "it may have sent less than it could"


def test_a_rate_that_was_not_reached_does_not_hold_and_bounds_what_can() -> None:
    standing, seen = judged(result_of(70, 500, seconds_rate=68.0), SLOW)
    assert standing.usable
    assert any("70.00 requests/s were reached" in miss for miss in standing.misses)
    assert seen.holds is False
    assert seen.ceiling == pytest.approx(68)


def test_failures_are_a_miss_that_gives_no_margin() -> None:
    standing, seen = judged(result_of(failed=50), FINE)
    assert any("failed" in miss for miss in standing.misses)
    assert seen.holds is False and seen.margin is None


def test_refusals_are_a_miss_where_good_answers_count() -> None:
    refusing = result_of(refused=50)
    standing, seen = judged(refusing, FINE)
    assert any("refused with 429" in miss for miss in standing.misses)
    assert seen.holds is False
    assert judged(refusing, FINE, "requests_per_sec")[0].feasible
    starved = result_of(refused=50, cpu_percent=97)
    assert judged(starved, FINE)[1].holds is False, "quick refusals keep the load generator busy"


@pytest.mark.parametrize(
    ("metric", "result", "looser", "tighter"),
    [
        ("error_percent", result_of(failed=20), 5.0, 1.9),
        ("refused_percent", result_of(refused=150), 20.0, 14.9),
    ],
)
def test_a_looser_limit_of_ones_own_is_the_limit(metric: str, result: Result, looser: float, tighter: float) -> None:
    assert not judged(result, FINE)[0].feasible, "more than 1 %, which is the limit where none is demanded"
    standing, seen = judged(result, {**FINE, metric: looser})
    assert standing.feasible and seen.holds is True
    standing, seen = judged(result, {**FINE, metric: tighter})
    assert len(standing.misses) == 2 and seen.holds is False
    assert f"more than {tighter:g}%" in standing.misses[0] and f"SLA missed: {metric}" in standing.misses[1]


def lost(count: int, longest_ms: float = 20.0, kind: str = "timeout") -> Result:
    """Return a run of a thousand requests of which so many were never answered, and the others soon."""
    good = result_of(rate=(1000 - count) / 10, p99_ms=longest_ms)
    unanswered: dict[str, Any] = {kind: count}
    return replace(good, sent=1000, planned=1000, errors=replace(good.errors, **unanswered))


@pytest.mark.parametrize("kind", ["timeout", "connect", "read"])
def test_a_looser_limit_counts_for_what_was_never_answered_too(kind: str) -> None:
    median = {"latency_ms_50": 40.0}
    assert not judged(lost(20, kind=kind), median)[0].feasible, "more than 1 %, which is the limit elsewhere"
    standing, seen = judged(lost(20, kind=kind), {**median, "error_percent": 5.0})
    assert standing.feasible and seen.holds is True
    standing, seen = judged(lost(20, kind=kind), {**median, "error_percent": 1.9})
    assert len(standing.misses) == 2 and seen.holds is False
    assert "more than 1.9%" in standing.misses[0] and "SLA missed: error_percent" in standing.misses[1]


def test_a_growing_backlog_is_not_carried_whatever_may_fail() -> None:
    """Senders that wait for what times out send the rest late, or never: that has no failure, and is no answer."""
    hanging = result_of(rate=70)
    hanging = replace(hanging, sent=740, planned=1000, errors=replace(hanging.errors, timeout=40))
    for schedule in (Schedule(60.0, 300, 260, late_busy=300), None):  # wrk2 knows neither
        standing, seen = judged(replace(hanging, schedule=schedule), {"latency_ms_50": 40.0, "error_percent": 10.0})
        assert standing.usable and seen.holds is False
        assert standing.misses[0].startswith("70.00 requests/s were reached, more than 1% below the 100")


def test_a_stricter_limit_of_ones_own_is_the_demands_to_judge() -> None:
    standing, seen = judged(result_of(failed=5), {**FINE, "error_percent": 0.1})
    assert seen.holds is False
    assert standing.misses == ("SLA missed: error_percent is 0.5, more than the 0.1 demanded",)


def test_a_load_whose_percentile_falls_on_what_was_not_answered_does_not_hold() -> None:
    at_most = {"latency_ms_99.5": 40.0}
    assert judged(lost(4), at_most)[1].holds is True
    assert judged(lost(5), at_most)[1].holds is True, "as many as the percentile leaves out"
    standing, seen = judged(lost(6), at_most)
    assert standing.usable and not standing.feasible
    assert standing.misses == (
        "SLA missed: latency_ms_99.5 is not known (6 of 1000 requests were not answered in time, and it falls on one "
        "of them); its limit is 40",
    )
    assert seen == Reading(False), "the answers are all within the limit, so they say nothing of how far it is"


def test_what_was_not_answered_is_at_least_as_far_beyond_the_limit_as_the_slowest_answer() -> None:
    _, seen = judged(lost(6, longest_ms=80.0), {"latency_ms_99.5": 40.0})
    assert seen.holds is False and seen.margin == pytest.approx(math.log(2), abs=0.002)
    assert seen.noise == 0.3


def test_the_noise_of_a_percentile_among_the_lost_is_that_of_one_whose_bound_is_not_known() -> None:
    demands = {"latency_ms_99": 40.0}
    assert judged(lost(0), demands)[1].noise < 0.1
    assert judged(lost(9), demands)[1].noise >= 0.3


def test_the_generators_own_delay_is_not_the_targets_fault() -> None:
    late = replace(result_of(own_delay_ms=5.0), service_time=histogram(14.5, 1000))
    assert judged(late, SLOW)[1] == Reading(None), "it may have taken note of the answers as late as it sent"
    assert judged(late, FINE)[1].holds is True, "what holds all the same holds"
    assert judged(late, {"latency_ms_99": 10.0, "error_percent": 0.1})[1] == Reading(None)


@pytest.mark.parametrize(("sent_ms", "holds"), [(14.9, None), (15.2, False)])
def test_what_took_longer_than_the_limit_from_the_sends_is_the_targets_fault(
    sent_ms: float, holds: bool | None
) -> None:
    """However late the requests were sent, as that explains no more than it was."""
    late = replace(result_of(own_delay_ms=5.0), service_time=histogram(sent_ms, 1000))
    standing, seen = judged(late, SLOW)
    assert seen.holds is holds and standing.usable is (holds is False)
    if holds is False:
        assert "latency_ms_99" in standing.misses[0]
        assert seen.margin == pytest.approx(math.log(2), abs=0.002)


@pytest.mark.parametrize("cpu_percent", [10.0, 97.0])
@pytest.mark.parametrize("sent", [0, 4])
def test_a_target_that_never_answers_misses_however_late_or_busy_the_generator_was(
    sent: int, cpu_percent: float
) -> None:
    """All connections wait for ever, some of them since before the measurement began."""
    hung = replace(
        result_of(rate=0, cpu_percent=cpu_percent),
        sent=sent,
        planned=100,
        errors=replace(result_of().errors, timeout=sent),
        schedule=Schedule(0.0, sent, 100 - sent, late_busy=0, own_delay_ms_99=6.7),
    )
    standing, seen = judged(hung, SLOW)
    assert standing.usable and any("no request succeeded" in miss for miss in standing.misses)
    assert seen.holds is False and seen.margin is None
    few = replace(hung, sent=1, planned=1, schedule=Schedule(100.0, 0, 0, late_busy=0, own_delay_ms_99=6.7))
    assert judged(few, SLOW)[1].holds is None, "three connections had nothing to wait for"


def test_a_machine_that_stood_still_longer_than_the_limit_makes_a_miss_doubtful() -> None:
    held_up = result_of(longest_delay_ms=12.0)
    seen = judged(held_up, SLOW)[1]
    assert seen.holds is False and seen.doubtful
    assert not judged(held_up, FINE)[1].doubtful, "what holds all the same holds"
    assert not judged(result_of(longest_delay_ms=8.0), SLOW)[1].doubtful


def test_a_standstill_excuses_no_overload_and_no_failures() -> None:
    overloaded, failing = result_of(p99_ms=5000.0, longest_delay_ms=12.0), result_of(longest_delay_ms=12.0, failed=500)
    for result in (overloaded, failing):
        seen = judged(result, SLOW)[1]
        assert seen.holds is False and not seen.doubtful


def test_a_demanded_rate_is_no_limit_of_the_load() -> None:
    """A search must not take "too slow a rate" for "too high a load"."""
    standing, seen = judged(result_of(), {**FINE, "succeeded_per_sec": 5000})
    assert not standing.feasible
    assert seen.holds is True


def test_the_noise_is_that_of_the_seconds_where_they_stray_more_than_independent_requests() -> None:
    steady = result_of(rate=1000)
    stray = replace(
        steady,
        timeline=tuple(Second(t, 1000.0, 0, 10_000, 20_000 if t % 2 else 5_000) for t in range(10)),
    )
    assert judged(stray, FINE)[1].noise > 3 * judged(steady, FINE)[1].noise


def test_neighbours_that_resemble_each_other_count_for_fewer() -> None:
    draw = random.Random(1)
    independent = [draw.gauss(0, 1) for _ in range(400)]
    likened = [0.0]
    for one in independent[1:]:
        likened.append(0.6 * likened[-1] + 0.8 * one)
    assert stray(likened) == pytest.approx(2 * stray(independent), rel=0.25)
    assert stray([1.0] * 5) == 0


def test_a_closed_loop_has_no_ceiling() -> None:
    load = load_of(replace(POINT, target_rps=None))
    result = result_of(is_open=False)
    criteria = slas.judge(SLOW, result, Usage(None, ()))
    standing = stand(load, result, criteria, "succeeded_per_sec")
    assert reading(load, result, criteria, standing).ceiling is None
    assert not standing.feasible


def test_nothing_answered_is_a_target_that_does_not_hold() -> None:
    result = replace(result_of(rate=0), sent=100, errors=replace(result_of().errors, connect=100))
    standing, seen = judged(result, FINE)
    assert standing.usable and any("no request succeeded" in miss for miss in standing.misses)
    assert seen.holds is False and seen.margin is None


def test_a_load_of_which_most_requests_wait_for_a_sender_is_not_carried() -> None:
    late = replace(result_of(), schedule=Schedule(39.0, 610, 0, late_busy=600, own_delay_ms_99=0.1))
    for demands in ({}, {"service_time_ms_99": 40.0}, {"error_percent": 1.0}):
        standing, seen = judged(late, demands)
        assert standing.usable and not standing.feasible
        assert standing.misses[0].startswith("600 of 1000 requests were sent late or never, as every client was busy")
        assert seen.holds is False and seen.margin is None
    assert judged(late, FINE)[0].feasible, "what they waited is in the latency, and that keeps its limit"
    assert not judged(late, SLOW)[0].feasible
    few = replace(late, schedule=Schedule(95.0, 50, 0, late_busy=45, own_delay_ms_99=0.1))
    assert judged(few, {})[0].feasible, "the rate was reached"
    own = replace(late, schedule=Schedule(39.0, 610, 0, late_busy=1, own_delay_ms_99=0.1))
    assert judged(own, {})[0].feasible, "what the load generator loses is in the latency"
    unknown = replace(late, schedule=Schedule(39.0, 610, 0))
    assert not judged(unknown, {})[0].feasible


def test_requests_that_were_never_sent_have_no_latency() -> None:
    lost = replace(result_of(), schedule=Schedule(95.0, 0, 20, late_busy=0, own_delay_ms_99=0.1))
    for demands in ({}, FINE):
        standing, seen = judged(lost, demands)
        assert standing.misses[0].startswith("20 of 1000 requests were sent late or never")
        assert seen.holds is False and seen.margin is None
    assert judged(replace(lost, schedule=Schedule(99.9, 0, 1, late_busy=0)), FINE)[0].feasible


def test_a_cpu_that_is_not_known_says_nothing_of_the_load() -> None:
    standing, seen = judged(result_of(), {**FINE, "cpu_percent_max": 80.0})
    assert not standing.usable and not standing.feasible
    assert "cpu_percent_max is not known" in standing.misses[0]
    assert seen == Reading(None)
    standing, seen = judged(result_of(), {**SLOW, "cpu_percent_max": 80.0})
    assert standing.usable and seen.holds is False, "a limit that is missed is missed, whatever else is not known"
