"""The load model, as the profilers declare it and the report states it."""

from __future__ import annotations

import pytest
from aml_labench_profiler.command import PROFILER as LABENCH
from aml_tool_core import InputError
from aml_tool_core.profiling import LoadModel, Profiler
from aml_tool_core.profiling.load import load_of, with_defaults
from aml_tool_core.profiling.payload import Payload
from aml_tool_core.profiling.report import _load
from aml_wrk2_profiler.command import PROFILER as WRK2
from aml_wrk_profiler.command import PROFILER as WRK


@pytest.mark.parametrize(
    ("profiler", "schedule", "sender"),
    [(WRK, None, "connection"), (WRK2, "connection", "connection"), (LABENCH, "clock", "client")],
)
def test_the_report_states_whose_clock_it_was(profiler: Profiler, schedule: str | None, sender: str) -> None:
    config = with_defaults({}, profiler.config_schema)
    load = load_of(profiler.model, profiler.schedule, config, 4, "config.json")
    assert load.sender == sender
    document = _load(load, Payload((), ""))
    assert document["schedule"] == schedule
    assert (schedule is None) is (profiler.model is LoadModel.CLOSED)


@pytest.mark.parametrize("connections", [4, 4.0])
def test_threads_without_connections_are_refused_however_the_number_is_written(connections: float) -> None:
    config = with_defaults({"threads": 8, "connections": connections}, WRK.config_schema)
    with pytest.raises(InputError, match="8 is more than the 4 connections"):
        load_of(LoadModel.CLOSED, None, config, 4, "config.json")
