"""Search for the capacity of a queue whose capacity is known, many times: `python tests/bench/search/run.py`.

Each search runs a profiler, as a user would, against a native server with exponential service times and a seed of its
own. The truth is computed (queues.py). Prints each answer beside it, the runs that it took, and how many were within
3 % (open loop) or one connection (closed loop). Searches run several at a time (--parallel), since the servers sleep
most of the time; more than three open loops on two cores compete for them, and their answers fall short.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.bench.engines.truth import compiled, known_server
from tests.bench.search.queues import Queue, largest_closed_number, largest_even_rate

PERCENT = 99


@dataclass(frozen=True)
class Case:
    """A queue, the limit of its p99, and the search."""

    name: str
    tool: str
    queue: Queue
    limit_ms: float
    config: dict[str, Any]
    truth: Callable[[Queue, float, float], float]
    unit: str

    def is_right(self, value: float, truth: float) -> bool:
        """Tell whether an answer is as near as a search is to come."""
        return abs(value - truth) <= (0.03 * truth if self.unit == "/s" else 1)


OPEN = Case(
    "open loop",
    "aml_labench_profiler",
    Queue(16, 200.0),
    30.0,
    {"target_rps": 50, "clients": 256, "timeout_sec": 3, "warmup_sec": 1},
    largest_even_rate,
    "/s",
)
CLOSED = Case(
    "closed loop",
    "aml_wrk_profiler",
    Queue(2, 200.0),
    42.0,
    {"connections": 1, "warmup_sec": 1},
    largest_closed_number,
    " connections",
)


@dataclass(frozen=True)
class Row:
    """One search."""

    seed: int
    answer: dict[str, Any] | None
    runs: int
    stopped: str
    wall_sec: float


def search(case: Case, seed: int, given: argparse.Namespace) -> Row:
    """Run a profiler's search against a server with this seed."""
    config = {
        **case.config,
        "duration_sec": given.full_sec,
        "search": {
            "constraints": {f"latency_ms_{PERCENT}": case.limit_ms},
            "max_runs": 12,
            "probe_sec": given.probe_sec,
        },
    }
    flags = (f"--servers={case.queue.servers}", f"--service-us={1e6 / case.queue.rate_per_sec}", f"--seed={seed}")
    with tempfile.TemporaryDirectory() as name, known_server(*flags) as server:
        folder = Path(name)
        target = {"version": "1.0", "deployment_settings": {"scoring_uri": f"{server.url}queue"}}
        (folder / "config.json").write_text(json.dumps({"version": 1.0, "profiler_config": config}))
        (folder / "target.json").write_text(json.dumps(target))
        began = time.monotonic()
        command = [sys.executable, "-m", case.tool, "--config_path=config.json", "--scoring_target_path=target.json"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1800, env=dict(os.environ))
        if done.returncode not in (0, 3):
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
        text = (folder / "outputs" / "report.json").read_text()
        if given.keep is not None:
            given.keep.mkdir(parents=True, exist_ok=True)
            (given.keep / f"{case.tool}-{seed}.json").write_text(text)
        report = json.loads(text)
        found = report["search"]
        return Row(seed, found["answer"], len(report["runs"]), found["stopped"], time.monotonic() - began)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the searches and print what they found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=20, help="of each kind")
    parser.add_argument("--only", choices=("open", "closed"), help="one kind")
    parser.add_argument("--parallel", type=int, default=3, help="searches at a time")
    parser.add_argument("--probe-sec", type=int, default=10)
    parser.add_argument("--full-sec", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1, help="of the first search")
    parser.add_argument("--keep", metavar="FOLDER", type=Path, help="keep the reports there")
    given = parser.parse_args(argv)
    compiled()
    for case in (OPEN, CLOSED):
        if given.only is None or case.name.startswith(given.only):
            _measure(case, given)


def _measure(case: Case, given: argparse.Namespace) -> None:
    truth = case.truth(case.queue, PERCENT, case.limit_ms / 1000)
    print(
        f"\n{case.name}: {case.queue.servers} servers of {case.queue.rate_per_sec:g}/s, p99 up to {case.limit_ms:g} ms;"
        f" truth {truth:.6g}{case.unit}\n"
    )
    print(
        "| seed | answer | off | interval | confirmed | runs | stopped | seconds |\n|---|---|---|---|---|---|---|---|"
    )
    began = time.monotonic()
    with ThreadPoolExecutor(given.parallel) as pool:
        seeds = range(given.seed, given.seed + given.searches)
        rows = list(pool.map(lambda seed: search(case, seed, given), seeds))
    right = near = within = 0
    for row in rows:
        if row.answer is None:
            print(f"| {row.seed} | none | | | | {row.runs} | {row.stopped} | {row.wall_sec:.0f} |")
            continue
        value, (low, high) = row.answer["value"], row.answer["interval"]
        near += case.is_right(value, truth)
        right += row.answer["confirmed"] and case.is_right(value, truth)
        within += low is not None and high is not None and low <= truth <= high
        off = f"{100 * (value / truth - 1):+.2f} %" if case.unit == "/s" else f"{value - truth:+g}"
        bounds = " to ".join("?" if bound is None else f"{bound:.5g}" for bound in (low, high))
        print(
            f"| {row.seed} | {value:.6g} | {off} | {bounds} | {'yes' if row.answer['confirmed'] else 'no'} "
            f"| {row.runs} | {row.stopped} | {row.wall_sec:.0f} |"
        )
    bound = "3 %" if case.unit == "/s" else "one connection"
    print(
        f"\n{near} of {len(rows)} answers are within {bound} of the truth, {right} of them confirmed; at most "
        f"{max(row.runs for row in rows)} runs; the interval holds the truth {within} times; "
        f"{time.monotonic() - began:.0f} s in all."
    )


if __name__ == "__main__":
    main()
