"""Every reason to doubt a run, provoked by a real one; and the exit code of an SLA that a believable run meets."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.contract.profilers.conftest import Case, Outcome, Server

Serve = Callable[..., "Server"]
Aim = Callable[["Case", "Server"], "Case"]
Children = Callable[[int], list[int]]

both = pytest.mark.parametrize("case", ["aml_wrk2_profiler", "aml_labench_profiler"], indirect=True)
GENERATORS = {"wrk", "metronome"}
ATTEMPTS = 8
BUSY_LOOPS = 8


def generator_of(process: subprocess.Popen[str], children: Children) -> int:
    """Return the process id of the generator, as soon as it drives its load by threads."""
    while process.poll() is None:
        for pid in children(process.pid):
            with suppress(OSError):
                name = Path(f"/proc/{pid}/comm").read_text().strip()
                if name in GENERATORS and len(os.listdir(f"/proc/{pid}/task")) > 1:
                    return pid
        time.sleep(0.005)
    raise AssertionError(f"the tool ended before its generator was seen: {process.communicate()}")


def ended(case: Case, process: subprocess.Popen[str]) -> Outcome:
    from tests.contract.profilers.conftest import Outcome

    _, err = process.communicate(timeout=60)
    return Outcome(process.returncode, err, case.folder)


@both
def test_late_sends(case: Case, serve: Serve, aim: Aim, children: Children) -> None:
    case.config["profiler_config"] |= {"duration_sec": 4, "target_rps": 200}
    process = aim(case, serve("--delay_ms", "2")).start()
    generator = generator_of(process, children)
    time.sleep(1.5)
    os.kill(generator, signal.SIGSTOP)
    time.sleep(0.5)  # 100 of the 800 requests become due
    os.kill(generator, signal.SIGCONT)
    report = ended(case, process).report
    assert not report["verdict"]["valid"]
    (reason,) = [reason for reason in report["verdict"]["reasons"] if "were sent on time" in reason]
    assert "by the load generator's own fault" in reason
    assert "give it a core that nothing else uses; latency, from the due time, is an upper bound" in reason
    schedule = report["result"]["schedule"]
    assert schedule["late"] - schedule["late_busy"] >= 50
    assert schedule["timely_sends_percent"] < 95
    assert 300 < schedule["own_delay_ms_99"] <= schedule["own_delay_ms_max"] < 5000
    assert f"{schedule['own_delay_ms_max']:.2f} ms at most" in reason


@both
def test_the_rate_is_not_reached(case: Case, serve: Serve, aim: Aim) -> None:
    key = "clients" if case.tool == "aml_labench_profiler" else "connections"
    case.config["profiler_config"] |= {"duration_sec": 4, "target_rps": 400, key: 4}
    report = aim(case, serve("--delay_ms", "20")).run().report  # 4 connections carry 200 requests/s at most
    (reason,) = [reason for reason in report["verdict"]["reasons"] if "requests/s were reached" in reason]
    assert reason.endswith("more than 1% below the 400 asked for")
    assert report["result"]["requests_per_sec"] < 300


def test_errors(case: Case, serve: Serve, aim: Aim) -> None:
    report = aim(case, serve("--delay_ms", "5", "--status", "500", "--status_every", "50")).run().report
    assert any("of the requests failed (status 500: " in reason for reason in report["verdict"]["reasons"])
    assert sum(second["errors"] for second in report["result"]["timeline"]) > 0


def test_too_few_requests(case: Case, serve: Serve, aim: Aim) -> None:
    case.config["profiler_config"]["duration_sec"] = 1
    report = aim(case, serve("--delay_ms", "100")).run().report
    count = report["result"]["latency_ms"]["count"]
    expected = f"{count} requests were measured, too few for p99, which needs 299; let the run last longer"
    assert expected in report["verdict"]["reasons"]


def test_a_starved_generator(case: Case, serve: Serve, aim: Aim, children: Children) -> None:
    # Answers so large that it has always something to read, on a core that it shares with others.
    key = "clients" if case.tool == "aml_labench_profiler" else "connections"
    case.config["profiler_config"] |= {"duration_sec": 8, key: 32}
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        pytest.skip("one core: the server would be starved with the generator")
    core = min(cores)
    server = serve("--answer_bytes", "20000000")
    os.sched_setaffinity(server.process.pid, cores - {core})
    at_once(server.process.pid)
    aim(case, server)
    with busy_core(core):
        process = case.start()
        generator = generator_of(process, children)
        for thread in os.listdir(f"/proc/{generator}/task"):
            os.sched_setaffinity(int(thread), {core})
        report = ended(case, process).report
    used = report["result"]["generator"]
    reasons = [reason for reason in report["verdict"]["reasons"] if "ran out of CPU" in reason]
    assert reasons, (used, report["verdict"])
    (reason,) = reasons
    assert used["run_queue_wait_percent"] > 25, "it waited for the others"
    assert f"waited for a core {used['run_queue_wait_percent']:.0f} %" in reason
    assert ("give it more threads or cores" in reason) or ("give it a core that nothing else uses" in reason)


@contextmanager
def busy_core(core: int) -> Iterator[None]:
    """Keep a core busy with programs of no use."""
    loop = f"import os; os.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
    busy = [subprocess.Popen([sys.executable, "-c", loop], start_new_session=True) for _ in range(BUSY_LOOPS)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_an_sla_that_is_met_is_0(case: Case, serve: Serve, aim: Aim, children: Children) -> None:
    """A busy machine keeps an open loop's sends from being timely, and so believable, until one attempt has luck."""
    case.config["profiler_config"] |= {"sla": {"latency_ms_50": 1000, "error_percent": 1}, "duration_sec": 3}
    case.config["profiler_config"]["warmup_sec"] = 1  # in which the generator is given its priority
    aim(case, serve("--delay_ms", "2"))
    reasons: list[str] = []
    for _ in range(ATTEMPTS):
        shutil.rmtree(case.folder / "outputs", ignore_errors=True)
        process = case.start()
        at_once(generator_of(process, children))
        outcome = ended(case, process)
        report = outcome.report
        assert report["sla"]["met"], outcome.stderr
        reasons = report["verdict"]["reasons"]
        assert outcome.code == (3 if reasons else 0), "the SLA is met, and the code says whether that is to be believed"
        if not reasons:
            return
        assert all("were sent on time" in reason or "ran out of CPU" in reason for reason in reasons), reasons
    pytest.skip(f"this machine is too busy for a believable run, {ATTEMPTS} attempts: {reasons}")


def at_once(pid: int) -> None:
    """Have a process's threads run as soon as they can, before all that else runs, where this user may say so."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        with suppress(PermissionError, ProcessLookupError):
            os.sched_setscheduler(int(thread), os.SCHED_FIFO, os.sched_param(1))
