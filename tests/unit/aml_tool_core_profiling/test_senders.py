"""Whether it is the load generator's own connections that a search's answer is bound by."""

from __future__ import annotations

from dataclasses import replace

import pytest
from aml_tool_core.profiling import Errors, Result, Schedule
from aml_tool_core.profiling.course import Search
from aml_tool_core.profiling.runs import Run
from aml_tool_core.profiling.search import Finding, Question
from aml_tool_core.profiling.senders import bound_by_senders
from aml_tool_core.profiling.summary import text

from tests.unit.aml_tool_core_profiling.made_runs import POINT, document_of, histogram, result_of, run_of

DEMANDS = {"latency_ms_99": 50.0}
CARRIED = 4 / 0.0102  # four clients, each of which is busy for 10.2 ms in the mean
SAID = (
    "above it requests waited for the load generator's own 4 clients and not for the target: at its service time of "
    "10.20 ms that is 392.2 requests/s at most; more clients may find more"
)


def waited(rate: float, *, latency_ms: float = 400.0, service_ms: float = 10.0, late_busy: int | None = 900) -> Result:
    """Return a run whose requests waited for a client and were then answered at once, or not so soon."""
    result = result_of(rate, latency_ms)
    return replace(
        result,
        service_time=histogram(2 * service_ms, result.latency.total, service_ms),
        schedule=Schedule(10.0, 1000, 0, 300.0, late_busy, 0.05, 0.1),
    )


def held(number: int, rate: float) -> Run:
    return run_of(number, rate, demands=DEMANDS)


def failed(number: int, rate: float, result: Result, demands: dict[str, float] | None = None) -> Run:
    return run_of(number, rate, demands=demands or DEMANDS, result=result)


def test_requests_that_wait_for_a_sender_bound_the_answer_and_not_the_target() -> None:
    runs = [held(1, 100), failed(2, 400, waited(400)), held(3, 380)]
    assert bound_by_senders(runs, 380.0) == SAID
    assert bound_by_senders([failed(1, 400, waited(400))], None) == SAID
    unknown = failed(2, 400, waited(400, late_busy=None))
    assert bound_by_senders([held(1, 380), unknown], 380.0) == SAID


def test_one_sender_is_named_as_one() -> None:
    point = replace(POINT, connections=1, target_rps=100.0)
    runs = [run_of(1, 100, point=point, demands=DEMANDS, result=waited(100))]
    said = bound_by_senders(runs, None)
    assert (
        said is not None
        and "for the load generator's only client and not for" in said
        and said.endswith("more clients may find more")
    )


@pytest.mark.parametrize(
    "result",
    [
        waited(400, service_ms=30.0),  # once sent, they took too long
        waited(400, service_ms=14.0),  # longer than with less load: it is the target that is busy
        waited(400, late_busy=0),  # late by the load generator's own fault
        replace(waited(400), errors=Errors(status={500: 100})),
    ],
    ids=["too slow", "slower", "not busy", "failing"],
)
def test_a_target_at_its_end_is_not_excused(result: Result) -> None:
    runs = [held(1, 100), failed(2, 400, result)]
    assert runs[1].standing.usable and not runs[1].standing.feasible
    assert bound_by_senders(runs, 100.0) is None


def test_another_demand_that_is_missed_is_the_targets() -> None:
    demands = {**DEMANDS, "error_percent": 0.1}
    failing = replace(waited(400), errors=Errors(status={500: 20}))
    assert bound_by_senders([held(1, 100), failed(2, 400, failing, demands)], 100.0) is None


def test_the_run_that_failed_nearest_above_the_answer_tells() -> None:
    slow = waited(300, service_ms=30.0)
    runs = [held(1, 100), failed(2, 90, waited(90)), failed(3, 300, slow), failed(4, 600, waited(600))]
    assert bound_by_senders(runs, 100.0) is None
    assert bound_by_senders(runs[:2], 100.0) is None, "nothing failed above it"
    assert bound_by_senders([*runs[:2], runs[3]], 100.0) == SAID


def test_an_engine_that_tells_no_service_time_tells_nothing_of_it() -> None:
    runs = [failed(1, 400, replace(waited(400), service_time=None))]
    assert bound_by_senders(runs, None) is None


def found(carried: float) -> tuple[Search, list[Run], Finding]:
    """Search with four clients in front of a target that is never slow, or slow beyond a load that they carry."""
    question = Question(start=50.0, whole=False, max_runs=12, precision=0.04)
    plan = Search(POINT, "succeeded_per_sec", "target_rps", DEMANDS, question, probe_sec=10)
    course, runs = plan.course(), list[Run]()
    point = next(course)
    try:
        while True:
            rate = point.target_rps or 0.0
            result = result_of(rate, 20.0)
            if rate > carried:
                result = waited(rate, service_ms=100.0)
            elif rate > CARRIED:
                result = waited(rate)
            runs.append(run_of(len(runs) + 1, rate, point=point, demands=DEMANDS, result=result))
            point = course.send(runs[-1])
    except StopIteration as end:
        return plan, runs, end.value


def test_a_search_says_so_in_its_reason_and_on_the_terminal() -> None:
    plan, runs, finding = found(carried=1e9)
    assert finding.load is not None and 0.9 * CARRIED < finding.load <= CARRIED
    assert (
        "; above it requests waited for the load generator's own 4 clients and not for the target: " in finding.reason
    )
    document = document_of(plan, runs, finding)
    assert document["search"]["reason"] == finding.reason
    assert f"stopped: {finding.reason}" in "\n".join(text(document))


def test_a_search_that_ends_at_the_target_says_nothing_of_senders() -> None:
    _, _, finding = found(carried=250.0)
    assert finding.load is not None and finding.load <= 250
    assert "waited for" not in finding.reason
