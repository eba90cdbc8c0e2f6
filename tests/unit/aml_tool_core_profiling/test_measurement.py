"""What the runs of a course have in common."""

from __future__ import annotations

import logging
import random
from dataclasses import replace
from pathlib import Path

import pytest
from aml_tool_core.errors import Interrupted
from aml_tool_core.profiling import Result
from aml_tool_core.profiling.checkpoint import opened
from aml_tool_core.profiling.course import Plan as Course
from aml_tool_core.profiling.course import Search, Sweep
from aml_tool_core.profiling.deployment import Deployment
from aml_tool_core.profiling.engine import Installed, Plan
from aml_tool_core.profiling.load import SendSchedule
from aml_tool_core.profiling.measurement import Session, runs_of
from aml_tool_core.profiling.metronome import metronome
from aml_tool_core.profiling.payload import Payload
from aml_tool_core.profiling.runs import Purpose
from aml_tool_core.profiling.search import Probe, Question
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
    runs, found = runs_of(made, course, whole.measure, opened(tmp_path / "whole", made_from, None, log))
    assert len(whole.loads) == len(runs) >= 5
    for place in range(len(runs)):
        folder = tmp_path / f"place{place}"
        first = Machine(interrupted_in=place)
        with pytest.raises(Interrupted):
            runs_of(made, course, first.measure, opened(folder, made_from, None, log))
        second = Machine()
        again, found_again = runs_of(made, course, second.measure, opened(folder, made_from, None, log))
        assert first.loads + second.loads == whole.loads, "no finished run is repeated, and no load is another"
        assert found_again == found
        assert [(run.point, run.result, run.standing) for run in again] == [
            (run.point, run.result, run.standing) for run in runs
        ]
