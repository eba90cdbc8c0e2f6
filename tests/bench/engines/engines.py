"""The load generators that the benchmark knows: how each is started for a case, and how its output is read."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Case:
    """One load against a server of known behaviour; `rate` None is a closed loop."""

    title: str
    server_flags: tuple[str, ...]
    rate: int | None
    connections: int
    duration_sec: int
    known_ms: tuple[float, float, float] | None = None  # p50, p95, p99 that follow from the case itself


@dataclass(frozen=True)
class Reading:
    """What a generator reported; milliseconds."""

    requests: float
    duration_sec: float
    p50: float
    p95: float
    p99: float
    timely_percent: float | None = None


@dataclass(frozen=True)
class Engine:
    """`command(case, url, folder)` may write files into the folder; `read(stdout, folder)` gets what it left."""

    name: str
    binary: str
    closed: bool
    open: bool
    command: Callable[[Case, str, Path], list[str]]
    read: Callable[[str, Path], Reading]
    input: Callable[[str], str] | None = None


def metronome(schedule: str) -> Engine:
    def command(case: Case, url: str, folder: Path) -> list[str]:
        rate = [] if case.rate is None else ["--rate", str(case.rate)]
        return [
            "metronome", "--url", url, "--schedule", schedule, *rate, "--connections", str(case.connections),
            "--duration", str(case.duration_sec), "--json", str(folder / "out.json"),
        ]  # fmt: skip

    def read(_stdout: str, folder: Path) -> Reading:
        report = json.loads((folder / "out.json").read_text())
        at = {key: value / 1e3 for key, value in report["latency"]["percentiles_us"].items()}
        timely = report["schedule"]["timely_percent"] if schedule != "none" else None
        return Reading(report["requests"]["completed"], report["window_sec"], at["50"], at["95"], at["99"], timely)

    closed = schedule == "none"
    name = "metronome" if closed else f"metronome, {schedule}"
    return Engine(name, "metronome", closed, not closed, command, read)


LUA = """
done = function(summary, latency)
  io.write(string.format('\\nRESULT {"requests": %d, "duration_us": %d, "p50": %d, "p95": %d, "p99": %d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(95), latency:percentile(99)))
end
"""


def wrk(name: str, has_rate: bool) -> Engine:
    def command(case: Case, url: str, folder: Path) -> list[str]:
        (folder / "done.lua").write_text(LUA)
        rate = ["-R", str(case.rate)] if has_rate else []
        return [
            name, "-t1", f"-c{case.connections}", f"-d{case.duration_sec}s", *rate, "-s", str(folder / "done.lua"), url,
        ]  # fmt: skip

    def read(stdout: str, _folder: Path) -> Reading:
        found = re.search(r"RESULT (\{.*\})", stdout)
        if found is None:
            raise ValueError(f"{name} printed no RESULT line")
        got = json.loads(found[1])
        return Reading(
            got["requests"], got["duration_us"] / 1e6, got["p50"] / 1e3, got["p95"] / 1e3, got["p99"] / 1e3
        )  # fmt: skip

    return Engine(name, name, not has_rate, has_rate, command, read)


def labench_command(case: Case, url: str, folder: Path) -> list[str]:
    (folder / "labench.yaml").write_text(
        f"RequestRatePerSec: {case.rate}\nClients: {case.connections}\nDuration: {case.duration_sec}s\n"
        f"RequestTimeout: 10s\nReuseConnections: true\nOutputJSON: true\n"
        f"Request:\n  URL: {url}\n  HTTPMethod: GET\n"
    )
    return ["labench", "labench.yaml"]


def labench_read(stdout: str, folder: Path) -> Reading:
    rows = [line.split() for line in (folder / "out" / "res.hgrm").read_text().splitlines()[2:]]
    curve = [(float(row[1]), float(row[0])) for row in rows if len(row) == 4]
    at = {p: min(value for share, value in curve if share >= p) for p in (0.5, 0.95, 0.99)}
    total = re.search(r"RequestTotal: (\d+)", stdout)
    elapsed = re.search(r"TimeElapsed: ([0-9.]+)s", stdout)
    timely = re.search(r"Sends=\d+, TimelySends = \d+, .*?([0-9.]+)% good", stdout)
    if total is None or elapsed is None:
        raise ValueError("labench printed no summary")
    return Reading(
        int(total[1]), float(elapsed[1]), at[0.5], at[0.95], at[0.99], float(timely[1]) if timely else None
    )  # fmt: skip


def k6_command(case: Case, url: str, folder: Path) -> list[str]:
    (folder / "load.js").write_text(
        "import http from 'k6/http';\n"
        "export const options = {summaryTrendStats: ['med', 'p(95)', 'p(99)'], scenarios: {even: {"
        f"executor: 'constant-arrival-rate', rate: {case.rate}, timeUnit: '1s', duration: '{case.duration_sec}s', "
        f"preAllocatedVUs: {case.connections}, maxVUs: {case.connections}}}}}}};\n"
        f"export default () => {{ http.get('{url}'); }};\n"
    )
    return ["k6", "run", "--quiet", "--summary-export", str(folder / "k6.json"), str(folder / "load.js")]


def k6_read(_stdout: str, folder: Path) -> Reading:
    metrics: dict[str, Any] = json.loads((folder / "k6.json").read_text())["metrics"]
    times, count = metrics["http_req_duration"], metrics["http_reqs"]
    return Reading(
        count["count"], count["count"] / count["rate"], times["med"], times["p(95)"], times["p(99)"]
    )  # fmt: skip


def percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def hey_command(case: Case, url: str, _folder: Path) -> list[str]:
    rate = [] if case.rate is None else ["-q", str(case.rate / case.connections)]
    return ["hey", "-z", f"{case.duration_sec}s", "-c", str(case.connections), *rate, "-o", "csv", url]


def hey_read(stdout: str, _folder: Path) -> Reading:
    rows = list(csv.DictReader(io.StringIO(stdout)))
    times = sorted(float(row["response-time"]) * 1e3 for row in rows)
    lasted = max(float(row["offset"]) for row in rows)
    return Reading(len(times), lasted, percentile(times, 0.5), percentile(times, 0.95), percentile(times, 0.99))


def oha_command(case: Case, url: str, _folder: Path) -> list[str]:
    rate = [] if case.rate is None else ["-q", str(case.rate), "--latency-correction"]
    return ["oha", "-z", f"{case.duration_sec}s", "-c", str(case.connections), *rate, "--no-tui", "--json", url]


def oha_read(stdout: str, _folder: Path) -> Reading:
    report = json.loads(stdout)
    total, at = report["summary"], report["latencyPercentiles"]
    requests = total["requestsPerSec"] * total["total"]
    return Reading(requests, total["total"], at["p50"] * 1e3, at["p95"] * 1e3, at["p99"] * 1e3)


def vegeta_command(case: Case, _url: str, _folder: Path) -> list[str]:
    attack = (
        f"vegeta attack -rate={case.rate} -duration={case.duration_sec}s -workers={case.connections} "
        f"-max-workers={case.connections} | vegeta report -type=json"
    )
    return ["bash", "-c", attack]


def vegeta_read(stdout: str, _folder: Path) -> Reading:
    report = json.loads(stdout)
    at = report["latencies"]
    lasted = report["duration"] / 1e9
    return Reading(report["requests"], lasted, at["50th"] / 1e6, at["95th"] / 1e6, at["99th"] / 1e6)


ENGINES = (
    metronome("connection"),
    metronome("clock"),
    metronome("none"),
    wrk("wrk", has_rate=False),
    wrk("wrk2", has_rate=True),
    Engine("labench", "labench", False, True, labench_command, labench_read),
    Engine("k6", "k6", False, True, k6_command, k6_read),
    Engine("oha", "oha", True, True, oha_command, oha_read),
    Engine("hey", "hey", True, True, hey_command, hey_read),
    Engine("vegeta", "vegeta", False, True, vegeta_command, vegeta_read, input=lambda url: f"GET {url}\n"),
)
