"""Goals, the Pareto frontier and the ranking are worked out from the measurements."""

from __future__ import annotations

from typing import Any

import pytest
from aml_olive_optimizer import footprints
from aml_olive_optimizer.footprints import Candidate, Goal, candidates, chosen, goals, nearest_miss, parse, ranked
from hypothesis import given
from hypothesis import strategies as st

BASELINE = {"accuracy": 0.98, "latency": 10.0}


def node(parent: str | None, values: dict[str, float] | None, *, failed: bool = False) -> dict[str, Any]:
    priorities = {"accuracy": (1, True), "latency": (2, False), "size": (-1, False)}
    metrics = {
        name: {"value": value, "priority": priorities[name][0], "higher_is_better": priorities[name][1]}
        for name, value in (values or {}).items()
    }
    return {
        "parent_model_id": parent,
        "model_config": {"is_pruned": True} if failed else {"type": "ONNXModel", "config": {}} if parent else None,
        "from_pass": "tuning" if parent else None,
        "pass_run_config": {"a": 1} if parent else None,
        "metrics": {"value": metrics, "cmp_direction": None, "if_goals_met": False} if metrics else None,
        "start_time": 10.0,
        "end_time": 12.5,
    }


def found(points: dict[str, tuple[float, float]], wanted: dict[str, Goal] | None = None) -> list[Candidate]:
    document = {"input": node(None, BASELINE), "converted": node("input", None)}
    for name, (accuracy, latency) in points.items():
        document[name] = node("converted", {"accuracy": accuracy, "latency": latency})
    return candidates(parse("cpu-cpu", document), wanted or {})


def names(some: list[Candidate]) -> list[str]:
    return [candidate.node.model_id for candidate in some]


@pytest.mark.parametrize(
    ("goal", "baseline", "higher", "expected"),
    [
        (Goal("threshold", 0.9), None, True, 0.9),
        (Goal("max-degradation", 0.01), 0.98, True, 0.97),
        (Goal("max-degradation", 1.0), 10.0, False, 11.0),
        (Goal("min-improvement", 0.01), 0.98, True, 0.99),
        (Goal("min-improvement", 1.0), 10.0, False, 9.0),
        (Goal("percent-max-degradation", 10), 0.9, True, 0.81),
        (Goal("percent-max-degradation", 10), 10.0, False, 11.0),
        (Goal("percent-min-improvement", 20), 10.0, False, 8.0),
        (Goal("percent-min-improvement", 10), 0.5, True, 0.55),
        (Goal("max-degradation", 0.01), None, True, None),
    ],
)
def test_goals_are_relative_to_the_input_model(
    goal: Goal, baseline: float | None, higher: bool, expected: float | None
) -> None:
    assert goal.threshold(baseline, higher) == pytest.approx(expected)


def test_only_measured_models_of_passes_are_candidates() -> None:
    document = {
        "input": node(None, BASELINE),
        "converted": node("input", None),
        "good": node("converted", {"accuracy": 0.98, "latency": 5.0}),
        "failed": node("converted", None, failed=True),
    }
    footprint = parse("cpu-cpu", document)
    assert names(candidates(footprint, {})) == ["good"]
    assert [one.model_id for one in footprint.chain("good")] == ["good", "converted", "input"]
    assert footprint.nodes["good"].duration_sec == 2.5
    assert footprint.input_metrics["latency"].value == 10.0


def test_only_onnx_models_are_candidates() -> None:
    pytorch = {**node("input", {"accuracy": 0.98, "latency": 5.0}), "model_config": {"type": "HfModel", "config": {}}}
    footprint = parse("cpu-cpu", {"input": node(None, BASELINE), "pruned": pytorch})
    assert candidates(footprint, {}) == candidates(footprint, {}, evaluated=False) == []
    assert footprints.other_forms(footprint) == ["HfModel"]
    assert footprints.other_forms(parse("cpu-cpu", {"a": node("b", None), "c": node("b", None, failed=True)})) == []


def test_thresholds_alone_are_goals_too() -> None:
    wanted = {"latency": Goal("threshold", 6.0)}
    result = found({"slow": (0.98, 7.0), "fast": (0.90, 5.0)}, wanted)
    assert [candidate.meets_goals for candidate in result] == [False, True]
    assert names(chosen(result, 5)) == ["fast"]


def test_the_frontier_is_of_those_that_meet_their_goals() -> None:
    wanted = {"accuracy": Goal("max-degradation", 0.01)}
    result = found({"a": (0.98, 5.0), "b": (0.975, 4.0), "dominated": (0.975, 6.0), "bad": (0.5, 1.0)}, wanted)
    assert names([one for one in result if one.on_frontier]) == ["a", "b"]
    assert names(chosen(result, 1)) == ["a"]
    assert names(chosen(result, 2)) == ["a", "b"]
    assert names(chosen(result, 3)) == ["a", "b", "dominated"]
    assert names(chosen(result, 9)) == ["a", "b", "dominated"]


def test_without_a_met_goal_the_frontier_is_of_all_and_nothing_is_chosen() -> None:
    wanted = {"accuracy": Goal("threshold", 0.99), "latency": Goal("percent-min-improvement", 90, "ms")}
    result = found({"a": (0.98, 5.0), "b": (0.97, 1.5)}, wanted)
    assert names([one for one in result if one.on_frontier]) == ["a", "b"]
    assert chosen(result, 1) == []
    nearest = nearest_miss(result)
    assert nearest is not None
    assert nearest.node.model_id == "b"
    assert [str(miss) for miss in nearest.misses] == ["accuracy 0.97, needed ≥ 0.99", "latency 1.5 ms, needed ≤ 1 ms"]


def test_ties_are_broken_by_the_next_priority() -> None:
    result = found({"slow": (0.98, 5.0), "worse": (0.97, 1.0), "fast": (0.98, 4.0)})
    assert names(ranked(result)) == ["fast", "slow", "worse"]


def test_a_metric_that_is_no_number_meets_no_goal_and_ranks_last() -> None:
    nan, inf = float("nan"), float("inf")
    points = {"good": (0.97, 5.0), "broken": (nan, 2.0), "endless": (0.99, inf), "bad": (0.96, 4.0)}
    result = found(points, {"accuracy": Goal("threshold", 0.965)})
    assert names([one for one in result if one.meets_goals]) == ["good"] == names(chosen(result, 9))
    assert names([one for one in result if one.on_frontier]) == ["good"]
    assert {one.node.model_id: [str(miss) for miss in one.misses] for one in result if one.misses} == {
        "broken": ["accuracy nan, needed ≥ 0.965"],
        "endless": ["latency inf, needed a number"],
        "bad": ["accuracy 0.96, needed ≥ 0.965"],
    }
    assert names(ranked(result)) == ["endless", "good", "bad", "broken"]
    nearest = nearest_miss(result)
    assert nearest is not None and nearest.node.model_id == "bad"
    assert Goal("max-degradation", 0.01).threshold(nan, True) is None, "as if the input model was not measured"


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12), st.integers(1, 6))
def test_ranking_properties(points: list[tuple[int, int]], count: int) -> None:
    result = found({f"m{index}": (float(a), float(b)) for index, (a, b) in enumerate(points)})
    some = chosen(result, count)
    assert len(some) == min(count, len(points))
    best = max(result, key=lambda one: (one.node.metrics["accuracy"].value, -one.node.metrics["latency"].value))
    assert some[0].node.metrics == best.node.metrics
    assert some[0].on_frontier
    for one in result:
        beaten = any(
            other.node.metrics["accuracy"].value >= one.node.metrics["accuracy"].value
            and other.node.metrics["latency"].value <= one.node.metrics["latency"].value
            and other.node.metrics != one.node.metrics
            for other in result
        )
        assert one.on_frontier is not beaten


def test_latencies_are_in_milliseconds() -> None:
    sub_types = [{"name": "avg"}, {"name": "p90"}]
    metrics = [{"name": "speed", "type": "Latency", "sub_types": sub_types}, {"name": "own", "type": "custom"}]
    document = {"evaluators": {"used": {"metrics": metrics}}, "engine": {"evaluator": "used"}}
    assert footprints.units(document) == {"speed-avg": "ms", "speed-p90": "ms"}
    assert footprints.metric_types(document) == {"speed-avg": "latency", "speed-p90": "latency"}


def test_goals_come_from_the_evaluators_in_use() -> None:
    def evaluator(value: float) -> dict[str, Any]:
        goal = {"type": "threshold", "value": value}
        sub_types = [{"name": "avg", "priority": 1, "goal": goal}, {"name": "max", "priority": -1, "goal": goal}]
        return {"metrics": [{"name": "latency", "sub_types": sub_types}]}

    document = {
        "evaluators": {"used": evaluator(1.0), "unused": evaluator(2.0)},
        "engine": {"evaluator": "used"},
        "passes": {"p": [{"type": "X", "evaluator": None}]},
    }
    assert goals(document) == {"latency-avg": Goal("threshold", 1.0)}
    assert footprints.goals({"passes": {"p": {"evaluator": evaluator(3.0)}}}) == {"latency-avg": Goal("threshold", 3.0)}
