"""What a demand's outcome looks like in report.json, on the page and on the terminal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from aml_tool_core import documents
from aml_tool_core.profiling import Result
from aml_tool_core.profiling.course import Search, Sweep
from aml_tool_core.profiling.runs import Purpose
from aml_tool_core.profiling.search import Finding, Question, Stop
from aml_tool_core.profiling.summary import text
from aml_tool_core.profiling.survey import survey_of
from aml_tool_core.report_page import render_report

from tests.unit.aml_tool_core_profiling.made_runs import POINT, document_of, result_of, run_of

SWEEP = Sweep(POINT, "succeeded_per_sec", {"target_rps": (100.0,)})


def lost(count: int) -> Result:
    good = result_of(rate=(1000 - count) / 10)
    return replace(good, sent=1000, planned=1000, errors=replace(good.errors, timeout=count))


def judged(result: Result, demands: dict[str, float]) -> dict[str, Any]:
    document = document_of(SWEEP, [run_of(1, demands=demands, result=result)])
    documents.validate(document, "report", "report.json")
    return document


def test_a_percentile_that_is_not_certified_is_marked_everywhere() -> None:
    document = judged(result_of(), {"latency_ms_99.9": 40.0, "latency_ms_99": 40.0, "error_percent": 1.0})
    sla = document["sla"]
    assert sla["met"]
    assert [each.get("certified") for each in sla["criteria"]] == [False, True, None]
    reasons = ["1000 requests were measured, too few for latency_ms_99.9, which needs 2995; let the run last longer"]
    assert document["verdict"]["reasons"] == reasons
    lines = text(document)
    (marked,) = [line for line in lines if "latency_ms_99.9 " in line]
    assert marked.split() == ["latency_ms_99.9", "40", "20.015*", "met"]
    (plain,) = [line for line in lines if "latency_ms_99 " in line]
    assert plain.split() == ["latency_ms_99", "40", "20.015", "met"]
    assert lines.count("  * more requests are needed to certify this percentile") == 3, "below each of the tables"
    assert "met; more requests are needed to certify it" in render_report(document)


def test_what_falls_on_a_request_that_was_not_answered_is_not_known_and_says_why() -> None:
    document = judged(lost(9), {"latency_ms_99.9": 40.0, "latency_ms_99": 40.0})
    first, second = document["sla"]["criteria"]
    why = "9 of 1000 requests were not answered in time, and it falls on one of them"
    assert first == {
        "metric": "latency_ms_99.9", "limit": 40.0, "value": None, "met": False, "certified": False, "reason": why,
    }  # fmt: skip
    assert second["met"] and "reason" not in second
    assert f"  latency_ms_99.9: {why}" in text(document)
    assert f"not known: {why}" in render_report(document)
    assert document["result"]["latency_ms"]["percentiles"]["99.9"]["value"] == 20.015, "of the answers, as ever"


def test_a_confirmation_with_too_few_requests_for_its_limit_misses_the_sla() -> None:
    """Confirmed is that the limit was kept; that so few requests can show it is not."""
    demands = {"latency_ms_99.99": 40.0}
    question = Question(start=50, whole=False, max_runs=12, precision=0.04)
    plan = Search(POINT, "succeeded_per_sec", "target_rps", demands, question, probe_sec=10)
    run = run_of(1, 100, point=replace(POINT, purpose=Purpose.CONFIRMATION), demands=demands)
    finding = Finding(100.0, 0, True, (100.0, None), Stop.BUDGET, "the budget of 12 runs is spent")
    assert survey_of(plan, [run], finding).misses() == [
        "the run is not valid: 1000 requests were measured, too few for latency_ms_99.99, which needs 29956; let the "
        "run last longer"
    ]


def test_a_run_whose_percentile_is_lost_is_no_nearer_than_one_that_is_too_slow() -> None:
    demands = {"latency_ms_99.9": 15.0}
    survey = survey_of(SWEEP, [run_of(1, demands=demands, result=lost(9)), run_of(2, 100, 30, demands=demands)], None)
    assert survey.about.number == 2
