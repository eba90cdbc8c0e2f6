"""The tool: an open loop in which one even clock serves all clients."""

from importlib.metadata import version

from aml_tool_core.profiling import LoadModel, Profiler, SendSchedule, profiler_tool
from aml_tool_core.profiling.metronome import metronome

from aml_labench_profiler.labench import LABENCH

PROFILER = Profiler(
    name="aml_labench_profiler",
    version=version("aml-labench-profiler"),
    summary="Profile a scoring target at a constant rate; one even clock serves all clients (LaBench's model).",
    config_schema="labench_profiler_config",
    model=LoadModel.OPEN,
    concurrency_key="clients",
    concurrency_required=False,
    schedule=SendSchedule.CLOCK,
    engines={"metronome": metronome(SendSchedule.CLOCK), "labench": LABENCH},
)
TOOL = profiler_tool(PROFILER)
