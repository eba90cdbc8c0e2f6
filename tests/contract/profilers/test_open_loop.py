"""What the two constant-rate profilers promise."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.contract.profilers.conftest import Case, Server

Serve = Callable[..., "Server"]
Aim = Callable[["Case", "Server"], "Case"]

both = pytest.mark.parametrize("case", ["aml_wrk2_profiler", "aml_labench_profiler"], indirect=True)
labench_alone = pytest.mark.parametrize("case", ["aml_labench_profiler"], indirect=True)


def connections_key(case: Case) -> str:
    return "clients" if case.tool == "aml_labench_profiler" else "connections"


def test_a_stall_shows_in_the_latency_and_not_in_the_service_time(
    cases: Callable[[str], Case], serve: Serve, aim: Aim
) -> None:
    # Two seconds in thirty at 100 requests/s: 200 of 3000 become due in it and wait up to two seconds, so that 5 % wait
    # longer than half a second and 1 % longer than 1.7 s; the backlog adds some milliseconds. Both profilers at once.
    pair = [cases(tool) for tool in ("aml_wrk2_profiler", "aml_labench_profiler")]
    for case in pair:
        # So many connections that the backlog is short, so few that less than 1 % of the requests meet the stall.
        case.config["profiler_config"] |= {"duration_sec": 30, connections_key(case): 16, "target_rps": 100}
        aim(case, serve("--delay_ms", "1", "--stall_after_sec", "10", "--stall_sec", "2"))
    with ThreadPoolExecutor() as both_at_once:
        outcomes = list(both_at_once.map(lambda case: case.run(), pair))
    for outcome in outcomes:
        result = outcome.report["result"]
        latency, service = result["latency_ms"]["percentiles"], result["service_time_ms"]["percentiles"]
        assert latency["95"]["value"] == pytest.approx(500, abs=60)
        assert latency["99"]["value"] == pytest.approx(1700, abs=60)
        assert service["99"]["value"] < 100
        assert result["service_time_ms"]["max"] < 2200, "the few that were in flight when it began"
        assert result["requests"]["planned"] == 3000 == result["requests"]["completed"]
        assert result["schedule"]["late_busy"] >= 180
        slow = {second["t_sec"]: second["latency_ms_99"] for second in result["timeline"]}
        assert slow[5] < 300 < slow[12]


@both
def test_the_rate_is_kept(case: Case, serve: Serve, aim: Aim) -> None:
    case.config["profiler_config"] |= {"duration_sec": 3, "target_rps": 150}
    report = aim(case, serve("--delay_ms", "2")).run().report
    requests = report["result"]["requests"]
    assert requests["planned"] == 450 == requests["sent"] + report["result"]["schedule"]["missed"]
    assert report["result"]["requests_per_sec"] == pytest.approx(150, rel=0.05), "even on a busy machine"
    assert report["load"]["model"] == "open"
    assert report["load"]["schedule"] == {"connections": "connection", "clients": "clock"}[connections_key(case)]
    assert report["load"]["target_rps"] == 150
    assert report["tool"]["engine"]["name"] == "metronome"
    assert not any("closed loop" in note for note in report["verdict"]["notes"])


@both
def test_a_run_whose_sla_is_lost_is_stopped_and_says_so(case: Case, serve: Serve, aim: Aim) -> None:
    case.config["profiler_config"] |= {"duration_sec": 40, "sla": {"latency_ms_99": 10}, "abort_on_fail": True}
    case.config["profiler_config"] |= {connections_key(case): 40, "target_rps": 100, "repeat": 2}
    began = time.monotonic()
    outcome = aim(case, serve("--delay_ms", "50")).run()
    assert time.monotonic() - began < 30, "a whole run takes 80 s, and 1 % of it is lost within two"
    assert outcome.code == 3, outcome.stderr
    report = outcome.report
    result = report["result"]
    assert "latency_ms_99 cannot keep to its limit of 10 any more: " in result["stopped_early"]
    assert "of the 8000 planned 80 may" in result["stopped_early"]
    assert 0.8 < result["duration_sec"] < 20
    assert "repeats" not in result
    assert report["verdict"]["reasons"][0].startswith(f"stopped early, after {result['duration_sec']:.1f} s, as abort_")
    assert not report["sla"]["met"]
    assert report["sla"]["criteria"][0]["value"] == pytest.approx(50, abs=40)
    assert len(result["timeline"]) == int(result["duration_sec"])
    assert result["requests"]["completed"] == result["latency_ms"]["count"], "what was under way is waited for"
    assert "WARNING" in outcome.stderr and "stopping early: latency_ms_99 cannot" in outcome.stderr
    page = (outcome.folder / "outputs" / "report.html").read_text()
    assert "stopped early" in page


@both
def test_errors_stop_a_run_too(case: Case, serve: Serve, aim: Aim) -> None:
    case.config["profiler_config"] |= {"duration_sec": 40, "sla": {"error_percent": 0.1}, "abort_on_fail": True}
    outcome = aim(case, serve("--delay_ms", "2", "--status", "503")).run()
    assert outcome.code == 3, outcome.stderr
    result = outcome.report["result"]
    assert result["duration_sec"] < 20
    assert result["stopped_early"].startswith("error_percent cannot keep to its limit of 0.1 any more: ")
    whole = result["timeline"][0]
    assert whole["errors"] == whole["requests_per_sec"] > 0, "answers that are not 2xx went wrong in their second"


@both
def test_an_sla_that_is_kept_stops_nothing(case: Case, serve: Serve, aim: Aim) -> None:
    case.config["profiler_config"] |= {"sla": {"latency_ms_99": 9000, "error_percent": 1}, "abort_on_fail": True}
    report = aim(case, serve("--delay_ms", "2")).run().report
    assert report["result"]["duration_sec"] == pytest.approx(2, abs=0.01)
    assert "stopped_early" not in report["result"]


@both
def test_an_engine_that_tells_nothing_cannot_be_stopped(case: Case, serve: Serve, aim: Aim) -> None:
    engine = case.tool.split("_")[1]
    stand_in = case.folder / engine
    stand_in.write_text("#!/bin/sh\nexit 1\n")
    stand_in.chmod(0o755)
    case.env["PATH"] = f"{case.folder}:/usr/bin:/bin"
    case.config["profiler_config"] |= {"engine": engine, "sla": {"error_percent": 1}, "abort_on_fail": True}
    outcome = aim(case, serve()).run()
    assert outcome.code == 2
    assert f"/profiler_config/abort_on_fail: engine {engine} tells nothing before its end" in outcome.error


@both
def test_too_few_connections_are_named_with_the_number_that_would_do(case: Case, serve: Serve, aim: Aim) -> None:
    case.config["profiler_config"] |= {connections_key(case): 2, "target_rps": 200, "duration_sec": 3}
    report = aim(case, serve("--delay_ms", "50")).run().report
    assert not report["verdict"]["valid"]
    reason = report["verdict"]["reasons"][0]
    assert reason.startswith(f"2 {connections_key(case)} carry at most ")
    assert int(reason.rsplit(" ", 1)[1]) >= 10, "200 requests/s of 50 ms each"


@both
def test_defaults_are_those_of_the_schema(case: Case, serve: Serve, aim: Aim) -> None:
    case.config["profiler_config"] = {"duration_sec": 1, connections_key(case): 3}
    load = aim(case, serve("--delay_ms", "2")).run().report["load"]
    assert (load["target_rps"], load["timeout_sec"], load["threads"], load["connections"]) == (50, 10, 1, 3)


@labench_alone
def test_an_answer_beyond_the_timeout_is_counted_and_not_in_the_percentiles(case: Case, serve: Serve, aim: Aim) -> None:
    case.config["profiler_config"] |= {"timeout_sec": 0.5, "duration_sec": 4, "target_rps": 50, "clients": 40}
    report = aim(case, serve("--delay_ms", "2", "--stall_after_sec", "2", "--stall_sec", "1")).run().report
    result = report["result"]
    assert 20 <= result["errors"]["timeout"] <= 30, "those due in the first half of the stall"
    assert result["requests"]["completed"] == result["latency_ms"]["count"] == 200 - result["errors"]["timeout"]
    assert any("took longer than the timeout of 0.5 s" in note for note in report["verdict"]["notes"])


@both
def test_the_upstream_engine_is_asked_for_but_not_there(case: Case, serve: Serve, aim: Aim) -> None:
    engine = case.tool.split("_")[1]
    case.config["profiler_config"]["engine"] = engine
    case.env["PATH"] = str(case.folder)
    outcome = aim(case, serve()).run()
    assert outcome.code == 1
    assert f"{engine}: not found on PATH; put upstream's" in outcome.error
