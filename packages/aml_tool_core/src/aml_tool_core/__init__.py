"""What every tool of the model optimizer shares; see the README for the map of its modules."""

from importlib.metadata import version

from aml_tool_core.errors import CriteriaMissed, InputError, Interrupted, ToolError
from aml_tool_core.main import main
from aml_tool_core.tool import Flag, Job, Kind, Tool

__version__ = version("aml-tool-core")

__all__ = ["CriteriaMissed", "Flag", "InputError", "Interrupted", "Job", "Kind", "Tool", "ToolError", "main"]
