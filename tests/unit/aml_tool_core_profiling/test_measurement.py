"""What the runs of a course have in common."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from aml_tool_core.profiling.deployment import Deployment
from aml_tool_core.profiling.engine import Installed, Plan
from aml_tool_core.profiling.load import SendSchedule
from aml_tool_core.profiling.measurement import Session
from aml_tool_core.profiling.metronome import metronome
from aml_tool_core.profiling.payload import Payload
from aml_tool_core.profiling.runs import Purpose
from aml_tool_core.profiling.target import target_of

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
