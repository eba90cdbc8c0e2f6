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


def test_a_percentile_that_falls_on_a_request_that_was_not_answered_is_missed(
    case: Case, serve: Serve, aim: Aim
) -> None:
    """One connection in two hundred breaks: p99 may leave these out, p99.9 and the maximum may not."""
    demands = {"latency_ms_99": 5000, "latency_ms_99.9": 5000, "latency_ms_max": 5000}
    case.config["profiler_config"] |= {"sla": demands, "duration_sec": 2}
    outcome = aim(case, serve("--delay_ms", "5", "--reset_every", "200")).run()
    assert outcome.code == 3, outcome.stderr
    report = outcome.report
    broken, answered = report["result"]["errors"]["read"], report["result"]["latency_ms"]["count"]
    assert 0 < broken <= 0.01 * answered
    p99, p999, longest = report["sla"]["criteria"]
    assert p99["met"] and p99["certified"]
    why = f"{broken} of {answered + broken} requests were not answered in time, and it falls on one of them"
    assert (p999["value"], p999["met"], p999["certified"], p999["reason"]) == (None, False, False, why)
    assert (longest["value"], longest["met"], longest["reason"]) == (None, False, why)
    assert f"SLA missed: latency_ms_99.9 is not known ({why}); its limit is 5000" in outcome.stderr
    needed = f"{answered + broken} requests were measured, too few for latency_ms_99.9, which needs 2995"
    assert any(reason.startswith(needed) for reason in report["verdict"]["reasons"])


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
