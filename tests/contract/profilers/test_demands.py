"""SLA, warm-up, repetition and the page: the same for every profiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.contract.profilers.conftest import Case, Server

Serve = Callable[..., "Server"]
Aim = Callable[["Case", "Server"], "Case"]


def test_an_sla_that_is_missed_is_3_and_the_report_is_written(case: Case, serve: Serve, aim: Aim) -> None:
    case.config["profiler_config"]["sla"] = {"latency_ms_50": 1, "error_percent": 100}
    outcome = aim(case, serve("--delay_ms", "5")).run()
    assert outcome.code == 3, outcome.stderr
    assert f"{case.tool}: error: SLA missed: latency_ms_50 is " in outcome.stderr
    sla = outcome.report["sla"]
    assert not sla["met"]
    assert [criterion["met"] for criterion in sla["criteria"]] == [False, True]
    assert sla["criteria"][0]["value"] == outcome.report["result"]["latency_ms"]["percentiles"]["50"]["value"]


def test_an_sla_that_is_met_by_a_run_that_is_not_valid_is_3(case: Case, serve: Serve, aim: Aim) -> None:
    case.config["profiler_config"] |= {"sla": {"requests_per_sec": 0}, "duration_sec": 1}
    outcome = aim(case, serve("--delay_ms", "100")).run()
    assert outcome.code == 3, outcome.stderr
    assert outcome.report["sla"]["met"]
    assert not outcome.report["verdict"]["valid"]
    reasons = [line for line in outcome.stderr.splitlines() if f"{case.tool}: error: the run is not valid: " in line]
    assert len(reasons) == len(outcome.report["verdict"]["reasons"])
    assert any("too few for p99" in reason for reason in reasons)


def test_a_warm_up_is_sent_and_not_counted(case: Case, serve: Serve, aim: Aim) -> None:
    case.config["profiler_config"] |= {"warmup_sec": 1, "duration_sec": 1}
    server = serve("--delay_ms", "5")
    report = aim(case, server).run().report
    assert report["load"]["warmup_sec"] == 1
    sent, received = report["result"]["requests"]["sent"], server.stop()["requests"]
    assert 0.2 * received < sent < 0.8 * received
    assert len(report["result"]["timeline"]) == 1


def test_repeated_runs_are_kept_and_taken_together(case: Case, serve: Serve, aim: Aim) -> None:
    case.config["profiler_config"] |= {"repeat": 3, "duration_sec": 1}
    server = serve("--delay_ms", "5")
    outcome = aim(case, server).run()
    result = outcome.report["result"]
    assert len(result["repeats"]) == 3
    assert result["requests"]["sent"] == sum(run["requests"]["sent"] for run in result["repeats"])
    assert result["requests"]["sent"] == server.stop()["requests"]
    assert result["latency_ms"]["count"] == sum(run["latency_ms"]["count"] for run in result["repeats"])
    medians = sorted(run["latency_ms"]["percentiles"]["50"]["value"] for run in result["repeats"])
    assert list(result["spread"]["latency_ms_50"].values()) == medians
    assert [second["t_sec"] for second in result["timeline"]] == [0, 1, 2]
    assert "run 3 of 3" in outcome.stderr


def test_a_price_gives_the_cost_of_a_million_requests(case: Case, serve: Serve, aim: Aim) -> None:
    case.config["profiler_config"]["instance_price_per_hour"] = 0.5
    case.target["deployment_settings"]["instance_count"] = 2
    report = aim(case, serve("--delay_ms", "5")).run().report
    rate = report["result"]["succeeded_per_sec"]
    assert report["cost"]["price_per_million_requests"] == pytest.approx(0.5 * 2 * 1e6 / (rate * 3600))
    assert report["cost"]["core_hour_per_million_requests"] is None
    assert report["target"]["instance_price_per_hour"] == 0.5


def test_the_page_lies_beside_the_report(case: Case, serve: Serve, aim: Aim) -> None:
    outcome = aim(case, serve("--delay_ms", "5")).run()
    page = (outcome.folder / "outputs" / "report.html").read_text()
    assert page.startswith("<!DOCTYPE html>") or page.startswith("<!doctype html>")
    assert case.tool in page
