"""The upstream LaBench, for those who have it: its YAML file, and what it prints and leaves behind."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from aml_tool_core.errors import InputError, ToolError
from aml_tool_core.profiling import Artifacts, Command, Engine, Errors, Generator, Histogram, Plan, Result, Schedule

CONFIG_FILE = "labench.yaml"
HISTOGRAM_FILE = "out/res.hgrm"  # below its working folder
_JSON = re.compile(r"^Json Output: (\{.*\})$", re.MULTILINE)
_ROW = re.compile(r"^(\d+\.\d+)\s+([01]\.\d+)\s+\d+\s+(?:\d+\.\d+|\+Inf)$", re.MULTILINE)
_STATUS = re.compile(r"(?:^|got )([1-9]\d\d)$")
_KINDS = (
    ("timeout", re.compile(r"timeout|deadline exceeded", re.IGNORECASE)),
    ("connect", re.compile(r"\bdial\b|connection refused|no such host|certificate|handshake", re.IGNORECASE)),
    ("write", re.compile(r"\bwrite\b|broken pipe", re.IGNORECASE)),
)


def command(plan: Plan, folder: Path) -> Command:
    """Return LaBench's arguments and its YAML file. Raises InputError for what LaBench cannot do."""
    load, target = plan.load, plan.target
    if load.target_rps is None or load.target_rps != int(load.target_rps):
        place = f"{plan.config_source}: /profiler_config/target_rps"
        raise InputError(f"{place}: {load.target_rps}: engine labench takes whole numbers only")
    for name, value in target.headers.items():
        if name.lower() == "host" or "$" in value:
            place = f"{plan.target_source}: /deployment_settings/scoring_headers/{name}"
            raise InputError(
                f"{place}: engine labench cannot send it as it is; leave `engine` out of the configuration"
            )
    request: dict[str, Any] = {
        "URL": target.uri,
        "HTTPMethod": plan.payload.method,
        "Headers": {"User-Agent": plan.user_agent, **_content_type(plan), **target.headers},
    }
    if plan.payload.bodies:
        request["Body"] = plan.payload.bodies[0].decode("utf-8")
    config = {
        "RequestRatePerSec": int(load.target_rps),
        "Clients": load.connections,
        "Duration": f"{load.duration_sec}s",
        "RequestTimeout": f"{round(1000 * load.timeout_sec)}ms",
        "ReuseConnections": True,
        "OutputJSON": True,
        "Request": request,
    }
    text = yaml.safe_dump(config, allow_unicode=True, sort_keys=False, width=2**31)
    # The variable that Go's TLS reads, as well as Python's.
    env = {} if plan.ca_file is None else {"SSL_CERT_FILE": str(Path(plan.ca_file).absolute())}
    return Command((str(folder / CONFIG_FILE),), {CONFIG_FILE: text.encode("utf-8")}, env)


def parse(plan: Plan, artifacts: Artifacts) -> Result:
    """Read LaBench's JSON line and its .hgrm file. Raises ToolError where one is missing."""
    load = plan.load
    told = _told(artifacts.stdout)
    errors = _errors(told["Errors"] or {})
    good_but_not_200 = sum(count for code, count in (errors.status or {}).items() if 200 <= code <= 299)
    completed = told["SuccessTotal"] + sum((errors.status or {}).values())
    sent = told["SuccessTotal"] + told["ErrorTotal"]
    planned = round((load.target_rps or 0) * load.duration_sec)
    duration_sec = told["TimeElapsed"] / 1e9
    return Result(
        duration_sec=duration_sec,
        planned=planned,
        sent=sent,
        completed=completed,
        succeeded=told["SuccessTotal"] + good_but_not_200,
        errors=Errors(
            errors.connect, errors.read, errors.write, errors.timeout,
            {code: count for code, count in (errors.status or {}).items() if not 200 <= code <= 299},
        ),
        bytes_read=None,
        bytes_written=None,
        latency=histogram(artifacts.files.get(HISTOGRAM_FILE), told["SuccessTotal"]),
        schedule=Schedule(
            timely_sends_percent=100 * min(1.0, told["SendsTimely"] / max(planned, 1)),
            late=sent - told["SendsTimely"],
            missed=max(0, planned - sent),
        ),
        generator=Generator(artifacts.cpu_sec, 100 * artifacts.cpu_sec / duration_sec),
        notes=_notes(plan),
    )  # fmt: skip


def histogram(text: str | None, count: int) -> Histogram:
    """Rebuild the histogram of so many answers from an .hgrm file: milliseconds against quantiles."""
    if text is None:
        raise ToolError(f"labench: left no {HISTOGRAM_FILE}")
    if count and not _ROW.search(text):
        raise ToolError(f"labench: its {HISTOGRAM_FILE} holds no percentiles")
    return Histogram.of(_counts(text, count))


def _counts(text: str, count: int) -> Iterator[tuple[int, int]]:
    seen = 0
    for value_ms, quantile in _ROW.findall(text):
        cumulated = round(float(quantile) * count)
        yield round(1000 * float(value_ms)), cumulated - seen
        seen = cumulated


def _told(stdout: str) -> dict[str, Any]:
    line = _JSON.search(stdout)
    if line is None:
        raise ToolError("labench: printed no JSON; did it end early?")
    try:
        told: dict[str, Any] = json.loads(line[1])
    except ValueError:
        raise ToolError("labench: the JSON that it printed cannot be read") from None
    return told


def _errors(by_text: Mapping[str, int]) -> Errors:
    """Sort LaBench's errors, which it tells by their text: a status code, or what Go's HTTP client said."""
    kinds = {"connect": 0, "read": 0, "write": 0, "timeout": 0}
    status: dict[int, int] = {}
    for text, count in by_text.items():
        code = _STATUS.search(text)
        if code is not None:
            status[int(code[1])] = status.get(int(code[1]), 0) + count
        else:
            kinds[next((kind for kind, form in _KINDS if form.search(text)), "read")] += count
    return Errors(**kinds, status=status)


def _content_type(plan: Plan) -> dict[str, str]:
    given = {name.lower() for name in plan.target.headers}
    return {} if "content-type" in given or not plan.payload.bodies else {"Content-Type": "application/json"}


def _notes(plan: Plan) -> tuple[str, ...]:
    notes = [
        "LaBench counts latency from the moment a request was really sent, of answers with status 200 alone, and from "
        "1 ms up in steps of half a millisecond",
        "LaBench drops a tick that finds every client busy: a stall of the target is not in its latencies but in "
        "schedule.missed",
    ]
    if len(plan.payload.bodies) > 1:
        notes.append(f"LaBench sends a single body: the first of the {len(plan.payload.bodies)}")
    return tuple(notes)


LABENCH = Engine(
    name="labench",
    binary="labench",
    remedy="put upstream's labench there, or leave `engine` out of the configuration to use metronome",
    version_arguments=None,
    version_pattern="",
    command=command,
    parse=parse,
    whole_rates=True,
)
