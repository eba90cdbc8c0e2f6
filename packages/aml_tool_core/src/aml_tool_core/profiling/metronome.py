"""metronome: its command line, and what its JSON means. Both open-loop profilers drive it, each with its schedule."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from aml_tool_core import documents
from aml_tool_core.errors import InputError, ToolError
from aml_tool_core.profiling.engine import Artifacts, Command, Engine, Plan
from aml_tool_core.profiling.histogram import Histogram
from aml_tool_core.profiling.load import SendSchedule
from aml_tool_core.profiling.progress import Counts, Snapshot
from aml_tool_core.profiling.result import Errors, Generator, Result, Schedule, Second

URL_FILE = "url.txt"
HEADERS_FILE = "headers.txt"
PAYLOAD_FILE = "payload.jsonl"
OUTPUT_FILE = "output.json"
OUTPUT_SCHEMA = "metronome_output"


def metronome(schedule: SendSchedule) -> Engine:
    """Return the engine with one of its schedules: `connection` (wrk2's load model) or `clock` (LaBench's)."""
    return Engine(
        name="metronome",
        binary="metronome",
        remedy="install it (pip install packages/metronome)",
        version_arguments=("--version",),
        version_pattern=r"metronome (\S+)",
        command=partial(command, schedule.value),
        parse=parse,
        progress=progress,
        warms_up=True,
        starts_at=True,
        start_missed=r"--start-at: .* too late",
    )


def command(schedule: str, plan: Plan, folder: Path) -> Command:
    """Return metronome's arguments; the URL, whose query may hold a key, and the headers are in private files.

    Raises InputError for a body that a line cannot hold.
    """
    load, target = plan.load, plan.target
    own = {name.lower() for name in target.headers}
    headers = dict(target.headers) if "user-agent" in own else {"User-Agent": plan.user_agent, **target.headers}
    files = {
        URL_FILE: f"{target.uri}\n".encode(),
        HEADERS_FILE: "".join(f"{name}: {value}\n" for name, value in headers.items()).encode("utf-8"),
    }
    arguments = [
        "--url-file", str(folder / URL_FILE),
        "--header-file", str(folder / HEADERS_FILE),
        "--method", plan.payload.method,
        "--schedule", schedule,
        "--rate", f"{load.target_rps:.17g}",
        "--connections", str(load.connections),
        "--threads", str(load.threads),
        "--duration", f"{load.duration_sec}",
        "--warmup", f"{load.warmup_sec}",
        "--timeout", f"{load.timeout_sec:g}",
        "--json", str(folder / OUTPUT_FILE),
        "--progress",
    ]  # fmt: skip
    if plan.payload.bodies:
        files[PAYLOAD_FILE] = _lines(plan)
        arguments += ["--payload", str(folder / PAYLOAD_FILE)]
    if plan.start_at_ns is not None:
        arguments += ["--start-at", str(plan.start_at_ns)]
    if plan.ca_file is not None:
        arguments += ["--ca", str(Path(plan.ca_file).absolute())]
    return Command(tuple(arguments), files)


def _lines(plan: Plan) -> bytes:
    """Return the payload as metronome reads it: a line is a body, and a carriage return at its end no part of it."""
    if any(b"\n" in body or body.endswith(b"\r") for body in plan.payload.bodies):
        in_config = plan.payload.source == "profiler_config"
        place = f"{plan.config_source}: /profiler_config/payload" if in_config else f"{plan.payload.source}"
        raise InputError(
            f"{place}: holds a line break in a body that is not JSON, which engine metronome cannot send; remove it, "
            "or use another engine"
        )
    return b"".join(body + b"\n" for body in plan.payload.bodies)


def parse(plan: Plan, artifacts: Artifacts) -> Result:
    """Read metronome's JSON. Raises ToolError where it is not there or not what its schema says."""
    document = _document(artifacts)
    requests, schedule = document["requests"], document["schedule"]
    errors = document["errors"]
    return Result(
        duration_sec=document["window_sec"],
        planned=requests["planned"],
        sent=requests["sent"],
        completed=requests["completed"],
        succeeded=requests["succeeded"],
        errors=Errors(
            connect=errors["connect"],
            read=errors["read"] + errors["protocol"],
            write=errors["write"],
            timeout=errors["timeout"],
            status={int(code): count for code, count in document["status"].items() if not 200 <= int(code) <= 299},
        ),
        bytes_read=document["bytes_read"],
        bytes_written=document["bytes_written"],
        latency=_histogram(document["latency"]),
        service_time=_histogram(document["service_time"]),
        schedule=Schedule(
            timely_sends_percent=schedule["timely_percent"],
            late=schedule["late"],
            missed=schedule["missed"],
            max_delay_ms=schedule["max_delay_us"] / 1000,
            late_busy=schedule["late_busy"],
            own_delay_ms_99=schedule["delay_generator_us_p99"] / 1000,
            own_delay_ms_max=schedule["max_delay_generator_us"] / 1000,
        ),
        # Whole seconds: what follows is the drain and, of a run that was stopped, a second's beginning.
        timeline=tuple(_second(row) for row in document["timeline"] if row["t_sec"] + 1 <= document["window_sec"]),
        generator=_generator(document),
        notes=_error_notes(document["error_reasons"]),
    )


def progress(line: str) -> Snapshot | None:
    """Read one line of `--progress`; None for any other."""
    if not line.startswith("{"):
        return None
    try:
        told = json.loads(line)
        counts = Counts(
            errors=int(told["errors"]),
            not_2xx=_by_code(told["not_2xx"]),
            latency_us=_pairs(told["latency_us"]),
            service_time_us=_pairs(told["service_time_us"]),
        )
        wrong = counts.errors + sum(counts.not_2xx.values())
        latency_ms_99 = told["latency_us_p99"] / 1000 if counts.latency_us else None  # nothing was answered, so no 0
        return Snapshot(float(told["requests_per_sec"]), latency_ms_99, wrong, counts)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # something else that metronome said; it is kept for the error message


def _document(artifacts: Artifacts) -> dict[str, Any]:
    text = artifacts.files.get(OUTPUT_FILE)
    if text is None:
        raise ToolError("metronome: ended without a result")
    try:
        document: dict[str, Any] = documents.parse_json(text, "metronome's output")
        documents.validate(document, OUTPUT_SCHEMA, "metronome's output")
    except InputError as error:
        raise ToolError(f"{error}; install the metronome of this release") from None
    return document


def _by_code(counts: Mapping[str, int]) -> dict[int, int]:
    return {int(code): int(count) for code, count in counts.items()}


def _pairs(histogram: Sequence[Sequence[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((int(value), int(count)) for value, count in histogram)


def _histogram(distribution: Mapping[str, Any]) -> Histogram:
    return Histogram.of(
        _pairs(distribution["histogram"]), mean_us=distribution["mean_us"], stdev_us=distribution["stdev_us"]
    )


def _second(row: Mapping[str, Any]) -> Second:
    answered = row["completed"] > 0
    return Second(
        t_sec=row["t_sec"],
        requests_per_sec=float(row["completed"]),
        errors=row["errors"] + sum(row["not_2xx"].values()),
        latency_us_50=row["latency_us_p50"] if answered else None,
        latency_us_99=row["latency_us_p99"] if answered else None,
    )


def _generator(document: Mapping[str, Any]) -> Generator:
    cpu = document["cpu"]
    threads_sec = document["window_sec"] * len(cpu["threads"])
    used_sec = cpu["user_sec"] + cpu["system_sec"]
    return Generator(
        cpu_sec=used_sec,
        cpu_percent_of_threads=100 * used_sec / threads_sec,
        run_queue_wait_percent=100 * cpu["run_queue_wait_sec"] / threads_sec,
    )


def _error_notes(reasons: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(f"{each['count']} {each['kind']} errors: {each['reason']}" for each in reasons)
