"""What the three profilers share: a profiler is a `Profiler` declaration, its engines, and nothing else.

The way of a run, module by module: `target` (where to), `payload` (what), `load` (how much), `engine` (run the native
generator), `result` (what came out, the same for every engine), `verdict`, `cost`, `usage`, `report`, `summary`.
"""

from aml_tool_core.profiling.engine import Artifacts, Command, Engine, Plan
from aml_tool_core.profiling.histogram import Histogram
from aml_tool_core.profiling.load import Load, LoadModel, SendSchedule
from aml_tool_core.profiling.profiler import Profiler, profiler_tool
from aml_tool_core.profiling.result import Errors, Generator, Result, Schedule, Second

__all__ = [
    "Artifacts",
    "Command",
    "Engine",
    "Errors",
    "Generator",
    "Histogram",
    "Load",
    "LoadModel",
    "Plan",
    "Profiler",
    "Result",
    "Schedule",
    "Second",
    "SendSchedule",
    "profiler_tool",
]
