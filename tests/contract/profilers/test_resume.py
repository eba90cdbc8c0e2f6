"""An interrupted sweep or search goes on where it was, and no finished run is made twice.

By default a few interruptions; AML_INTERRUPTIONS=20 makes as many of each kind.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.contract.profilers.conftest import Case, Server

Serve = Callable[..., "Server"]
Aim = Callable[["Case", "Server"], "Case"]

INTERRUPTIONS = int(os.environ.get("AML_INTERRUPTIONS", "1"))
CLASSES = 3
RATE, DURATION_SEC = 50, 1
PLANNED = RATE * DURATION_SEC
_PATIENCE_SEC = 60.0


def body(name: int) -> str:
    return json.dumps({"class": name})


def sweep_of(case: Case) -> Case:
    """One run for each payload class, so that the server's counts by body tell how often each was made."""
    folder = case.folder / "payloads"
    folder.mkdir()
    for name in range(CLASSES):
        (folder / f"class{name}.jsonl").write_text(body(name) + "\n")
    case.config["profiler_config"] |= {
        "duration_sec": DURATION_SEC, "target_rps": RATE, "payload_classes": "file",
    }  # fmt: skip
    command = [*case.command(), "--payload_path", "payloads"]
    case.command = lambda: command  # type: ignore[method-assign]
    return case


def kept(folder: Path) -> list[Path]:
    return sorted((folder / "outputs" / "runs").glob("[0-9]*.json"))


def interrupt(case: Case, signum: signal.Signals, draw: random.Random) -> tuple[str, int]:
    """Start the tool and interrupt it somewhere in a run drawn at random; return stderr and how many were finished."""
    finished = draw.randrange(CLASSES)
    process = case.start()
    deadline = time.monotonic() + _PATIENCE_SEC
    state = case.folder / "outputs" / "runs" / "state.json"  # from then on there is something to go on with
    while not state.exists() or len(kept(case.folder)) < finished:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(draw.uniform(0, 1.2 * DURATION_SEC))
    before = len(kept(case.folder))
    if process.poll() is None:
        process.send_signal(signum)
    try:
        _, err = process.communicate(timeout=_PATIENCE_SEC)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    # A killed tool's private files stay behind; whoever kills it knows.
    shutil.rmtree(case.folder / "tmp", ignore_errors=True)
    assert not (case.folder / "outputs" / "report.json").exists() or process.returncode == 0
    return err, before


@pytest.mark.parametrize("round_", range(INTERRUPTIONS))
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL], ids=["SIGINT", "SIGKILL"])
def test_a_sweep_goes_on_where_it_was(
    cases: Callable[[str], Case], serve: Serve, aim: Aim, signum: signal.Signals, round_: int
) -> None:
    server = serve("--delay_ms", "10")
    case = sweep_of(aim(cases("aml_labench_profiler"), server))
    err, before = interrupt(case, signum, random.Random(f"{signum}{round_}"))
    state = json.loads((case.folder / "outputs" / "runs" / "state.json").read_text())
    if signum is signal.SIGINT and before and not state["finished"]:
        assert "finished run(s) are kept" in err
    times = {path.name: path.stat().st_mtime_ns for path in kept(case.folder)}
    outcome = case.run()
    assert outcome.code == 0, outcome.stderr
    if state["finished"]:
        return  # the signal came after the end: there was nothing to go on with
    assert f"going on after {len(times)} finished run" in outcome.stderr
    assert {path.name: path.stat().st_mtime_ns for path in kept(case.folder)}.items() >= times.items()
    report, received = outcome.report, server.stop()
    assert [run["load"]["payload"]["class"] for run in report["runs"]] == [f"class{name}" for name in range(CLASSES)]
    made = [received["bodies"][body(name)] for name in range(CLASSES)]
    for run, count in enumerate(made):
        if run == len(times):  # it was under way, and is the only one that was made again
            assert PLANNED <= count <= 2 * PLANNED, made
        else:
            assert count == PLANNED, made
    for run in report["runs"]:
        assert run["result"]["requests"]["succeeded"] == PLANNED
        assert run["result"]["latency_ms"]["percentiles"]["50"]["value"] >= 10, "no less than the server takes"


def test_a_resumed_sweep_is_what_an_uninterrupted_one_is(
    cases: Callable[[str], Case], serve: Serve, aim: Aim, tmp_path: Path
) -> None:
    """Moved to another machine in between: another folder, with --resume_path."""
    server = serve("--delay_ms", "10")
    case = sweep_of(aim(cases("aml_labench_profiler"), server))
    process = case.start()
    deadline = time.monotonic() + _PATIENCE_SEC
    while len(kept(case.folder)) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=_PATIENCE_SEC)
    assert process.returncode == 143
    there = tmp_path / "brought"
    shutil.move(case.folder / "outputs", there)
    finished = {path.name: json.loads(path.read_text()) for path in (there / "runs").glob("[0-9]*.json")}
    command = [*case.command(), "--resume_path", str(there)]
    case.command = lambda: command  # type: ignore[method-assign]
    outcome = case.run()
    assert outcome.code == 0, outcome.stderr
    resumed = outcome.report
    for name, document in finished.items():
        run = resumed["runs"][int(Path(name).stem) - 1]
        assert run["result"]["requests"]["sent"] == document["result"]["sent"]
        assert run["result"]["latency_ms"]["mean"] == pytest.approx(
            document["result"]["latency"]["exact_mean_us"] / 1e3
        )
    received = server.stop()
    assert [received["bodies"][body(name)] for name in range(CLASSES) if name != len(finished)] == [PLANNED] * 2

    plain = afresh(case, serve("--delay_ms", "10")).run()
    assert plain.code == 0, plain.stderr
    for one, two in zip(resumed["runs"], plain.report["runs"], strict=True):
        assert one["load"] == two["load"]
        assert one["result"]["requests"]["planned"] == two["result"]["requests"]["planned"]
        for run in (one, two):  # times are the machine's affair; that no less is counted is the tool's
            assert run["result"]["latency_ms"]["percentiles"]["50"]["value"] >= 10
            assert run["result"]["requests"]["sent"] == PLANNED
    assert set(resumed) == set(plain.report)


def afresh(case: Case, server: Server) -> Case:
    """Return the same sweep in a folder of its own, at another server."""
    folder = case.folder.parent / "afresh"
    folder.mkdir()
    fresh = type(case)(case.tool, folder, case.config, {"version": "1.0", "deployment_settings": {}})
    fresh.target["deployment_settings"]["scoring_uri"] = server.uri
    return sweep_of(fresh)


def test_a_changed_configuration_starts_anew(cases: Callable[[str], Case], serve: Serve, aim: Aim) -> None:
    server = serve("--delay_ms", "1")
    case = aim(cases("aml_wrk_profiler"), server)
    case.config["profiler_config"] |= {"connections": [1, 2], "duration_sec": 1}
    process = case.start()
    deadline = time.monotonic() + _PATIENCE_SEC
    while not kept(case.folder) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=_PATIENCE_SEC)
    shutil.rmtree(case.folder / "tmp", ignore_errors=True)
    case.config["profiler_config"]["connections"] = [1]
    outcome = case.run()
    assert outcome.code == 0, outcome.stderr
    assert "starting anew: the configuration changed since" in outcome.stderr
    assert len(outcome.report["runs"]) == 1
    again = case.run()
    assert "starting anew: that measurement is finished" in again.stderr


def test_a_repeated_run_goes_on_too(cases: Callable[[str], Case], serve: Serve, aim: Aim) -> None:
    server = serve("--delay_ms", "10")
    case = aim(cases("aml_labench_profiler"), server)
    case.config["profiler_config"] |= {"target_rps": RATE, "duration_sec": DURATION_SEC, "repeat": 2}
    process = case.start()
    deadline = time.monotonic() + _PATIENCE_SEC
    while not kept(case.folder) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=_PATIENCE_SEC)
    finished = len(kept(case.folder))
    outcome = case.run()
    assert f"going on after {finished} finished run" in outcome.stderr
    assert len(outcome.report["result"]["repeats"]) == 2
    assert "runs" not in outcome.report
    assert 2 * PLANNED <= server.stop()["requests"] <= 3 * PLANNED


def test_a_single_run_keeps_nothing_and_cannot_be_resumed(cases: Callable[[str], Case], serve: Serve, aim: Aim) -> None:
    case = aim(cases("aml_wrk_profiler"), serve())
    outcome = case.run()
    assert outcome.code == 0, outcome.stderr
    assert not (case.folder / "outputs" / "runs").exists()
    command = [*case.command(), "--resume_path", "outputs"]
    case.command = lambda: command  # type: ignore[method-assign]
    outcome = case.run()
    assert outcome.code == 2
    assert "--resume_path: config.json asks for a single run" in outcome.error
