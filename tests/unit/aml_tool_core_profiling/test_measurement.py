"""What the runs of a course have in common."""

from __future__ import annotations

import logging
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from tests.unit.aml_tool_core_profiling.made_runs import POINT, load_of, result_of

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


def searching(max_runs: int, **changed: Any) -> Search:
    return replace(SEARCH, question=replace(QUESTION, max_runs=max_runs, precision=0.001, **changed))


@pytest.mark.parametrize("more", [9, 16])
def test_a_search_with_a_larger_budget_goes_on_with_its_runs(more: int, tmp_path: Path) -> None:
    """With all of them, in their order; also with its last one, which a search of more runs would not have made."""
    first, second, whole = Machine(), Machine(), Machine()
    small = runs_of(plain(), searching(4), first.measure, opened_for(tmp_path / "runs"))
    assert len(first.loads) == 4
    extended = runs_of(plain(), searching(more), second.measure, opened_for(tmp_path / "runs", "more"))
    assert shown(extended)[:4] == shown(small)
    assert 1 <= len(second.loads) == len(extended.runs) - 4 <= more - 4
    runs_of(plain(), searching(more), whole.measure, opened_for(tmp_path / "whole"))
    assert first.loads[3] != whole.loads[3], "else this would show no more than that it repeats itself"


class Wall(Machine):
    """Holds up to a load, with a small margin, and not beyond it."""

    def measure(self, engine: Installed, plan: Plan, watch: object) -> Result:
        load = plan.load
        assert load.target_rps is not None
        self.loads.append((load.target_rps, load.duration_sec))
        return result_of(load.target_rps, 40.0 if load.target_rps <= 300 else 900.0, duration_sec=load.duration_sec)


def test_a_larger_budget_never_loses_a_confirmed_answer(tmp_path: Path) -> None:
    machine, confirmed = Wall(), 0.0
    for max_runs in range(3, 11):
        before = len(machine.loads)
        made = runs_of(plain(), searching(max_runs), machine.measure, opened_for(tmp_path / "runs", f"{max_runs}"))
        assert made.finding is not None and made.finding.load is not None and made.finding.confirmed
        assert made.finding.load >= confirmed
        assert len(machine.loads) == len(made.runs) == max_runs
        assert max_runs == 3 or before == max_runs - 1, "each time one run more, and none again"
        confirmed = made.finding.load
    assert 200 <= confirmed <= 300


def test_runs_for_other_demands_are_judged_by_todays_and_can_confirm(tmp_path: Path) -> None:
    machine = Wall()
    runs_of(plain(), searching(6), machine.measure, opened_for(tmp_path / "runs"))
    before = list(machine.loads)
    demands = {"latency_ms_99": 1000.0}
    made = runs_of(
        plain(demands), replace(searching(8), limits=demands), machine.measure, opened_for(tmp_path / "runs", "other")
    )
    assert [(run.load.target_rps, run.load.duration_sec) for run in made.runs[:6]] == before
    assert all(run.standing.feasible and run.criteria and run.criteria[0].limit == 1000 for run in made.runs)
    finding = made.finding
    assert finding is not None and finding.load == max(run.load.target_rps or 0.0 for run in made.runs)
    assert min(rate or 0.0 for rate, _ in machine.loads[6:]) >= 300, "what is known by now is where it goes on"


def test_runs_outside_the_range_or_of_another_family_are_left_out(tmp_path: Path) -> None:
    machine = Wall()
    runs_of(plain(), searching(5), machine.measure, opened_for(tmp_path / "runs"))
    within = [one for one in machine.loads if 50 <= (one[0] or 0.0) <= 300]
    assert 0 < len(within) < 5
    ranged = searching(5, start=100.0, lowest=50.0, highest=300.0)
    made = runs_of(plain(), ranged, machine.measure, opened_for(tmp_path / "runs", "ranged"))
    assert [(run.load.target_rps, run.load.duration_sec) for run in made.runs[: len(within)]] == within
    assert all(50 <= (run.load.target_rps or 0.0) <= 300 for run in made.runs)
    more_clients = replace(searching(3), base=replace(SEARCH.base, connections=9))
    before = len(machine.loads)
    runs_of(plain(), more_clients, machine.measure, opened_for(tmp_path / "runs", "clients"))
    assert len(machine.loads) == before + 3, "with other clients, all is new"


@pytest.mark.parametrize(("duration_sec", "purpose"), [(3, Purpose.CONFIRMATION), (9, Purpose.PROBE)])
def test_what_an_earlier_run_is_for_is_a_matter_of_its_length(
    duration_sec: int, purpose: Purpose, tmp_path: Path
) -> None:
    machine = Wall()
    runs_of(plain(), searching(3), machine.measure, opened_for(tmp_path / "runs"))
    assert machine.loads[-1][1] == SEARCH.base.duration_sec == 4
    other = replace(searching(4), base=replace(SEARCH.base, duration_sec=duration_sec))
    made = runs_of(plain(), other, machine.measure, opened_for(tmp_path / "runs", "longer"))
    assert made.runs[2].point.purpose is purpose and made.runs[2].load.duration_sec == 4


def test_a_load_that_was_not_measured_as_often_as_asked_is_not_among_the_earlier_ones(tmp_path: Path) -> None:
    twice, machine = replace(plain(), config={"repeat": 2}), Wall()
    runs_of(twice, searching(3), machine.measure, opened_for(tmp_path / "runs"))
    (tmp_path / "runs" / "0004.json").unlink()
    made = runs_of(twice, searching(3), machine.measure, opened_for(tmp_path / "runs", "other"))
    assert [len(run.repeats) for run in made.runs] == [2, 2, 2]
    assert len(machine.loads) == 7


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


def test_no_points_number_is_told_twice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        runs_of(plain(), SWEEP, Failing({50.0, 150.0}).measure, opened_for(tmp_path / "runs"))
    told = [record.getMessage().split(":")[0] for record in caplog.records if "point " in record.getMessage()[:6]]
    assert told == [f"point {number}" for number in range(1, 6)]


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
