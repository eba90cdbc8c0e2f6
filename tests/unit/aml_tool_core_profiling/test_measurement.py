"""What the runs of a course have in common."""

from __future__ import annotations

import logging
import random
from dataclasses import replace
from pathlib import Path

import pytest
from aml_tool_core.errors import InputError, Interrupted, ToolError
from aml_tool_core.profiling import Result
from aml_tool_core.profiling.checkpoint import Checkpoint, Facts, opened
from aml_tool_core.profiling.course import Plan as Course
from aml_tool_core.profiling.course import Search, Sweep
from aml_tool_core.profiling.deployment import Deployment
from aml_tool_core.profiling.engine import Installed, Plan
from aml_tool_core.profiling.load import SendSchedule
from aml_tool_core.profiling.measurement import GaveUp, Made, Session, runs_of
from aml_tool_core.profiling.metronome import metronome
from aml_tool_core.profiling.nodes import NodeLost
from aml_tool_core.profiling.payload import Payload
from aml_tool_core.profiling.runs import Point, Purpose
from aml_tool_core.profiling.search import Probe, Question
from aml_tool_core.profiling.standing import Standing
from aml_tool_core.profiling.target import target_of

from tests.bench.search.queues import Queue
from tests.bench.search.simulated import Setting, measured
from tests.unit.aml_tool_core_profiling.made_runs import POINT, load_of

TARGET = target_of({"scoring_uri": "http://127.0.0.1:1/score"}, "target.json")
DEMANDS = {"latency_ms_99": 50.0, "succeeded_per_sec": 1000.0}


def session(*, abort_on_fail: bool) -> Session:
    payload = Payload((b"{}",), "payload.jsonl")
    return Session(
        log=logging.getLogger("tests"),
        config={"abort_on_fail": abort_on_fail, "repeat": 2},
        config_sha256="c" * 64,
        engine=Installed(metronome(SendSchedule.CLOCK), "/usr/bin/true", "0.1.0"),
        plan=Plan(TARGET, payload, load_of(), "tests/0", None, "config.json", "target.json"),
        payloads={None: payload},
        deployment=Deployment(TARGET, {}),
        demands=DEMANDS,
        objective="succeeded_per_sec",
        is_several=True,
    )


@pytest.mark.parametrize("purpose", Purpose)
def test_a_search_is_not_stopped_for_a_rate_that_its_small_loads_cannot_reach(purpose: Purpose) -> None:
    made = session(abort_on_fail=True)
    point = replace(POINT, purpose=purpose)
    watch = made.watch(made.plan_at(point), point)
    assert watch is not None and watch.planned == 2 * 1000
    assert ("succeeded_per_sec" in watch.sla) is (purpose is Purpose.POINT)
    assert watch.sla["latency_ms_99"] == 50.0


def test_nothing_is_watched_where_it_is_not_asked_for() -> None:
    made = session(abort_on_fail=False)
    assert made.watch(made.plan_at(POINT), POINT) is None


LIMITS = {"latency_ms_99": 80.0}
QUESTION = Question(start=20.0, whole=False, max_runs=8, precision=0.04)
SEARCH = Search(replace(POINT, duration_sec=4), "succeeded_per_sec", "target_rps", LIMITS, QUESTION, probe_sec=2)
SWEEP = Sweep(replace(POINT, duration_sec=2), "succeeded_per_sec", {"target_rps": (50.0, 100.0, 150.0, 200.0, 250.0)})


class Machine:
    """Measures a simulated queue, the same load always with the same outcome, and is interrupted in a run if asked."""

    def __init__(self, interrupted_in: int | None = None) -> None:
        self.interrupted_in = interrupted_in
        self.loads: list[tuple[float | None, int]] = []

    def measure(self, engine: Installed, plan: Plan, watch: object) -> Result:
        if len(self.loads) == self.interrupted_in:
            raise Interrupted(2)
        load = plan.load
        assert load.target_rps is not None
        self.loads.append((load.target_rps, load.duration_sec))
        setting = Setting(Queue(4, 50.0), 80.0, QUESTION, load.duration_sec, load.duration_sec)
        return measured(setting, Probe(load.target_rps, full=False), random.Random(load.target_rps))[1]


@pytest.mark.parametrize("course", [SEARCH, SWEEP], ids=["search", "sweep"])
def test_interrupted_anywhere_it_ends_as_if_it_had_not_been(course: Course, tmp_path: Path) -> None:
    made = replace(session(abort_on_fail=False), config={"repeat": 1}, demands=LIMITS)
    log, made_from = logging.getLogger("tests"), {"the configuration": "c"}
    whole = Machine()
    outcome = runs_of(made, course, whole.measure, opened(tmp_path / "whole", made_from, None, log))
    assert len(whole.loads) == len(outcome.runs) >= 5
    for place in range(len(outcome.runs)):
        folder = tmp_path / f"place{place}"
        first = Machine(interrupted_in=place)
        with pytest.raises(Interrupted):
            runs_of(made, course, first.measure, opened(folder, made_from, None, log))
        second = Machine()
        again = runs_of(made, course, second.measure, opened(folder, made_from, None, log))
        assert first.loads + second.loads == whole.loads, "no finished run is repeated, and no load is another"
        assert again.finding == outcome.finding
        assert shown(again) == shown(outcome)


def shown(made: Made) -> list[tuple[Point, Result, Standing]]:
    return [(run.point, run.result, run.standing) for run in made.runs]


def plain(demands: dict[str, float] = LIMITS) -> Session:
    return replace(session(abort_on_fail=False), config={"repeat": 1}, demands=demands)


def opened_for(folder: Path, configuration: str = "c") -> Checkpoint:
    made_from: Facts = {"the configuration": configuration, "the target": {"model_sha256": "m"}}
    return opened(folder, made_from, None, logging.getLogger("tests"))


def test_a_longer_list_and_other_demands_make_what_is_new_alone(tmp_path: Path) -> None:
    first = Machine()
    runs_of(plain(), SWEEP, first.measure, opened_for(tmp_path / "runs"))
    longer = replace(SWEEP, axes={"target_rps": (25.0, 100.0, 120.0, 250.0)})
    second, whole = Machine(), Machine()
    other = plain({"latency_ms_99": 40.0})
    extended = runs_of(other, longer, second.measure, opened_for(tmp_path / "runs", "longer"))
    assert [rate for rate, _ in second.loads] == [25.0, 120.0]
    assert shown(extended) == shown(runs_of(other, longer, whole.measure, opened_for(tmp_path / "whole")))


@pytest.mark.parametrize("more", [9, 16])
def test_a_search_with_a_larger_budget_goes_on_with_its_runs(more: int, tmp_path: Path) -> None:
    small, large = (replace(SEARCH, question=replace(QUESTION, max_runs=runs, precision=0.001)) for runs in (4, more))
    first, second, whole = Machine(), Machine(), Machine()
    kept = opened_for(tmp_path / "runs")
    runs_of(plain(), small, first.measure, kept)
    kept.finish()
    assert len(first.loads) == 4
    extended = runs_of(plain(), large, second.measure, opened_for(tmp_path / "runs", "more"))
    at_once = runs_of(plain(), large, whole.measure, opened_for(tmp_path / "whole"))
    assert (shown(extended), extended.finding) == (shown(at_once), at_once.finding)
    again = [load for load in whole.loads if load in first.loads]
    assert len(again) >= 3 and second.loads == [load for load in whole.loads if load not in first.loads]


class Failing(Machine):
    """A machine whose load generator fails at some rates."""

    def __init__(self, rates: set[float], error: type[ToolError] = ToolError) -> None:
        super().__init__()
        self.rates, self.error = rates, error
        self.tried: list[float | None] = []

    def measure(self, engine: Installed, plan: Plan, watch: object) -> Result:
        self.tried.append(plan.load.target_rps)
        if plan.load.target_rps in self.rates:
            raise self.error(f"no {plan.load.target_rps:g}")
        return super().measure(engine, plan, watch)


def test_a_sweep_goes_on_past_a_point_that_fails_and_makes_it_alone_the_next_time(tmp_path: Path) -> None:
    machine = Failing({50.0, 150.0, 250.0})
    made = runs_of(plain(), SWEEP, machine.measure, opened_for(tmp_path / "runs"))
    assert machine.tried == [50.0, 100.0, 150.0, 200.0, 250.0]
    assert [(run.number, run.point.target_rps) for run in made.runs] == [(1, 100.0), (2, 200.0)]
    assert [(one.point.target_rps, one.reason) for one in made.failures] == [
        (50.0, "no 50"), (150.0, "no 150"), (250.0, "no 250"),
    ]  # fmt: skip
    second, whole = Machine(), Machine()
    again = runs_of(plain(), SWEEP, second.measure, opened_for(tmp_path / "runs"))
    assert [rate for rate, _ in second.loads] == [50.0, 150.0, 250.0] and not again.failures
    assert shown(again) == shown(runs_of(plain(), SWEEP, whole.measure, opened_for(tmp_path / "whole")))


def test_a_sweep_gives_up_after_two_failures_in_a_row_but_not_what_it_has(tmp_path: Path) -> None:
    machine = Failing({100.0, 150.0})
    with pytest.raises(GaveUp, match=r"^no 150$") as end:
        runs_of(plain(), SWEEP, machine.measure, opened_for(tmp_path / "runs"))
    assert machine.tried == [50.0, 100.0, 150.0]
    assert [run.point.target_rps for run in end.value.made.runs] == [50.0]
    assert [one.reason for one in end.value.made.failures] == [
        "no 100", "no 150", "not tried, as 2 points in a row failed", "not tried, as 2 points in a row failed",
    ]  # fmt: skip


def test_a_sweep_without_a_run_is_a_failure_like_any_other(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"^no 100$") as end:
        runs_of(plain(), SWEEP, Failing({50.0, 100.0}).measure, opened_for(tmp_path / "runs"))
    assert not isinstance(end.value, GaveUp)


def test_a_lost_node_ends_a_sweep_at_once(tmp_path: Path) -> None:
    machine = Failing({100.0}, NodeLost)
    with pytest.raises(GaveUp) as end:
        runs_of(plain(), SWEEP, machine.measure, opened_for(tmp_path / "runs"))
    assert machine.tried == [50.0, 100.0]
    assert end.value.made.failures[-1].reason == "not tried, as a node was lost"


@pytest.mark.parametrize(("course", "error"), [(SWEEP, InputError), (SEARCH, ToolError)], ids=["bad input", "search"])
def test_what_ends_all_says_what_is_kept(
    course: Course, error: type[ToolError], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = Machine()
    runs_of(plain(), course, whole.measure, opened_for(tmp_path / "whole"))
    rates = [rate for rate, _ in whole.loads]
    assert rates[2] is not None and rates[2] not in rates[:2]
    machine = Failing({rates[2]}, error)
    with caplog.at_level(logging.INFO), pytest.raises(error, match=f"^no {rates[2]:g}$"):
        runs_of(plain(), course, machine.measure, opened_for(tmp_path / "runs"))
    assert machine.tried == rates[:3]
    assert f"2 finished run(s) are kept in {tmp_path / 'runs'}, start again to go on" in caplog.text
