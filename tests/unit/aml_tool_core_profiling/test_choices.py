"""The best run, the Pareto front and the knee."""

from __future__ import annotations

from dataclasses import replace

import pytest
from aml_tool_core.profiling import Histogram, Result, Schedule
from aml_tool_core.profiling.choices import best_of, choices, front, knee, nearest_miss, score
from aml_tool_core.profiling.runs import Run

from tests.unit.aml_tool_core_profiling.made_runs import POINT, result_of, run_of

# Rate and p99 of a queue: flat, a bend at 700, steep.
CURVE = [(100, 10), (200, 10.5), (400, 12), (600, 16), (700, 20), (760, 60), (790, 200)]


def numbers(runs: tuple[Run, ...]) -> list[int]:
    return [run.number for run in runs]


def curve() -> list[Run]:
    return [run_of(number, rate, p99_ms) for number, (rate, p99_ms) in enumerate(CURVE, 1)]


def test_the_front_is_what_no_other_beats() -> None:
    runs = [run_of(1, 100, 10), run_of(2, 200, 30), run_of(3, 150, 40), run_of(4, 50, 12), run_of(5, 200, 30)]
    assert numbers(front(runs)) == [1, 2], "slower and later is beaten; of equals the first stands"


def test_failures_are_a_dimension_of_the_front() -> None:
    clean, quick = run_of(1, 100, 20), run_of(2, 150, 10, result=result_of(151, 10, failed=10))
    assert numbers(front([clean, quick])) == [1, 2]
    assert numbers(front([clean, run_of(2, 150, 10)])) == [2]


def test_a_run_that_says_nothing_is_on_no_front() -> None:
    starved = run_of(1, 200, 50, demands={"latency_ms_99": 30}, result=result_of(200, 50, cpu_percent=99))
    assert not starved.standing.usable
    assert numbers(front([starved, run_of(2, 100, 20)])) == [2]
    assert best_of([starved], "succeeded_per_sec") is None


def test_the_knee_is_where_the_curve_bends() -> None:
    found = knee(curve())
    assert found is not None
    assert found.run.number == 5
    assert found.depth == pytest.approx((700 - 100) / 690 - (20 - 10) / 190, abs=1e-3)


@pytest.mark.parametrize(
    "points", [[(100, 10), (200, 20)], [(100, 10), (200, 20), (300, 30), (400, 40)], [(100, 10), (200, 40), (300, 45)]]
)
def test_there_is_no_knee_on_two_points_a_line_or_a_curve_that_flattens(points: list[tuple[float, float]]) -> None:
    assert knee([run_of(number, *point) for number, point in enumerate(points, 1)]) is None


@pytest.mark.parametrize(
    "points",
    [
        [(569, 54.99), (749, 55.11), (1479, 59.31)],  # a bend by a fifth, which costs 4 ms
        [(569, 20.0), (749, 20.2), (1479, 24.9)],
    ],
)
def test_there_is_no_knee_where_p99_hardly_rises(points: list[tuple[float, float]]) -> None:
    assert knee([run_of(number, *point) for number, point in enumerate(points, 1)]) is None
    steep = [*points[:2], (points[2][0], 1.5 * points[0][1])]
    assert knee([run_of(number, *point) for number, point in enumerate(steep, 1)]) is not None


def test_there_is_no_knee_where_the_ends_intervals_overlap() -> None:
    def run(number: int, rate: float, p99_ms: float, slowest_ms: float) -> Run:
        base = result_of(rate)
        count = base.completed
        slow = round(0.012 * count)  # just enough for p99 to be one of them; its interval has others too
        seen = Histogram.of([(10_000, count - slow), (round(1000 * p99_ms), slow - 6), (round(1000 * slowest_ms), 6)])
        return run_of(number, rate, result=replace(base, latency=seen))

    runs = [run(1, 100, 12, 90), run(2, 110, 12.2, 90), run(3, 120, 16, 90)]
    first, last = (one.result.latency.percentile(99.0) for one in (runs[0], runs[-1]))
    assert last.value_us > 1.25 * first.value_us
    assert first.upper_us is not None and last.lower_us is not None and last.lower_us < first.upper_us
    assert knee(runs) is None
    sure = [run_of(number, rate, p99_ms) for number, rate, p99_ms in [(1, 100, 12), (2, 110, 12.2), (3, 120, 16)]]
    assert knee(sure) is not None


def test_an_overloaded_run_that_answers_less_does_not_bend_the_curve() -> None:
    found = knee([*curve(), run_of(8, 650, 9000)])
    assert found is not None and found.run.number == 5


@pytest.mark.parametrize(
    ("objective", "best"),
    [("succeeded_per_sec", 5), ("requests_per_sec", 5), ("latency_ms_99", 1), ("latency_ms_50", 1)],
)
def test_the_best_keeps_every_demand(objective: str, best: int) -> None:
    runs = [run_of(n, rate, p99, demands={"latency_ms_99": 25}) for n, (rate, p99) in enumerate(CURVE, 1)]
    found = best_of(runs, objective)
    assert found is not None and found.number == best


@pytest.mark.parametrize("rates", [(100.0, 99.7, 99.9), (99.7, 100.0, 100.2)])
def test_of_equals_the_best_has_the_lower_p99_then_fewer_connections_and_is_on_the_front(
    rates: tuple[float, ...],
) -> None:
    def run(number: int, connections: int, rate: float, p99_ms: float) -> Run:
        at = replace(POINT, connections=connections, target_rps=100.0)
        return run_of(number, rate, p99_ms, point=at)

    runs = [run(1, 8, rates[0], 20.9), run(2, 4, rates[1], 9.7), run(3, 2, rates[2], 30)]
    found = choices(runs, "succeeded_per_sec")[0]
    assert found.best is runs[1] and numbers(found.front) == [2]
    alike = [run(1, 8, rates[0], 20), run(2, 4, rates[1], 20), run(3, 6, rates[2], 20)]
    found = choices(alike, "succeeded_per_sec")[0]
    assert found.best is alike[1]


def test_failures_are_no_rounding() -> None:
    clean, failing = run_of(1, 100, 20), run_of(2, 100, 10, result=result_of(100, 10, failed=9))
    assert failing.standing.feasible
    assert best_of([failing, clean], "succeeded_per_sec") is clean
    assert best_of([failing, clean], "requests_per_sec") is failing


def test_the_front_is_of_runs_that_hold_where_any_does() -> None:
    runs = [run_of(1, 100, 10, demands={"latency_ms_99": 15}), run_of(2, 200, 20, demands={"latency_ms_99": 15})]
    assert numbers(front(runs)) == [1]
    assert numbers(front(runs[1:])) == [2], "for want of a better one"


def test_cost_is_to_be_low_and_what_is_not_known_is_not_best() -> None:
    runs = [run_of(1, 100, 10), run_of(2, 200, 20, cost=3.0), run_of(3, 300, 30, cost=2.0)]
    found = best_of(runs, "core_hour_per_million_requests")
    assert found is not None and found.number == 3
    assert best_of(runs[:1], "core_hour_per_million_requests") is None


def losing(count: int) -> Result:
    """Return a run whose answers are quick, as it lost some of its thousand requests."""
    good = result_of(rate=(1000 - count) / 10, p99_ms=11)
    return replace(good, sent=1000, planned=1000, errors=replace(good.errors, timeout=count))


def test_a_run_does_not_rank_by_the_answers_that_its_lost_requests_made_room_for() -> None:
    demands = {"error_percent": 10.0}
    runs = [run_of(n, demands=demands, result=one) for n, one in enumerate((losing(20), result_of(p99_ms=20)), 1)]
    assert all(run.standing.feasible and run.verdict.valid for run in runs)
    for objective, best in (("latency_ms_99", 2), ("latency_ms_max", 2), ("latency_ms_50", 1)):
        found = best_of(runs, objective)
        assert found is not None and found.number == best
        assert score(runs[0], objective) == (None if best == 2 else pytest.approx(10, abs=0.1))
    assert best_of(runs[:1], "latency_ms_99") is None, "it is that of a request that was not answered"
    few = run_of(1, demands=demands, result=losing(5))
    assert score(few, "latency_ms_98.4") == pytest.approx(11, abs=0.1), "the 985th of 995 answers and 5 losses"


def test_the_nearest_miss_is_the_least_above_its_limit() -> None:
    runs = [run_of(n, rate, p99, demands={"latency_ms_99": 5}) for n, (rate, p99) in enumerate(CURVE, 1)]
    assert best_of(runs, "succeeded_per_sec") is None
    found = nearest_miss(list(reversed(runs)))
    assert found is not None and found.number == 1


def test_classes_are_not_held_against_each_other() -> None:
    small, large = replace(POINT, payload_class="small"), replace(POINT, payload_class="large")
    runs = [run_of(1, 100, 10, point=small), run_of(2, 100, 90, point=large)]
    found = choices(runs, "succeeded_per_sec")
    assert [one.payload_class for one in found] == ["small", "large"]
    assert [numbers(one.front) for one in found] == [[1], [2]]
    assert [one.best.number for one in found if one.best] == [1, 2]
    assert found[0].better == "higher"
    assert choices(runs, "latency_ms_99")[0].better == "lower"


def test_a_valid_run_is_better_than_one_that_may_not_be_believed() -> None:
    late = replace(result_of(200, 20), schedule=Schedule(95.0, 100, 0, late_busy=0))
    runs = [run_of(1, 100, 20), run_of(2, 200, result=late)]
    assert runs[1].standing.feasible and not runs[1].verdict.valid
    best = best_of(runs, "succeeded_per_sec")
    assert best is not None and best.number == 1
    best = best_of(runs[1:], "succeeded_per_sec")
    assert best is not None and best.number == 2
