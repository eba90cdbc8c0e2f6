"""Comparing: what is comparable, what is noise, what a gate lets through."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from aml_report.comparison import Change, Comparison, Direction, compare, regressions
from aml_report.metrics import metrics_of
from aml_report.noise import Judgement, Noise, chance_of_separation, judge
from aml_report.table import lines
from aml_tool_core import InputError

P50 = "latency_ms_50"


def change(comparison: Comparison, key: str) -> Change:
    return next(one for one in comparison.changes if one.metric.key == key)


def test_a_slower_run_is_worse_and_outside_the_noise(measured: Any, read: Any) -> None:
    compared = compare(read("a.json", measured()), read("b.json", measured(median_ms=26.0)), allow_different=False)
    found = change(compared, P50)
    assert found.direction is Direction.WORSE
    assert found.percent == pytest.approx(30, abs=3)
    assert found.judgement == Judgement(Noise.OUTSIDE, "95 % intervals")
    text = "\n".join(lines(compared))
    assert f"{found.percent:+.1f} %  worse" in text
    assert "outside the noise (95 % intervals)" in text


def test_another_sample_of_the_same_system_is_within_the_noise(measured: Any, read: Any) -> None:
    compared = compare(read("a.json", measured()), read("b.json", measured(seed=7)), allow_different=False)
    assert {change(compared, f"latency_ms_{name}").judgement.noise for name in (50, 75, 90, 95)} == {  # type: ignore[union-attr]
        Noise.WITHIN
    }
    *lines_of_metrics, advice = regressions(compared, 0.0) or [""]
    assert all("cannot tell" in line for line in lines_of_metrics)
    assert not lines_of_metrics or "set repeat to 3 or more" in advice


def test_a_single_figure_of_one_run_cannot_be_told_from_noise(measured: Any, read: Any) -> None:
    compared = compare(read("a.json", measured()), read("b.json", measured(seed=7)), allow_different=False)
    for key in ("latency_ms_max", "succeeded_per_sec"):
        found = change(compared, key)
        assert found.judgement == Judgement(Noise.UNKNOWN, "no repeated runs"), key


def repeated(document: dict[str, Any], p50s: list[float]) -> dict[str, Any]:
    runs = []
    for value in p50s:
        percentiles = {**document["result"]["latency_ms"]["percentiles"]}
        percentiles["50"] = {**percentiles["50"], "value": value}
        runs.append(
            {**document["result"], "latency_ms": {**document["result"]["latency_ms"], "percentiles": percentiles}}
        )
    return {**document, "result": {**document["result"], "repeats": runs}}


@pytest.mark.parametrize(
    ("base", "new", "expected"),
    [
        ([20.0, 20.5, 21.0], [21.1, 21.5, 22.0], Noise.OUTSIDE),
        ([20.0, 20.5, 21.0], [21.0, 21.5, 22.0], Noise.WITHIN),
        ([20.0, 30.0, 40.0], [25.0, 26.0, 27.0], Noise.WITHIN),
        ([22.0, 23.0], [20.0, 21.0], Noise.OUTSIDE),
    ],
)
def test_repeated_runs_make_the_noise_band(measured: Any, base: list[float], new: list[float], expected: Noise) -> None:
    document = measured()
    metric = next(one for one in metrics_of(document) if one.key == P50)
    found = judge(metric, repeated(document, base), repeated(document, new))
    assert found == Judgement(expected, f"spread of {len(base)} and {len(new)} runs")


def test_one_repeated_report_falls_back_to_the_intervals(measured: Any) -> None:
    document = measured()
    metric = next(one for one in metrics_of(document) if one.key == P50)
    assert judge(metric, repeated(document, [1.0, 2.0]), document).basis == "95 % intervals"


def test_repeated_measurements_are_read_and_judged_by_their_spread(measured: Any, read: Any) -> None:
    base, new = read("a.json", measured(repeat=3)), read("b.json", measured(repeat=3, median_ms=24.0, seed=3))
    compared = compare(base, new, allow_different=False)
    for key in (P50, "latency_ms_99", "service_time_ms_50"):
        assert change(compared, key).judgement == Judgement(Noise.OUTSIDE, "spread of 3 and 3 runs"), key
    steady = change(compared, "requests_per_sec")
    assert steady.judgement == Judgement(Noise.WITHIN, "spread of 3 and 3 runs")


@pytest.mark.parametrize(("base_runs", "new_runs"), [(2, 2), (3, 3), (4, 4), (3, 5)])
def test_the_chance_of_a_false_alarm_is_what_it_is_said_to_be(base_runs: int, new_runs: int) -> None:
    every = list(itertools.permutations(range(base_runs + new_runs))) if base_runs + new_runs <= 8 else []
    apart = 0
    for order in every:
        one, other = order[:base_runs], order[base_runs:]
        apart += max(one) < min(other) or max(other) < min(one)
    assert apart / len(every) == pytest.approx(chance_of_separation(base_runs, new_runs))


def test_shares_of_failures_have_an_interval(measured: Any, read: Any) -> None:
    few = compare(
        read("a.json", measured(status=((500, 2),))),
        read("b.json", measured(status=((500, 4),))),
        allow_different=False,
    )
    assert change(few, "error_percent").judgement.noise is Noise.WITHIN  # type: ignore[union-attr]
    many = compare(read("c.json", measured()), read("d.json", measured(status=((500, 50),))), allow_different=False)
    found = change(many, "error_percent")
    assert found.judgement is not None and found.judgement.noise is Noise.OUTSIDE
    assert found.percent is None, "from 0 there is no percentage"
    assert any("error_percent: 0 -> 0.8333" in line for line in regressions(many, 1000.0))


def test_wilson_interval_covers_the_share() -> None:
    metric = next(one for one in metrics_of({"result": {}, "cost": {}}) if one.key == "error_percent")
    draw = random.Random(5)
    covered = 0
    for _ in range(2000):
        failed = sum(draw.random() < 0.03 for _ in range(400))
        interval = metric.interval({"result": {"errors": {"status": {"500": failed}}, "requests": {"sent": 400}}})
        assert interval is not None
        covered += interval[0] <= 3.0 <= interval[1]
    assert covered / 2000 == pytest.approx(0.95, abs=0.02)


def test_429_is_no_failure(measured: Any, read: Any) -> None:
    compared = compare(
        read("a.json", measured()), read("b.json", measured(status=((429, 400),))), allow_different=False
    )
    assert change(compared, "error_percent").new == 0
    assert change(compared, "refused_percent").new == pytest.approx(100 * 400 / 6000)


@pytest.mark.parametrize(
    ("properties", "says"),
    [
        ({"target_rps": 40.0, "rate": 40.0}, "target rate: 50 and 40"),
        ({"target_rps": None}, "load model: open and closed"),
        ({"payload": b"{}"}, "payload (its hash): "),
        ({"duration_sec": 60}, "duration_sec: 120 and 60"),
    ],
)
def test_what_is_not_alike_is_refused_unless_told(
    measured: Any, read: Any, properties: dict[str, Any], says: str
) -> None:
    base, new = read("a.json", measured()), read("b.json", measured(**properties))
    with pytest.raises(InputError) as refusal:
        compare(base, new, allow_different=False)
    said = str(refusal.value)
    assert said.startswith(str(new.path)) and says in said and "--allow-different" in said
    told = compare(base, new, allow_different=True)
    assert any(says in one for one in told.unlike)
    assert any(line.startswith(f"not alike: {says}") for line in lines(told))


def test_connections_are_the_load_of_a_closed_loop_alone(measured: Any, read: Any) -> None:
    for target_rps, is_refused in ((None, True), (50.0, False)):
        documents = [measured(target_rps=target_rps), measured(target_rps=target_rps)]
        documents[1]["load"]["connections"] = 9
        base, new = read("a.json", documents[0]), read("b.json", documents[1])
        if is_refused:
            with pytest.raises(InputError, match="connections: 4 and 9"):
                compare(base, new, allow_different=False)
        else:
            assert "connections: 4 and 9" in compare(base, new, allow_different=False).differences


def test_an_open_loops_schedule_is_a_part_of_its_model(measured: Any, read: Any) -> None:
    documents = {name: measured() for name in ("connection", "clock", "earlier")}
    for name in ("connection", "clock"):
        documents[name]["load"]["schedule"] = name
    del documents["earlier"]["load"]["schedule"]
    reports = {name: read(f"{name}.json", document) for name, document in documents.items()}
    with pytest.raises(InputError, match="schedule of the load model: connection and clock"):
        compare(reports["connection"], reports["clock"], allow_different=False)
    assert compare(reports["connection"], reports["clock"], allow_different=True).unlike
    for name in ("connection", "earlier"):
        assert not compare(reports["earlier"], reports[name], allow_different=False).unlike


def test_the_header_of_a_run_that_is_not_valid_has_its_first_reason(measured: Any, read: Any) -> None:
    bad = measured()
    bad["verdict"] = {"valid": False, "reasons": ["the cause", "one consequence", "another"], "notes": []}
    one = {**bad, "verdict": {**bad["verdict"], "reasons": ["the cause"]}}
    compared = compare(read("bad.json", bad), read("one.json", one), allow_different=False)
    head = lines(compared)[:2]
    assert head[0].endswith(", NOT VALID: the cause; 2 more in the report)")
    assert head[1].endswith(", NOT VALID: the cause)")


def test_repeated_runs_are_not_asked_for_where_there_are_some(measured: Any, read: Any) -> None:
    base, new = read("a.json", measured(repeat=3)), read("b.json", measured(repeat=3, median_ms=30.0, seed=3))
    failed = regressions(compare(base, new, allow_different=False), 5.0)
    assert failed and not any("not repeated" in line for line in failed)
    half = compare(base, read("c.json", measured(median_ms=30.0, seed=3)), allow_different=False)
    assert regressions(half, 5.0)[-1].startswith("c.json: runs were not repeated")
    assert regressions(half, 1000.0) == []


def test_what_differs_is_listed(measured: Any, read: Any) -> None:
    compared = compare(read("a.json", measured()), read("b.json", measured(has_endpoint=True)), allow_different=False)
    assert "sku: none and Standard_F8s_v2" in compared.differences
    assert change(compared, "core_hour_per_million_requests").base is None
    assert change(compared, "core_hour_per_million_requests").judgement is None


def searched(
    document: dict[str, Any], value: float | None, interval: list[float | None], **limits: float
) -> dict[str, Any]:
    answer = None if value is None else {"value": value, "interval": interval, "confirmed": True, "run": 1}
    search = {
        "axis": "connections", "objective": "requests_per_sec", "constraints": limits or {"latency_ms_99": 100.0},
        "max_runs": 12, "precision_percent": 1.0, "answer": answer, "stopped": "narrow", "reason": "narrow",
    }  # fmt: skip
    load = {**document["load"], "connections": int(value or 1)}
    return {**document, "load": load, "search": search}


def test_searches_are_compared_by_their_answers(measured: Any, read: Any) -> None:
    base = read("a.json", searched(measured(), 8, [8, 8]))
    for name, found, passes in (
        ("better.json", searched(measured(), 11, [11, 12]), True),
        ("worse.json", searched(measured(), 5, [5, 6]), False),
        ("open.json", searched(measured(), 7, [7, None]), True),  # may be as many
        ("none.json", searched(measured(), None, []), False),
    ):
        compared = compare(base, read(name, found), allow_different=False)
        assert {one.metric.key for one in compared.changes}.isdisjoint({"latency_ms_99", "latency_ms_50"})
        failed = [line for line in regressions(compared, 5.0) if "search_answer" in line]
        assert bool(failed) is not passes, (name, failed)
        assert change(compared, "search_answer").base == 8
    with pytest.raises(InputError, match="constraints: latency_ms_99 100 and latency_ms_99 50"):
        compare(base, read("b.json", searched(measured(), 8, [8, 8], latency_ms_99=50.0)), allow_different=False)
    with pytest.raises(InputError, match="what is searched: connections and none"):
        compare(base, read("c.json", measured()), allow_different=False)


def test_minutes_that_hold_more_than_the_run_are_told(measured: Any, read: Any) -> None:
    whole = measured(has_endpoint=True)
    short = {
        **whole,
        "resource_usage_whole_minutes": False,
        "resource_usage_reasons": ["the run covers no whole minute: it fills 20% of 1"],
    }
    compared = compare(read("whole.json", whole), read("short.json", short), allow_different=False)
    caution = "short.json: resource usage is not of the run alone: the run covers no whole minute: it fills 20% of 1"
    assert compared.cautions == [caution]
    assert f"caution: {caution}" in lines(compared)


def test_the_gate_stops_a_regression_and_lets_an_improvement_pass(measured: Any, read: Any) -> None:
    fast, slow = read("fast.json", measured()), read("slow.json", measured(median_ms=26.0))
    stopped = regressions(compare(fast, slow, allow_different=False), 10.0)
    assert any(line.startswith("slow.json: latency_ms_50: ") and "more than 10 % worse" in line for line in stopped)
    assert regressions(compare(fast, slow, allow_different=False), 60.0) == []
    assert regressions(compare(slow, fast, allow_different=False), 0.0) == []


def test_the_gate_does_not_wave_through_what_it_cannot_judge(measured: Any, read: Any) -> None:
    base, new = measured(has_endpoint=True), measured(has_endpoint=True)
    new["cost"]["core_hour_per_million_requests"] = base["cost"]["core_hour_per_million_requests"] * 1.2
    compared = compare(read("a.json", base), read("b.json", new), allow_different=False)
    line, advice = regressions(compared, 10.0)
    assert "core_hour_per_million_requests" in line and "cannot tell" in line
    assert advice.startswith("a.json and b.json: runs were not repeated; set repeat to 3 or more")
    assert regressions(compared, 25.0) == []


def test_the_gate_stops_at_a_run_that_is_not_valid(measured: Any, read: Any) -> None:
    bad = measured(status=((500, 400),))
    assert not bad["verdict"]["valid"]
    for base, new in ((measured(), bad), (bad, measured())):
        stopped = regressions(compare(read("a.json", base), read("b.json", new), allow_different=False), 1000.0)
        assert any("not valid, so nothing follows from it" in line for line in stopped)
