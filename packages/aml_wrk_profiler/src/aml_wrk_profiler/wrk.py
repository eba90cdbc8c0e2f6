"""wrk: its command line, and what its output means."""

from __future__ import annotations

from pathlib import Path

from aml_tool_core.errors import ToolError
from aml_tool_core.profiling import Artifacts, Command, Engine, Histogram, Plan, Result, wrk_script

# wrk counts an answer that no request waited for (a server that answers twice), but has no time to record for it.
_MOST_UNTIMED = 0.001


def command(plan: Plan, folder: Path) -> Command:
    """Return wrk's arguments. Path, query and headers are in the requests' file: no list of processes shows them."""
    load = plan.load
    threads = wrk_script.usable_threads(load)
    files = wrk_script.request_files(plan.target, plan.payload, plan.user_agent)
    return Command(
        arguments=(
            "--threads", str(threads),
            "--connections", str(load.connections),
            "--duration", f"{load.duration_sec}s",
            "--timeout", f"{load.timeout_sec:.0f}s",
            "--script", str(folder / wrk_script.SCRIPT_FILE),
            f"{plan.target.origin}/",
            "--", *wrk_script.script_arguments(folder, files, threads),
        ),
        files=files,
    )  # fmt: skip


def parse(plan: Plan, artifacts: Artifacts) -> Result:
    """Read what the script wrote. Raises ToolError where it does not add up."""
    load = plan.load
    output = wrk_script.read(artifacts.files.get(wrk_script.OUTPUT_FILE), "wrk")
    latency = Histogram.of(
        wrk_script.uncorrected(output.latency_us, output.duration_us, output.requests, load.connections)
    )
    in_time = output.requests - output.errors["timeout"]
    untimed = in_time - latency.total
    if not 0 <= untimed <= in_time * _MOST_UNTIMED or any(count < 0 for _, count in latency.counts):
        raise ToolError(
            f"wrk: {in_time} requests were answered in time but its histogram holds {latency.total}; "
            "this wrk counts in another way than 4.1 and 4.2 do, use one of these"
        )
    threads = wrk_script.usable_threads(load)
    notes = wrk_script.notes(plan, threads, "wrk")
    if untimed:
        notes += (f"answers that no request waited for: {untimed}; they are counted, but are in no percentile",)
    return Result(
        duration_sec=output.duration_us / 1e6,
        sent=output.sent,
        completed=output.requests,
        succeeded=wrk_script.succeeded(output),
        errors=wrk_script.errors(output),
        bytes_read=output.bytes,
        bytes_written=output.bytes_written,
        latency=latency,
        timeline=wrk_script.timeline(output, load.duration_sec),
        generator=wrk_script.generator(output, artifacts, threads),
        notes=notes,
    )


WRK = Engine(
    name="wrk",
    binary="wrk",
    remedy="install it (Debian, Ubuntu: apt-get install wrk)",
    version_arguments=("--version",),
    version_pattern=r"wrk (\S+) \[",
    command=command,
    parse=parse,
)
