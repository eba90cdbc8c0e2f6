"""Measure load generators against a server of known behaviour: `python tests/bench/engines/run.py`.

Runs metronome, wrk and whatever else of wrk2, labench, k6, oha, hey and vegeta is on PATH, and prints one table: rate
asked for and reached, reported percentiles beside the server's own, CPU per request, timely sends. Every figure is the
median of --repeats runs. The server is native, so that it is not what is measured. Beside every open-loop case
cyclictest, where it is on PATH, sleeps at the same rate: how late this machine wakes a program that does nothing else.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.bench.engines.engines import ENGINES, Case, Engine, Reading
from tests.bench.engines.truth import compiled, known_server
from tests.bench.engines.wakeups import Wakeups, wakeups

CASES = (
    Case("5 ms service, 200/s", ("--delay-us", "5000"), 200, 16, 10),
    Case("no service time, 1000/s", (), 1000, 16, 10),
    Case("0.2 ms service, 10000/s", ("--delay-us", "200"), 10_000, 32, 10),
    # 200 of 3000 requests are due in the stall and wait evenly from 2 s down to none: p95 500 ms, p99 1700 ms. It
    # begins 2 ms ahead of a due time, so that no request falls on its edge.
    Case("one 2 s stall in 30 s, 100/s", ("--stall-at=9.998", "--stall-for=2"), 100, 16, 30, (0.0, 500.0, 1700.0)),
    Case("no service time, closed loop", (), None, 32, 5),
)
HEAD = (
    "| case | engine | asked/s | reached/s | off % | p50 ms | p95 ms | p99 ms | truth p50 / p95 / p99 ms "
    "| CPU µs/request | timely sends % |"
)
CONTROL_HEAD = "| case | sleeps/s | late by p50 µs | p95 µs | p99 µs | p99.9 µs | below 100 µs % |"


@dataclass(frozen=True)
class Row:
    """One run: what the generator said, what the server said, what the kernel said."""

    reading: Reading
    truth: tuple[float, float, float]
    cpu_us: float


def measure(engine: Engine, case: Case, prefix: tuple[str, ...]) -> Row:
    with tempfile.TemporaryDirectory() as name, known_server(*case.server_flags, prefix=prefix) as server:
        folder = Path(name)
        command = [*prefix, *engine.command(case, server.url, folder)]
        stdin = engine.input(server.url) if engine.input is not None else None
        before = os.times()
        done = subprocess.run(
            command, input=stdin, cwd=folder, capture_output=True, text=True, timeout=case.duration_sec + 60
        )
        after = os.times()
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)} failed ({done.returncode}):\n{done.stderr[-2000:]}")
        reading = engine.read(done.stdout, folder)
        own = server.stop()["service_time_us"]
    used_sec = after.children_user + after.children_system - before.children_user - before.children_system
    truth = case.known_ms or (own["p50"] / 1e3, own["p95"] / 1e3, own["p99"] / 1e3)
    return Row(reading, truth, used_sec * 1e6 / max(reading.requests, 1))


def middle(rows: list[Row]) -> Row:
    """Take the median of every figure by itself."""
    readings = [row.reading for row in rows]
    timely = [one.timely_percent for one in readings if one.timely_percent is not None]
    return Row(
        Reading(
            median(one.requests / one.duration_sec for one in readings),
            1.0,
            median(one.p50 for one in readings),
            median(one.p95 for one in readings),
            median(one.p99 for one in readings),
            median(timely) if timely else None,
        ),
        (median(r.truth[0] for r in rows), median(r.truth[1] for r in rows), median(r.truth[2] for r in rows)),
        median(row.cpu_us for row in rows),
    )


def line(case: Case, engine: Engine, row: Row) -> str:
    one = row.reading
    off = "-" if case.rate is None else f"{100 * (one.requests / case.rate - 1):+.2f}"
    timely = "-" if one.timely_percent is None else f"{one.timely_percent:.2f}"
    truth = " / ".join(f"{value:.3f}" for value in row.truth)
    cells = (
        case.title, engine.name, "closed" if case.rate is None else str(case.rate), f"{one.requests:.1f}", off,
        f"{one.p50:.3f}", f"{one.p95:.3f}", f"{one.p99:.3f}", truth, f"{row.cpu_us:.1f}", timely,
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def ratios(rows: dict[tuple[str, str], Row]) -> list[str]:
    """Compare metronome with the others, case by case."""
    said = []
    for case in CASES:
        ours = {
            name: row for (title, name), row in rows.items() if title == case.title and name.startswith("metronome")
        }
        others = {name: row for (title, name), row in rows.items() if title == case.title and name not in ours}
        for name, row in ours.items():
            for other, theirs in others.items():
                rate = row.reading.requests / theirs.reading.requests
                said.append(
                    f"{case.title}: {name} / {other}: rate {rate:.3f}, p50 {row.reading.p50 / theirs.reading.p50:.3f}, "
                    f"p99 {row.reading.p99 / theirs.reading.p99:.3f}, CPU per request {row.cpu_us / theirs.cpu_us:.3f}"
                )
            if case.rate is not None:
                extra = [1e3 * (got - true) for got, true in zip(
                    (row.reading.p50, row.reading.p95, row.reading.p99), row.truth, strict=True)]  # fmt: skip
                said.append(
                    f"{case.title}: {name} above the truth: p50 {extra[0]:.0f} µs, p95 {extra[1]:.0f} µs, "
                    f"p99 {extra[2]:.0f} µs"
                )
    return said


def control(case: Case, runs: list[Wakeups]) -> str:
    """One line of the machine's own wake-ups; every figure is the median of the runs."""
    p50, p95, p99, p999 = (median(run.percentile(q) for run in runs) for q in (50, 95, 99, 99.9))
    timely = median(run.timely_percent for run in runs)
    return f"| {case.title} | {case.rate} | {p50:.0f} | {p95:.0f} | {p99:.0f} | {p999:.0f} | {timely:.2f} |"


def machine() -> str:
    model = next(
        (text.split(":")[1].strip() for text in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in text),
        platform.machine(),
    )
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({model}), {memory_gib:.0f} GiB, Linux {platform.release()}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="runs per case and engine (3)")
    parser.add_argument("--only", default="", help="only the cases whose title contains this")
    parser.add_argument("--short", action="store_true", help="3 s per run; the stall case is left out")
    parser.add_argument(
        "--realtime", action="store_true", help="server and generators under SCHED_FIFO: for a machine with other work"
    )
    asked = parser.parse_args()
    prefix = ("chrt", "--fifo", "50") if asked.realtime else ()
    found = [engine for engine in ENGINES if shutil.which(engine.binary) is not None]
    missing = sorted({engine.binary for engine in ENGINES} - {engine.binary for engine in found})
    cases = [case for case in CASES if asked.only in case.title]
    if asked.short:
        cases = [replace(case, duration_sec=3) for case in cases if case.known_ms is None]
    compiled()
    scheduling = "SCHED_FIFO" if asked.realtime else "ordinary scheduling"
    print(f"{datetime.date.today()}, {machine()}, loopback, one thread per generator; median of {asked.repeats} runs")
    print(f"{scheduling}; load average before: {os.getloadavg()[0]:.2f}; not on PATH: {', '.join(missing) or 'none'}\n")
    print(HEAD + "\n|" + "---|" * (HEAD.count("|") - 1), flush=True)
    rows: dict[tuple[str, str], Row] = {}
    controls: list[str] = []
    for case in cases:
        slept: list[Wakeups] = []
        for engine in found:
            if not (engine.closed if case.rate is None else engine.open):
                continue
            runs = []
            for _ in range(asked.repeats):
                if case.rate is not None and (seen := wakeups(case.rate, case.duration_sec, prefix=prefix)) is not None:
                    slept.append(seen)
                runs.append(measure(engine, case, prefix))
                time.sleep(0.2)
            rows[case.title, engine.name] = middle(runs)
            print(line(case, engine, rows[case.title, engine.name]), flush=True)
        if slept:
            controls.append(control(case, slept))
    if controls:
        print("\ncyclictest at the same rates, in turn with the runs above: how late a bare sleep ends here\n")
        print(f"{CONTROL_HEAD}\n|" + "---|" * (CONTROL_HEAD.count("|") - 1))
        print("\n".join(controls))
    else:
        print("\ncyclictest (Debian: rt-tests) is not on PATH: the machine's own wake-ups are not measured")
    print("\n" + "\n".join(ratios(rows)))
    print(f"load average after: {os.getloadavg()[0]:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
