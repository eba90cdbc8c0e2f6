"""Searches with real load generators against a native server whose capacity is known.

`python tests/bench/search/run.py` makes many of them, longer ones, and counts how often they are right.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.bench.search.queues import Queue, largest_closed_number

if TYPE_CHECKING:
    from tests.contract.profilers.conftest import Case

Figures = Callable[[], dict[str, Any]]
Serve = Callable[[Queue, int], "QueueServer"]

OPEN, OPEN_LIMIT_MS = Queue(8, 100.0), 80.0
CAPACITY = OPEN.capacity_per_sec
CLOSED, CLOSED_LIMIT_MS = Queue(2, 100.0), 84.0


@dataclass(frozen=True)
class QueueServer:
    """A running server."""

    process: subprocess.Popen[str]
    uri: str
    written: Path

    def stop(self) -> dict[str, Any]:
        """End it and return its own figures."""
        self.process.terminate()
        assert self.process.wait(timeout=20) == 0
        figures: dict[str, Any] = json.loads(self.written.read_text())
        return figures


@pytest.fixture(scope="session")
def known_server() -> Path:
    """The native server, built with metronome's own tests."""
    from tests.unit.metronome.conftest import compiled

    return compiled() / "server" / "known_server"


@pytest.fixture
def serve_queue(known_server: Path, tmp_path: Path) -> Iterator[Serve]:
    """Return a function that starts a server that is a queue."""
    running: list[subprocess.Popen[str]] = []

    def start(queue: Queue, seed: int) -> QueueServer:
        written = tmp_path / f"server{len(running)}.json"
        flags = [f"--servers={queue.servers}", f"--service-us={1e6 / queue.rate_per_sec}", f"--seed={seed}"]
        process = subprocess.Popen([str(known_server), *flags, f"--json={written}"], stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout is not None
        port = process.stdout.readline().split()[-1]
        return QueueServer(process, f"http://127.0.0.1:{port}/queue", written)

    yield start
    for process in running:
        process.kill()
        process.wait(timeout=20)
        if process.stdout is not None:
            process.stdout.close()


def asked(case: Case, server: QueueServer, **config: Any) -> Case:
    case.config["profiler_config"] = {"warmup_sec": 0, **config}
    case.target["deployment_settings"]["scoring_uri"] = server.uri
    return case


def search(limit_ms: float, max_runs: int, probe_sec: int = 1) -> dict[str, Any]:
    return {"constraints": {"latency_ms_99": limit_ms}, "max_runs": max_runs, "probe_sec": probe_sec,
            "precision_percent": 10}  # fmt: skip


def test_the_largest_rate(cases: Callable[[str], Case], serve_queue: Serve) -> None:
    """Short runs on whatever machine this is: what is above the capacity cannot hold; the benchmark asks for 3 %."""
    case = asked(
        cases("aml_labench_profiler"), serve_queue(OPEN, 1),
        clients=96, duration_sec=2, timeout_sec=2, target_rps={"from": 100, "to": 1600},
        search=search(OPEN_LIMIT_MS, 6),
    )  # fmt: skip
    outcome = case.run()
    assert outcome.code in (0, 3), outcome.stderr
    report = outcome.report
    found = report["search"]
    assert found["axis"] == "target_rps" and found["constraints"] == {"latency_ms_99": OPEN_LIMIT_MS}
    assert len(report["runs"]) <= 6
    assert not [run for run in report["runs"] if run["feasible"] and run["load"]["target_rps"] > 1.3 * CAPACITY]
    if found["answer"] is None:  # a machine so busy that nothing holds
        assert outcome.code == 3 and not [run for run in report["runs"] if run["feasible"]]
        return
    value = found["answer"]["value"]
    answer = report["runs"][found["answer"]["run"] - 1]
    assert answer["load"]["target_rps"] == value
    assert report["about_run"] == answer["number"] == report["choices"][0]["best"]
    if found["answer"]["confirmed"]:
        assert answer["purpose"] == "confirmation" and answer["load"]["duration_sec"] == 2
        assert answer["feasible"] and report["sla"]["met"]
        assert f"largest rate that holds: {value:g} (confirmed" in outcome.stderr
    assert (outcome.code == 0) == (found["answer"]["confirmed"] and report["verdict"]["valid"])
    assert {run["purpose"] for run in report["runs"]} <= {"probe", "confirmation"}
    assert "Largest load that holds" in (case.folder / "outputs" / "report.html").read_text()


def test_the_largest_number_of_connections(cases: Callable[[str], Case], serve_queue: Serve) -> None:
    truth = largest_closed_number(CLOSED, 99, CLOSED_LIMIT_MS / 1000)
    case = asked(
        cases("aml_wrk_profiler"), serve_queue(CLOSED, 1),
        connections=5, duration_sec=3, search=search(CLOSED_LIMIT_MS, 6, 2),
    )  # fmt: skip
    outcome = case.run()
    assert outcome.code in (0, 3), outcome.stderr
    found = outcome.report["search"]
    assert found["axis"] == "connections"
    if found["answer"] is None:  # a machine so busy that nothing holds
        assert outcome.code == 3 and not [run for run in outcome.report["runs"] if run["feasible"]]
        return
    # A busy machine makes fewer hold; many more than the queue lets through in time it cannot.
    assert 1 <= found["answer"]["value"] <= truth + 6
    assert found["answer"]["value"] == int(found["answer"]["value"])


def test_no_load_holds(cases: Callable[[str], Case], serve_queue: Serve) -> None:
    case = asked(
        cases("aml_wrk_profiler"), serve_queue(CLOSED, 1), connections=1, duration_sec=1, search=search(1.0, 4)
    )
    outcome = case.run()
    assert outcome.code == 3
    report = outcome.report
    assert report["search"]["answer"] is None and report["search"]["stopped"] in ("infeasible", "budget")
    assert report["search"]["nearest_miss"]["value"] == 1
    assert "SLA missed: latency_ms_99" in report["search"]["nearest_miss"]["misses"][0]
    assert "aml_wrk_profiler: error: no answer: " in outcome.stderr
    assert "nearest miss, run " in outcome.stderr
    assert "No load was found that holds" in (case.folder / "outputs" / "report.html").read_text()


@pytest.mark.parametrize("round_", range(int(os.environ.get("AML_INTERRUPTIONS", "1"))))
def test_an_interrupted_search_goes_on(cases: Callable[[str], Case], serve_queue: Serve, round_: int) -> None:
    """What was measured is taken as it is, the same loads are asked for, and the server sees no run twice.

    That the answer is then the uninterrupted one's is tested where measurements repeat exactly (test_measurement.py).
    """
    draw = random.Random(round_)
    finished, wait_sec = draw.randrange(1, 4), draw.uniform(0, 1.0)
    signum = draw.choice([signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
    server = serve_queue(CLOSED, 3)
    case = asked(
        cases("aml_labench_profiler"), server,
        clients=64, duration_sec=2, timeout_sec=2, target_rps={"from": 20, "to": 160},
        search=search(CLOSED_LIMIT_MS, 5),
    )  # fmt: skip
    process = case.start()
    runs = case.folder / "outputs" / "runs"
    deadline = time.monotonic() + 60
    while len(list(runs.glob("[0-9]*.json"))) < finished and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(wait_sec)
    process.send_signal(signum)
    process.communicate(timeout=60)
    before = {path.name: json.loads(path.read_text()) for path in runs.glob("[0-9]*.json")}
    state = (runs / "state.json").read_text()
    for left in (case.folder / "tmp").glob("aml-profiler-*"):
        for file in left.iterdir():
            file.unlink()
        left.rmdir()
    outcome = case.run()
    assert outcome.code in (0, 3), outcome.stderr
    if json.loads(state)["finished"]:
        return  # the signal came after the end: there was nothing to go on with
    assert f"going on after {len(before)} finished run" in outcome.stderr
    report = outcome.report
    for name, document in before.items():
        run = report["runs"][int(Path(name).stem) - 1]
        assert run["load"]["target_rps"] == document["load"]["target_rps"]
        assert run["result"]["requests"]["sent"] == document["result"]["sent"]
    sent = [run["result"]["requests"]["sent"] for run in report["runs"]]
    extra = server.stop()["requests"] - sum(sent)
    # One run was interrupted: what it had sent by then is all that the server saw beyond the report's own runs.
    assert 0 <= extra <= max(sent[len(before) :]), (extra, sent)
