"""The Lua script that drives wrk and wrk2, the requests it sends, and what it writes."""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import accumulate
from pathlib import Path

from aml_tool_core.errors import ToolError
from aml_tool_core.profiling.engine import Artifacts, Plan
from aml_tool_core.profiling.load import Load
from aml_tool_core.profiling.payload import JSON_TYPE, Payload
from aml_tool_core.profiling.result import Errors, Generator, Second
from aml_tool_core.profiling.target import Target

SCRIPT_FILE = "profiler.lua"
REQUESTS_FILE = "requests.bin"
OUTPUT_FILE = "output.json"


@dataclass(frozen=True)
class Output:
    """What the script wrote; times in microseconds."""

    duration_us: int
    requests: int
    bytes: int
    sent: int
    bytes_written: int
    errors: Mapping[str, int]
    status: Mapping[int, int]
    answers: Mapping[int, int]  # by second of the run
    failures: Mapping[int, int]  # by second of the run: answers that were not 2xx
    latency_us: tuple[tuple[int, int], ...]  # value, count


def script() -> bytes:
    """Return the Lua script."""
    return files(__package__).joinpath("wrk_script.lua").read_bytes()


def script_arguments(folder: Path, files: Mapping[str, bytes], threads: int) -> tuple[str, ...]:
    """Return what follows `--` on wrk's command line: paths and numbers, nothing secret."""
    size = str(len(files[REQUESTS_FILE]))
    return (str(folder / REQUESTS_FILE), size, str(folder / OUTPUT_FILE), str(threads))


def request_files(target: Target, payload: Payload, user_agent: str) -> dict[str, bytes]:
    """Return the script and its requests as files."""
    return {SCRIPT_FILE: script(), REQUESTS_FILE: _packed(requests(target, payload, user_agent))}


def _packed(requests: Sequence[bytes]) -> bytes:
    """Return the requests' number, their offsets and that of the end (native 64-bit numbers), then the requests."""
    head_bytes = 8 * (len(requests) + 2)
    offsets = accumulate((len(request) for request in requests), initial=head_bytes)
    return array("q", [len(requests), *offsets]).tobytes() + b"".join(requests)


def requests(target: Target, payload: Payload, user_agent: str) -> list[bytes]:
    """Return each HTTP/1.1 request whole (RFC 9112); the target's own headers win over the usual ones."""
    method = payload.method
    headers = {"Host": target.authority, "User-Agent": user_agent}
    if method == "POST":
        headers["Content-Type"] = JSON_TYPE
    own = {name.lower() for name in target.headers}
    headers = {name: value for name, value in headers.items() if name.lower() not in own} | dict(target.headers)
    lines = [f"{method} {target.request_path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    head = "\r\n".join(lines).encode("utf-8")
    if not payload.bodies:
        return [head + b"\r\n\r\n"]
    return [b"%b\r\nContent-Length: %d\r\n\r\n%b" % (head, len(body), body) for body in payload.bodies]


def read(text: str | None, engine: str) -> Output:
    """Parse what the script wrote. Raises ToolError where it is not there or not whole."""
    if text is None:
        raise ToolError(f"{engine}: ended without a result; is its Lua script engine (LuaJIT) intact?")
    try:
        raw = json.loads(text)
        return Output(
            duration_us=raw["duration_us"],
            requests=raw["requests"],
            bytes=raw["bytes"],
            sent=raw["sent"],
            bytes_written=raw["bytes_written"],
            errors=raw["errors"],
            status=_by_number(raw["status"]),
            answers=_by_number(raw["answers"]),
            failures=_by_number(raw["failures"]),
            latency_us=tuple((int(value), int(count)) for value, count in raw["latency_us"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ToolError(f"{engine}: its result cannot be read: {error!r}") from None


def good(output: Output) -> int:
    """Return the answers that were 2xx."""
    return sum(count for code, count in output.status.items() if 200 <= code <= 299)


def succeeded(output: Output) -> int:
    """Return the answers that were 2xx and in time (wrk; wrk2 counts timeouts otherwise)."""
    return max(0, good(output) - output.errors["timeout"])


def errors(output: Output) -> Errors:
    """Return the errors by kind; codes other than 2xx by their number."""
    return Errors(
        connect=output.errors["connect"],
        read=output.errors["read"],
        write=output.errors["write"],
        timeout=output.errors["timeout"],
        status={code: count for code, count in output.status.items() if not 200 <= code <= 299},
    )


def generator(output: Output, artifacts: Artifacts, threads: int) -> Generator:
    """Return what the generator used, as a share of what its threads could."""
    threads_sec = output.duration_us / 1e6 * threads
    workers = artifacts.workers
    if workers is None:
        return Generator(artifacts.cpu_sec, 100 * artifacts.cpu_sec / threads_sec)
    return Generator(
        cpu_sec=workers.cpu_sec,
        cpu_percent_of_threads=100 * workers.cpu_sec / threads_sec,
        run_queue_wait_percent=100 * workers.run_queue_wait_sec / threads_sec,
    )


def usable_threads(load: Load) -> int:
    """Return the most threads, up to what was asked for, that share the connections evenly; wrk drops a remainder."""
    return next(threads for threads in range(load.threads, 0, -1) if load.connections % threads == 0)


def notes(plan: Plan, threads: int, engine: str) -> tuple[str, ...]:
    """Return what wrk and its kin do otherwise than asked, in words."""
    said = []
    if threads != plan.load.threads:
        said.append(
            f"{threads} thread(s) were used instead of {plan.load.threads}: {engine} opens the same number of "
            f"connections in each, and {plan.load.connections} are to be open"
        )
    if plan.target.parts.scheme == "https":
        said.append(
            f"{engine} does not verify TLS certificates; the target's was verified once, before the run, on a "
            "connection of its own"
        )
    return tuple(said)


def timeline(output: Output, duration_sec: int) -> tuple[Second, ...]:
    """Return the whole seconds of the run; the engine's last fraction of a second would look like a drop."""
    return tuple(
        Second(second, float(output.answers.get(second, 0)), output.failures.get(second, 0))
        for second in range(duration_sec)
    )


def uncorrected(
    latency_us: Sequence[tuple[int, int]], duration_us: int, requests: int, connections: int
) -> tuple[tuple[int, int], ...]:
    """Return the latencies that wrk measured, without those that it made up.

    Before wrk reports, it adds to every latency of at least twice the expected interval (duration by requests per
    connection) a row of invented ones, each an interval shorter than the last (stats_correct in wrk's stats.c), to
    estimate what an open loop would have seen. Counting down from the largest, which nobody added to, undoes it.
    """
    per_connection = requests // connections
    interval = duration_us // per_connection if per_connection else 0
    counts = dict(latency_us)
    if interval == 0:
        return tuple(latency_us)
    for value in sorted(counts, reverse=True):
        measured = counts[value]
        if value < 2 * interval:
            break
        invented = value - interval
        while measured and invented > interval:
            counts[invented] = counts.get(invented, 0) - measured
            invented -= interval
    return tuple(sorted((value, count) for value, count in counts.items() if count))


def _by_number(counts: Mapping[str, int]) -> dict[int, int]:
    return {int(key): int(count) for key, count in counts.items()}
