"""wrk's histogram is read from its memory at once; here it is held against what wrk tells when asked value by value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from aml_tool_core.profiling import Artifacts, Command, Load, LoadModel, Plan, Result
from aml_tool_core.profiling import engine as engines
from aml_tool_core.profiling.payload import Payload
from aml_tool_core.profiling.target import target_of
from aml_tool_core.profiling.wrk_script import OUTPUT_FILE, SCRIPT_FILE, read
from aml_wrk_profiler.wrk import WRK

if TYPE_CHECKING:
    from tests.contract.profilers.conftest import Server

# done() again, after the script's own, asking wrk for each value.
ASKING = b"""
local scripts_own = done
function done(summary, latency)
  scripts_own(summary, latency)
  local file = assert(io.open("asked.txt", "w"))
  for i = 1, #latency do
    file:write(string.format("%d %d\\n", latency(i)))
  end
  file:close()
end
"""


def test_what_is_read_is_what_wrk_tells(serve: Callable[..., Server]) -> None:
    seen: list[Artifacts] = []

    def command(plan: Plan, folder: Path) -> Command:
        own = WRK.command(plan, folder)
        return replace(own, files={**own.files, SCRIPT_FILE: own.files[SCRIPT_FILE] + ASKING})

    def parse(plan: Plan, artifacts: Artifacts) -> Result:
        seen.append(artifacts)
        return WRK.parse(plan, artifacts)

    server = serve("--delay_ms", "3", "--stall_after_sec", "0.5", "--stall_sec", "0.3")
    load = Load(LoadModel.CLOSED, duration_sec=2, connections=8, threads=2, timeout_sec=5.0)
    plan = Plan(target_of({"scoring_uri": server.uri}, "t.json"), Payload((), None), load, "t/1")
    engines.run(engines.installed(replace(WRK, command=command, parse=parse)), plan)
    (artifacts,) = seen
    asked = tuple(
        (int(value), int(count)) for value, count in map(str.split, artifacts.files["asked.txt"].splitlines())
    )
    assert len(asked) > 10
    assert read(artifacts.files[OUTPUT_FILE], "wrk").latency_us == asked
