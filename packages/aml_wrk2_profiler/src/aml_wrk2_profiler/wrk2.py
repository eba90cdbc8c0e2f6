"""The upstream wrk2, for those who have it: its command line, and what it prints.

It is driven by wrk's Lua script, whose API it shares but for the histogram, which it prints instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from aml_tool_core.errors import InputError, ToolError
from aml_tool_core.profiling import Artifacts, Command, Engine, Histogram, Plan, Result, wrk_script

_CALIBRATION_SEC = 10  # CALIBRATE_DELAY_MS in wrk2's wrk.h
_CORRECTED = "Recorded Latency"
_UNCORRECTED = "Uncorrected Latency"
_ROW = re.compile(r"^\s*(\d+\.\d+)\s+(\d\.\d+)\s+(\d+)\s+(?:\d+\.\d+|inf)\s*$")
_MOMENTS = re.compile(r"#\[Mean\s*=\s*([\d.]+),\s*StdDeviation\s*=\s*([\d.]+)\]")


def command(plan: Plan, folder: Path) -> Command:
    """Return wrk2's arguments. Raises InputError for a rate that wrk2 cannot be given."""
    load = plan.load
    if load.target_rps is None or load.target_rps != int(load.target_rps):
        place = f"{plan.config_source}: /profiler_config/target_rps"
        raise InputError(f"{place}: {load.target_rps}: engine wrk2 takes whole numbers only")
    threads = wrk_script.usable_threads(load)
    files = wrk_script.request_files(plan.target, plan.payload, plan.user_agent)
    return Command(
        arguments=(
            "--threads", str(threads),
            "--connections", str(load.connections),
            "--duration", f"{load.duration_sec}s",
            "--timeout", f"{load.timeout_sec:.0f}s",
            "--rate", str(int(load.target_rps)),
            "--latency", "--u_latency",
            "--script", str(folder / wrk_script.SCRIPT_FILE),
            f"{plan.target.origin}/",
            "--", *wrk_script.script_arguments(folder, files, threads),
        ),
        files=files,
    )  # fmt: skip


def parse(plan: Plan, artifacts: Artifacts) -> Result:
    """Read what the script wrote and the two histograms that wrk2 printed. Raises ToolError where one is missing."""
    load = plan.load
    output = wrk_script.read(artifacts.files.get(wrk_script.OUTPUT_FILE), "wrk2")
    threads = wrk_script.usable_threads(load)
    return Result(
        duration_sec=output.duration_us / 1e6,
        planned=None if load.target_rps is None else round(load.target_rps * load.duration_sec),
        sent=output.sent,
        completed=output.requests,
        succeeded=wrk_script.good(output),
        errors=wrk_script.errors(output),
        bytes_read=output.bytes,
        bytes_written=output.bytes_written,
        latency=spectrum(artifacts.stdout, _CORRECTED),
        service_time=spectrum(artifacts.stdout, _UNCORRECTED),
        timeline=wrk_script.timeline(output, load.duration_sec),
        generator=wrk_script.generator(output, artifacts, threads),
        notes=(*_notes(plan, output), *wrk_script.notes(plan, threads, "wrk2")),
    )


def spectrum(text: str, title: str) -> Histogram:
    """Rebuild a histogram from a percentile spectrum that wrk2 printed: milliseconds against the cumulated count."""
    _, found, rest = text.partition(f"(HdrHistogram - {title}")
    if not found:
        raise ToolError(f"wrk2: printed no histogram of its {title.lower()}; is this wrk2 with --u_latency?")
    body, _, tail = rest.partition("#[Mean")
    moments = _MOMENTS.match(f"#[Mean{tail}")
    if moments is None:
        raise ToolError(f"wrk2: its histogram of the {title.lower()} breaks off")
    mean_ms, stdev_ms = (float(figure) for figure in moments.groups())
    return Histogram.of(_counts(body), mean_us=1000 * mean_ms, stdev_us=1000 * stdev_ms)


def _counts(body: str) -> Iterator[tuple[int, int]]:
    seen = 0
    for line in body.splitlines():
        row = _ROW.match(line)
        if row is not None:
            value_us, cumulated = round(1000 * float(row[1])), int(row[3])
            yield value_us, cumulated - seen
            seen = cumulated


def _notes(plan: Plan, output: wrk_script.Output) -> tuple[str, ...]:
    calibration = (
        f"the first {_CALIBRATION_SEC} s calibrate wrk2 and are in the counts but not in the latencies"
        if plan.load.duration_sec > _CALIBRATION_SEC
        else f"wrk2 needs {_CALIBRATION_SEC} s to calibrate itself, and the run was not longer: its latencies are "
        "those of the calibration"
    )
    notes = [
        "wrk2's timers tick in milliseconds: its latencies are up to about a millisecond too high",
        f"{calibration}; they are rebuilt from the percentiles that it prints",
    ]
    if output.errors["timeout"]:
        notes.append(
            "wrk2 counts a waiting connection as a timeout anew every two seconds: errors.timeout is not a number of "
            "requests"
        )
    return tuple(notes)


WRK2 = Engine(
    name="wrk2",
    binary="wrk2",
    remedy="put upstream's wrk2 there under this name, or leave `engine` out of the configuration to use metronome",
    version_arguments=("--version",),
    version_pattern=r"wrk (\S+) \[",
    command=command,
    parse=parse,
    whole_rates=True,
)
