"""The tool: an open loop in which every connection keeps its own even schedule."""

from importlib.metadata import version

from aml_tool_core.profiling import LoadModel, Profiler, SendSchedule, profiler_tool
from aml_tool_core.profiling.metronome import metronome

from aml_wrk2_profiler.wrk2 import WRK2

PROFILER = Profiler(
    name="aml_wrk2_profiler",
    version=version("aml-wrk2-profiler"),
    summary="Profile a scoring target at a constant rate; every connection keeps its own even schedule (wrk2's model).",
    config_schema="wrk2_profiler_config",
    model=LoadModel.OPEN,
    concurrency_key="connections",
    concurrency_required=True,
    schedule=SendSchedule.CONNECTION,
    engines={"metronome": metronome(SendSchedule.CONNECTION), "wrk2": WRK2},
)
TOOL = profiler_tool(PROFILER)
