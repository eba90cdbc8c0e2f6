"""The tool: a closed loop, driven by wrk."""

from importlib.metadata import version

from aml_tool_core.profiling import LoadModel, Profiler, profiler_tool

from aml_wrk_profiler.wrk import WRK

PROFILER = Profiler(
    name="aml_wrk_profiler",
    version=version("aml-wrk-profiler"),
    summary="Profile a scoring target with wrk: a closed loop over a fixed number of connections.",
    config_schema="wrk_profiler_config",
    model=LoadModel.CLOSED,
    concurrency_key="connections",
    concurrency_required=True,
    engines={"wrk": WRK},
)
TOOL = profiler_tool(PROFILER)
