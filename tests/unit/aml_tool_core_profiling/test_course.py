"""Which loads a configuration asks for."""

from __future__ import annotations

import math
from typing import Any

import pytest
from aml_tool_core import InputError
from aml_tool_core.profiling import LoadModel
from aml_tool_core.profiling.course import Plan, Search, Sweep, plan_of
from aml_tool_core.profiling.load import with_defaults
from aml_tool_core.profiling.runs import Purpose

from tests.unit.aml_tool_core_profiling.made_runs import run_of

SCHEMAS = {"clients": "labench_profiler_config", "connections": "wrk_profiler_config"}


def planned(
    config: dict[str, Any], *, key: str = "clients", classes: tuple[str, ...] = (), whole: bool = False
) -> Plan:
    model = LoadModel.OPEN if key == "clients" else LoadModel.CLOSED
    full = with_defaults(config, SCHEMAS[key])
    given = config.get(key)
    connections = given if isinstance(given, int) else 3
    return plan_of(
        full, model, connections, classes, lambda name: f"config.json: /profiler_config/{name}",
        concurrency_key=key, whole_rates=whole,
    )  # fmt: skip


def test_plain_numbers_are_one_load() -> None:
    plan = planned({"clients": 2, "target_rps": 30, "duration_sec": 7})
    assert isinstance(plan, Sweep) and not plan.is_several
    (point,) = plan.points()
    assert (point.connections, point.target_rps, point.duration_sec) == (2, 30.0, 7)


def test_axes_are_a_product_the_last_varying_fastest() -> None:
    plan = planned({"clients": [1, 2], "target_rps": [10, 20]}, classes=("a", "b"))
    assert isinstance(plan, Sweep) and plan.is_several
    points = [(point.connections, point.target_rps, point.payload_class) for point in plan.points()]
    assert points[:5] == [(1, 10, "a"), (1, 10, "b"), (1, 20, "a"), (1, 20, "b"), (2, 10, "a")]
    assert len(points) == 8


def test_a_course_yields_its_points_whatever_comes_of_them() -> None:
    course = planned({"clients": [1, 2]}).course()
    assert next(course).connections == 1
    assert course.send(run_of(1)).connections == 2
    with pytest.raises(StopIteration) as end:
        course.send(run_of(2))
    assert end.value.value is None


def test_an_engine_of_whole_rates_sweeps_whole_rates() -> None:
    plan = planned({"target_rps": {"from": 1, "to": 4, "steps": 3}}, whole=True)
    assert isinstance(plan, Sweep) and plan.axes["target_rps"] == (1, 2, 4)


def test_an_engine_of_whole_rates_refuses_others_before_it_runs() -> None:
    with pytest.raises(InputError, match=r"target_rps: 10\.5: the engine takes whole requests per second only"):
        planned({"target_rps": [10, 10.5]}, whole=True)
    plan = planned({"target_rps": [10, 10.5]})
    assert isinstance(plan, Sweep) and plan.axes["target_rps"] == (10, 10.5)


def test_an_open_loop_searches_the_rate_and_a_closed_one_the_connections() -> None:
    limits = {"search": {"constraints": {"latency_ms_99": 50}}}
    rate, number = planned({"clients": 8, **limits}), planned({"connections": 8, **limits}, key="connections")
    assert isinstance(rate, Search) and isinstance(number, Search)
    assert (rate.axis, rate.question.start, rate.question.whole) == ("target_rps", 50.0, False)
    assert (number.axis, number.question.start, number.question.whole) == ("connections", 8.0, True)
    assert rate.first.connections == 8 and number.first.target_rps is None


def test_a_range_bounds_a_search_that_begins_in_its_middle() -> None:
    plan = planned({"target_rps": {"from": 10, "to": 1000}, "search": {}, "sla": {"latency_ms_99": 50}})
    assert isinstance(plan, Search)
    assert (plan.question.lowest, plan.question.highest) == (10, 1000)
    assert plan.question.start == pytest.approx(100)


def test_a_search_for_a_whole_rate_stays_on_whole_numbers_of_its_range() -> None:
    asked = {"search": {}, "sla": {"latency_ms_99": 50}}
    plan = planned({"target_rps": {"from": 0.2, "to": 3.9}, **asked}, whole=True)
    assert isinstance(plan, Search)
    assert (plan.question.lowest, plan.question.start, plan.question.highest) == (1, 2, 3)
    with pytest.raises(InputError, match=r"target_rps: from 1\.2 to 1\.8: holds no whole number"):
        planned({"target_rps": {"from": 1.2, "to": 1.8}, **asked}, whole=True)


def test_the_limits_are_those_of_the_sla_too() -> None:
    plan = planned({"sla": {"error_percent": 1, "latency_ms_99": 9}, "search": {"constraints": {"latency_ms_99": 5}}})
    assert isinstance(plan, Search) and plan.limits == {"error_percent": 1, "latency_ms_99": 5}


def test_constraints_stand_beside_the_sla_and_do_not_replace_it() -> None:
    plan = planned(
        {
            "sla": {"latency_ms_99": 20, "succeeded_per_sec": 40},
            "search": {"constraints": {"latency_ms_99": 50, "succeeded_per_sec": 30}},
        }
    )
    assert isinstance(plan, Search) and plan.limits == {"latency_ms_99": 20, "succeeded_per_sec": 40}


@pytest.mark.parametrize(
    ("search", "duration_sec", "rate", "expected"),
    [
        ({}, 300, 1000.0, 75),
        ({}, 20, 1000.0, 10),
        ({}, 5, 1000.0, 5),
        ({"probe_sec": 30}, 300, 1000.0, 30),
        ({"constraints": {"cpu_percent_max": 80}}, 300, 1000.0, 120),
        ({"probe_sec": 10}, 300, 10.0, 30),  # 299 requests for p99
        ({"probe_sec": 10}, 20, 1.0, 20),
    ],
)
def test_a_probe_is_as_long_as_its_percentile_needs(
    search: dict[str, Any], duration_sec: int, rate: float, expected: int
) -> None:
    plan = planned(
        {"duration_sec": duration_sec, "target_rps": rate, "search": {"constraints": {"latency_ms_99": 50}, **search}}
    )
    assert plan.first.duration_sec == expected
    assert plan.first.purpose is Purpose.PROBE


def test_a_closed_loops_probe_is_as_long_as_its_percentile_needs_at_the_rate_that_was_seen() -> None:
    """p99.9 needs 2,995 requests."""
    limits = {"latency_ms_99.9": 50.0}
    plan = planned(
        {"connections": 4, "duration_sec": 100, "search": {"constraints": limits, "probe_sec": 10}}, key="connections"
    )
    assert isinstance(plan, Search)
    course = plan.course()
    first = next(course)
    assert (first.connections, first.duration_sec) == (4, 10), "nobody knows the rate yet"
    second = course.send(run_of(1, 100, 20, point=first, demands=limits))
    assert (second.connections, second.duration_sec) == (16, 30), "at least 100/s, as with fewer"
    third = course.send(run_of(2, 200, 900, point=second, demands=limits))
    assert 4 < third.connections < 16 and third.purpose is Purpose.PROBE
    assert third.duration_sec == math.ceil(2995 / (200 * third.connections / 16))
    fourth = course.send(run_of(3, 20, 20, point=third, demands=limits))
    assert fourth.purpose is Purpose.PROBE and fourth.duration_sec == 100, "a full run's length is the most"


@pytest.mark.parametrize(
    ("config", "key", "classes", "said"),
    [
        ({"search": {}}, "clients", (), "search: constraints: missing"),
        ({"search": {}, "sla": {"error_percent": 1}}, "clients", ("a",), "payload_classes: a search is for one kind"),
        ({"search": {}, "sla": {"error_percent": 1}, "clients": [1, 2]}, "clients", (), "clients: a search varies"),
        (
            {"search": {}, "sla": {"error_percent": 1}, "connections": [1, 2]},
            "connections",
            (),
            "a list is for a sweep",
        ),
        ({"connections": {"from": 1, "to": 4}}, "connections", (), "connections: steps: missing"),
        ({"search": {"constraints": {"cpu_percent_max": 80}}, "duration_sec": 100}, "clients", (), "a probe of 100 s"),
        (
            {"search": {"constraints": {"cpu_percent_max": 80}, "probe_sec": 30}, "duration_sec": 300},
            "clients",
            (),
            "search: cpu_percent_max is told by whole clock minutes, and a probe of 30 s",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(
    config: dict[str, Any], key: str, classes: tuple[str, ...], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        planned(config, key=key, classes=classes)
