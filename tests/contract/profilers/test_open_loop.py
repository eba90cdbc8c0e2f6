"""What the two constant-rate profilers promise."""

from __future__ import annotations

from collections.abc import Callable
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


@both
def test_a_stall_shows_in_the_latency_and_not_in_the_service_time(case: Case, serve: Serve, aim: Aim) -> None:
    # One second in ten at 100 requests/s: a tenth of the requests become due in it and wait half a second on average.
    case.config["profiler_config"] |= {"duration_sec": 10, connections_key(case): 8, "target_rps": 100}
    server = serve("--delay_ms", "2", "--stall_after_sec", "4", "--stall_sec", "1")
    result = aim(case, server).run().report["result"]
    latency, service = result["latency_ms"]["percentiles"], result["service_time_ms"]["percentiles"]
    assert latency["95"]["value"] == pytest.approx(500, abs=60)
    assert latency["99"]["value"] == pytest.approx(900, abs=60)
    assert service["95"]["value"] < 100
    assert service["99"]["value"] < 1100, "the few that were in flight when it began"
    assert result["requests"]["planned"] == 1000
    assert result["requests"]["completed"] == 1000
    assert result["schedule"]["late_busy"] >= 80
    slow = {second["t_sec"]: second["latency_ms_99"] for second in result["timeline"]}
    assert slow[1] < 100 < slow[5]


@both
def test_the_rate_is_kept(case: Case, serve: Serve, aim: Aim) -> None:
    case.config["profiler_config"] |= {"duration_sec": 3, "target_rps": 150}
    report = aim(case, serve("--delay_ms", "2")).run().report
    requests = report["result"]["requests"]
    assert requests["planned"] == 450 == requests["sent"] + report["result"]["schedule"]["missed"]
    assert report["result"]["requests_per_sec"] == pytest.approx(150, rel=0.05), "even on a busy machine"
    assert report["load"]["model"] == "open"
    assert report["load"]["target_rps"] == 150
    assert report["tool"]["engine"]["name"] == "metronome"
    assert not any("closed loop" in note for note in report["verdict"]["notes"])


@both
def test_too_few_connections_are_named_with_the_number_that_would_do(case: Case, serve: Serve, aim: Aim) -> None:
    case.config["profiler_config"] |= {connections_key(case): 2, "target_rps": 200, "duration_sec": 3}
    report = aim(case, serve("--delay_ms", "50")).run().report
    assert not report["verdict"]["valid"]
    (reason,) = [reason for reason in report["verdict"]["reasons"] if "carry at most" in reason]
    assert reason.startswith("2 connections carry at most ")
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
