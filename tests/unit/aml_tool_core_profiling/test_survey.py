"""A sweep's and a search's report: valid, about the right run, on the page and on the terminal."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
from typing import Any

import pytest
from aml_tool_core import documents
from aml_tool_core.profiling import Schedule, survey_summary
from aml_tool_core.profiling.course import Search, Sweep
from aml_tool_core.profiling.runs import Failure, Purpose, Run
from aml_tool_core.profiling.search import Finding, Question, Stop
from aml_tool_core.profiling.summary import text
from aml_tool_core.profiling.survey import survey_of
from aml_tool_core.report_page import render_report
from aml_tool_core.report_page.figures import at

from tests.unit.aml_tool_core_profiling.made_runs import POINT, document_of, result_of, run_of

DEMANDS = {"latency_ms_99": 25.0}
CURVE = [(100, 10), (200, 10.5), (400, 12), (600, 16), (700, 20), (760, 60), (790, 200)]
SWEEP = Sweep(POINT, "succeeded_per_sec", {"target_rps": tuple(float(rate) for rate, _ in CURVE)})
SEARCH = Search(
    POINT, "succeeded_per_sec", "target_rps", DEMANDS,
    Question(start=50, whole=False, max_runs=12, precision=0.04), probe_sec=10,
)  # fmt: skip


def curve(demands: dict[str, float] | None = None) -> list[Run]:
    return [run_of(number, rate, p99, demands=demands) for number, (rate, p99) in enumerate(CURVE, 1)]


def searched() -> list[Run]:
    runs = curve(DEMANDS)
    purposes = [*[Purpose.PROBE] * 4, Purpose.CONFIRMATION, *[Purpose.PROBE] * 2]
    return [replace(run, point=replace(run.point, purpose=one)) for run, one in zip(runs, purposes, strict=True)]


FOUND = Finding(700.0, 4, True, (690.0, 740.0), Stop.NARROW, "narrow enough after 7 runs")
NOTHING = Finding(None, None, False, (None, 90.0), Stop.INFEASIBLE, "not even 100 holds; no load was found that holds")


def page_text(document: dict[str, Any]) -> str:
    """Return the page, whose every figure is the report's own."""
    html = render_report(document)
    for shown, pointer in re.findall(r'value="([^"]*)" data-pointer="([^"]*)"', html):
        found = at(document, unescape(pointer))
        assert unescape(shown) == (found if isinstance(found, str) else json.dumps(found)), pointer
    return html


def test_a_sweep_is_about_its_best_run() -> None:
    document = document_of(SWEEP, curve(DEMANDS))
    documents.validate(document, "report", "report.json")
    assert document["about_run"] == document["choices"][0]["best"] == 5
    assert document["load"]["target_rps"] == 700 and document["sla"]["met"]
    assert document["choices"][0]["pareto_front"] == [1, 2, 3, 4, 5], "of those that hold"
    assert document["choices"][0]["knee"]["run"] == 5
    html = page_text(document)
    for words in ("Best: run 5, 700 requests/s", "Throughput and p99", "Knee", "All runs", "about run 5 of 7"):
        assert words in html, words
    said = "\n".join(text(document))
    assert re.search(r"5 +700/s, 4 clients +10 +700\.00 +[\d.]+ +[\d.]+ +holds, best, knee", said), said
    assert "best by succeeded_per_sec: run 5" in said


def test_a_sweep_without_a_feasible_run_names_the_nearest_miss() -> None:
    demands = {"latency_ms_99": 5.0}
    runs = curve(demands)
    survey = survey_of(SWEEP, runs, None)
    assert survey.about.number == 1
    misses = survey.misses()
    assert misses[0] == "no run keeps every demand"
    assert misses[1].startswith("nearest miss, run 1 (100 requests/s, 4 clients): SLA missed: latency_ms_99")
    document = document_of(SWEEP, runs)
    documents.validate(document, "report", "report.json")
    assert "No run keeps every demand" in page_text(document)


def test_a_sweep_without_demands_misses_nothing() -> None:
    assert survey_of(SWEEP, curve(), None).misses() == []


def test_payload_classes_have_a_picture_each() -> None:
    points = [replace(POINT, payload_class=name) for name in ("small", "large <b>")]
    runs = [run_of(1, 100, 10, point=points[0]), run_of(2, 100, 90, point=points[1])]
    document = document_of(Sweep(POINT, "latency_ms_99", {"payload_class": ("small", "large <b>")}), runs)
    documents.validate(document, "report", "report.json")
    assert [run["load"]["payload"]["class"] for run in document["runs"]] == ["small", "large <b>"]
    html = page_text(document)
    assert "Throughput and p99, small" in html and "Throughput and p99, large &lt;b&gt;" in html
    assert "large <b>" not in html


def of_class(number: int, name: str, p99_ms: float, limit_ms: float | None = 50.0) -> Run:
    demands = None if limit_ms is None else {"latency_ms_99": limit_ms}
    return run_of(number, 100, p99_ms, point=replace(POINT, payload_class=name), demands=demands)


CLASSES = Sweep(POINT, "succeeded_per_sec", {"payload_class": ("small", "large")})


def test_a_payload_class_that_fails_everywhere_is_a_miss_whatever_the_others_do() -> None:
    runs = [of_class(1, "small", 10), of_class(2, "large", 900)]
    survey = survey_of(CLASSES, runs, None)
    assert [choice.best and choice.best.number for choice in survey.choices] == [1, None]
    misses = survey.misses()
    assert misses[0] == "no run of payload class large keeps every demand"
    assert misses[1].startswith("nearest miss, run 2 (") and "latency_ms_99 is 900" in misses[1]
    document = document_of(CLASSES, runs)
    documents.validate(document, "report", "report.json")
    assert document["about_run"] == 2 and document["sla"]["met"] is False


def test_each_payload_class_has_its_best_run_judged() -> None:
    runs = [of_class(1, "small", 10), of_class(2, "large", 20)]
    assert survey_of(CLASSES, runs, None).misses() == []
    late = replace(result_of(100, 20), schedule=Schedule(99.0, 10, 0, late_busy=0))
    runs[1] = run_of(2, point=runs[1].point, demands=DEMANDS, result=late)
    assert runs[1].standing.feasible and not runs[1].verdict.valid
    (missed,) = survey_of(CLASSES, runs, None).misses()
    assert missed.startswith("run 2 (100 requests/s, 4 clients, large): the run is not valid: 99.00 %")


def test_an_objective_that_is_not_known_is_not_said_to_miss_a_demand() -> None:
    sweep = Sweep(POINT, "price_per_million_requests", {"payload_class": ("small",)})
    survey = survey_of(sweep, [of_class(1, "small", 10)], None)
    assert survey.misses() == [
        "price_per_million_requests is not known of any run of payload class small that keeps every demand"
    ]


def test_a_sweep_without_demands_says_neither_that_they_are_missed_nor_that_none_carried_its_load() -> None:
    sweep = Sweep(POINT, "price_per_million_requests", {"target_rps": (100.0, 200.0)})
    document = document_of(sweep, [run_of(1, 100), run_of(2, 200)])
    documents.validate(document, "report", "report.json")
    (choice,) = document["choices"]
    assert choice["best"] is None
    assert choice["reason"] == "price_per_million_requests is not known of any run"
    assert survey_of(sweep, [run_of(1, 100)], None).misses() == []
    html, said = page_text(document), "\n".join(text(document))
    assert "best by price_per_million_requests: price_per_million_requests is not known of any run" in said
    assert "price_per_million_requests is not known of any run" in html
    for shown in (html.lower(), said.lower()):
        assert "keeps every demand" not in shown


def test_a_sweep_that_nothing_carried_says_so() -> None:
    failing = [run_of(1, 100, result=result_of(100, failed=900))]
    document = document_of(Sweep(POINT, "succeeded_per_sec", {"target_rps": (100.0,)}), failing)
    assert document["choices"][0]["reason"] == "no run carried its load"
    assert "No run carried its load" in page_text(document)
    assert "best by succeeded_per_sec: no run carried its load" in "\n".join(text(document))


def test_a_best_run_needs_no_reason() -> None:
    assert "reason" not in document_of(SWEEP, curve())["choices"][0]


def test_points_that_were_not_measured_are_told_everywhere() -> None:
    failures = [
        Failure(replace(POINT, target_rps=800.0, connections=1), "metronome on http://h: exit code 1: no <b>"),
        Failure(replace(POINT, target_rps=900.0), "not tried, as 2 points in a row failed"),
    ]
    document = document_of(SWEEP, curve(), failures=failures)
    documents.validate(document, "report", "report.json")
    assert document["failures"] == [
        {"connections": 1, "target_rps": 800.0, "reason": "metronome on http://h: exit code 1: no <b>"},
        {"connections": 4, "target_rps": 900.0, "reason": "not tried, as 2 points in a row failed"},
    ]
    said = "\n".join(text(document))
    assert "not measured: 800/s, 1 client: metronome on http://h: exit code 1: no <b>" in said
    assert "not measured: 900/s, 4 clients: not tried" in said
    html = page_text(document)
    assert "2 points could not be measured" in html and "800 requests/s, 1 client: metronome" in html
    assert "no <b>" not in html
    assert "failures" not in document_of(SWEEP, curve())


def test_a_search_is_about_its_confirmation() -> None:
    document = document_of(SEARCH, searched(), FOUND)
    documents.validate(document, "report", "report.json")
    assert document["about_run"] == 5
    assert document["search"]["answer"] == {"value": 700.0, "interval": [690.0, 740.0], "confirmed": True, "run": 5}
    html = page_text(document)
    for words in ("700\N{NO-BREAK SPACE}/s holds", "95 % interval", "Limit", "5, confirmation"):
        assert words in html, words
    said = "\n".join(text(document))
    assert "largest rate that holds: 700 (confirmed by run 5); 95 % interval 690 to 740" in said
    assert survey_of(SEARCH, searched(), FOUND).misses() == []


def test_an_answer_that_is_not_confirmed_is_a_miss() -> None:
    finding = replace(FOUND, confirmed=False, stop=Stop.BUDGET, reason="the budget of 7 runs is spent")
    assert survey_of(SEARCH, searched(), finding).misses() == ["not confirmed: the budget of 7 runs is spent"]
    assert "is not confirmed" in page_text(document_of(SEARCH, searched(), finding))


def test_a_search_without_an_answer_names_the_nearest_miss() -> None:
    runs = [run_of(1, 100, 30, demands=DEMANDS), run_of(2, 200, 90, demands=DEMANDS)]
    document = document_of(SEARCH, runs, NOTHING)
    documents.validate(document, "report", "report.json")
    assert document["search"]["answer"] is None
    assert document["search"]["nearest_miss"]["run"] == document["about_run"] == 1
    assert "No load was found that holds" in page_text(document)
    misses = survey_of(SEARCH, runs, NOTHING).misses()
    assert misses[0].startswith("no answer: not even 100 holds")
    assert "nearest miss, run 1" in misses[1]


def test_runs_that_say_nothing_are_shown_as_such() -> None:
    starved = run_of(1, 100, 90, demands=DEMANDS, result=result_of(100, 90, cpu_percent=99))
    nothing = Finding(None, None, False, (None, None), Stop.BUDGET, "the budget of 2 runs is spent")
    document = document_of(SEARCH, [starved], nothing)
    documents.validate(document, "report", "report.json")
    assert document["runs"][0]["usable"] is False
    assert "says nothing" in page_text(document) and "says nothing" in "\n".join(text(document))
    held = Finding(50.0, 1, False, (50.0, None), Stop.BUDGET, "the budget of 2 runs is spent")
    page = page_text(document_of(SEARCH, [starved, run_of(2, 50, 20, demands=DEMANDS)], held))
    legend = re.findall(r"</svg>([^<]*)</li>", page)
    assert {"Says nothing", "Holds"} <= set(legend) and "Does not hold" not in legend
    assert survey_of(SEARCH, [starved], nothing).misses()[1].startswith("nearest miss, run 1")
    both = "\n".join(text(document_of(SEARCH, [starved, run_of(2, 50, 30, demands=DEMANDS)], nothing)))
    assert (
        "1 of 2 runs says nothing about the target, neither that the load holds nor that it does not: the load" in both
    )
    assert "short of CPU; give it cores that nothing else uses" in both
    assert "nothing about the target" not in "\n".join(text(document_of(SEARCH, [run_of(1, demands=DEMANDS)], nothing)))


@pytest.mark.parametrize(("duration_sec", "is_said"), [(10, False), (2, True)])
def test_a_confirmed_answer_of_a_run_that_is_not_valid_says_which_of_the_two_counts(
    duration_sec: int, is_said: bool
) -> None:
    point = replace(POINT, purpose=Purpose.CONFIRMATION, duration_sec=duration_sec)
    run = run_of(1, point=point, demands=DEMANDS, result=result_of(100, 20, duration_sec=duration_sec))
    assert run.standing.feasible and run.verdict.valid is not is_said
    found = Finding(100.0, 0, True, (90.0, 110.0), Stop.NARROW, "narrow enough after 1 run")
    shown = "\n".join(text(document_of(SEARCH, [run], found)))
    assert "100 (confirmed by run 1)" in shown
    assert ("but that run is NOT VALID, and what its verdict says is to be mended" in shown) is is_said


def test_a_front_of_one_run_or_of_none_is_told_as_such() -> None:
    starved = run_of(2, 200, 90, demands=DEMANDS, result=result_of(200, 90, cpu_percent=99))
    runs = [run_of(1, 100, 20, demands=DEMANDS), starved]
    sweep = Sweep(POINT, "succeeded_per_sec", {"target_rps": (100.0, 200.0)})
    assert "Pareto front: run 1\n" in "\n".join(text(document_of(sweep, runs)))
    assert "Pareto front: no run\n" in "\n".join(text(document_of(sweep, [runs[1]])))


@pytest.mark.parametrize("answered", [True, False])
def test_a_run_without_answers_is_on_no_picture(answered: bool) -> None:
    empty = run_of(1, 1, 10, result=replace(result_of(0), sent=10, errors=replace(result_of().errors, connect=10)))
    runs = [empty, *([run_of(2, 100, 10)] if answered else [])]
    document = document_of(Sweep(POINT, "succeeded_per_sec", {"target_rps": (1.0, 100.0)}), runs)
    documents.validate(document, "report", "report.json")
    assert ("Throughput and p99" in page_text(document)) is answered


def test_a_demanded_percentile_is_in_both_tables_of_runs_and_what_is_not_certain_is_marked() -> None:
    demands = {"latency_ms_99.9": 500.0, "latency_ms_99": 500.0}
    runs = [run_of(1, 10, 20, demands=demands), run_of(2, 100, 30, demands=demands)]
    document = document_of(SWEEP, runs)
    head, few, enough = survey_summary.rows(document)
    assert head[3:7] == ["good/s", "p50, ms", "p99, ms", "p99.9, ms"]
    assert few[5].endswith("*") and not enough[5].endswith("*"), "a hundred requests are too few for p99"
    assert float(enough[6].rstrip("*")) == pytest.approx(30, abs=0.1)
    assert survey_summary.conclusions(document)[0] == "* more requests are needed to certify this percentile"
    page = render_report(document)
    assert '<th scope="col">p99.9</th>' in page and 'data-pointer="/runs/1/sla/criteria/0/value"' in page
    assert page.count("too few requests to be certain") >= 1
