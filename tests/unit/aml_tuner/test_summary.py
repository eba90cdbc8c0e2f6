"""What a summary says of trials whose figures are known."""

from __future__ import annotations

import html
from typing import Any

import pytest
from aml_tool_core.documents import validate
from aml_tuner import objective, summary
from aml_tuner.configuration import Plan
from aml_tuner.page import render_summary
from aml_tuner.space import Space
from aml_tuner.trial import accuracy

SPACE = Space.of({"candidate": [1, 2], "worker_count": [1, 2, 4]})
# By candidate and workers: good answers per second, p99 in ms, core-hours per million requests.
FIGURES = {
    (1, 1): (100.0, 8.0, 5.6),
    (1, 2): (180.0, 9.0, 3.1),
    (2, 1): (150.0, 6.0, 3.7),
    (2, 2): (250.0, 7.0, 2.2),
    (2, 4): (251.0, 30.0, 2.2),
}


def plan(**changes: Any) -> Plan:
    values: dict[str, Any] = {
        "space": SPACE, "objective": {"succeeded_per_sec": 1.0}, "constraints": {"latency_ms_99": 20.0},
        "strategy": "quick", "max_trials": 5, "parallel": 1, "top": 2, "profiler": "aml_wrk_profiler",
        "profiler_config": {}, "prices": {}, "endpoint_name": "e", "sku": None, "deployer_flags": {},
        "profiler_flags": {}, "workspace_flags": {}, "inputs_sha256": "0" * 64,
    }  # fmt: skip
    return Plan(**(values | changes))


def trial(point: tuple[int, int], **changes: Any) -> dict[str, Any]:
    rate, p99_ms, core_hours = FIGURES[point]
    metrics = {"succeeded_per_sec": rate, "latency_ms_99": p99_ms, "core_hour_per_million_requests": core_hours}
    misses = [f"latency_ms_99 is {p99_ms:g}, its limit is 20"] if p99_ms > 20 else []
    return {
        "version": "1.0", "id": plan().trial_id(point), "variant": SPACE.variant(point),
        "started_at": "2026-03-14T09:26:53Z", "seconds": 20.0, "inputs_sha256": "0" * 64, "error": None,
        "feasible": not misses, "misses": misses, "metrics": metrics, "excess": 0.4 if misses else 0.0, "valid": True,
        "reasons": [], "target": {}, **changes,
    }  # fmt: skip


def made(*trials: dict[str, Any]) -> summary.Made:
    known = {one["id"]: {"accuracy": {1: 0.99, 2: 0.97}[one["variant"]["candidate"]]} for one in trials}
    return summary.Made(trials, 0, known, "2026-03-14T09:20:00Z")


def documented(*trials: dict[str, Any], **changes: Any) -> dict[str, Any]:
    document = summary.document(plan(**changes), made(*trials), "aml_tuner", "0.1.0")
    validate(document, "tuning_summary", "summary")
    return document


def variants(document: dict[str, Any], ids: list[str]) -> list[tuple[int, int]]:
    by_id = {one["id"]: one["variant"] for one in document["trials"]}
    return [(by_id[key]["candidate"], by_id[key]["worker_count"]) for key in ids]


def test_the_front_is_of_accuracy_p99_and_cost() -> None:
    document = documented(*map(trial, FIGURES))
    assert document["pareto_axes"] == ["accuracy", "latency_ms_99", "core_hour_per_million_requests"]
    # The less accurate candidate is quicker and cheaper; its four workers miss the constraint.
    assert variants(document, document["pareto_front"]) == [(2, 1), (2, 2), (1, 1), (1, 2)]
    assert variants(document, document["top"]) == [(2, 2), (1, 2)]


def test_what_to_take_and_why() -> None:
    document = documented(*map(trial, FIGURES))
    assert variants(document, [document["choice"]["id"]]) == [(2, 2)]
    why = document["choice"]["why"]
    assert why.startswith(
        "Take candidate 2, worker_count 2: 250 good answers per second, p99 7 ms, accuracy 0.97, 2.2 core-hours per "
        "million requests. Of the 4 trials that keep latency_ms_99 at most 20 (here 7), it is the best by "
        "succeeded_per_sec. The next, candidate 1, worker_count 2, is 28 % behind."
    )
    assert "candidate 2 against 1: 28 % worse; worker_count 2 against 1: 40 % worse, 4: misses a constraint." in why
    assert document["choice"]["deployment_yml"] == (
        "# the model: the optimizer's candidate 2, with its parameters\nenvironment_variables:\n  WORKER_COUNT: '2'\n"
    )


def test_near_draws_and_doubts_are_called_so() -> None:
    doubtful = trial((2, 2), valid=False, reasons=["the load generator ran out of CPU"])
    near = trial((2, 1), metrics={**trial((2, 1))["metrics"], "succeeded_per_sec": 249.0})
    document = documented(doubtful, near)
    assert "0.4 % behind, which one more run of each might turn" in document["choice"]["why"]
    assert document["choice"]["why"].endswith("may not be believed as it is: the load generator ran out of CPU.")
    gaps = " ".join(document["not_measured"])
    assert "4 of the 6 combinations: they were not tried" in gaps
    assert "never tried: candidate 1, worker_count 4" in gaps
    assert "1 of the 2 runs are not valid" in gaps


def test_nothing_that_holds_leaves_no_choice() -> None:
    document = documented(trial((2, 4)))
    assert (document["choice"], document["top"], document["pareto_front"]) == (None, [], [])
    assert "No combination keeps every constraint" in render_summary(document)


def test_the_page_shows_the_figures_of_the_choice_and_loads_nothing() -> None:
    document = documented(*map(trial, FIGURES))
    page = render_summary(document)
    index = next(i for i, one in enumerate(document["trials"]) if one["id"] == document["choice"]["id"])
    assert f'data-pointer="/trials/{index}/metrics/latency_ms_99"' in page
    assert "WORKER_COUNT: &#39;2&#39;" in page and "front at accuracy 0.99" in page
    assert "<script" not in page and "http://" not in page.replace("http://www.w3.org", "")
    assert all(gap[1:] in html.unescape(page) for gap in document["not_measured"])


@pytest.mark.parametrize(
    ("weights", "wanted"),
    [
        ({"succeeded_per_sec": 1.0}, (2, 2)),
        ({"latency_ms_99": 1.0}, (2, 1)),
        ({"core_hour_per_million_requests": 1.0}, (2, 2)),
        ({"succeeded_per_sec": 1.0, "latency_ms_99": 4.0}, (2, 1)),
    ],
)
def test_the_objective_decides(weights: dict[str, float], wanted: tuple[int, int]) -> None:
    document = documented(*map(trial, FIGURES), objective=weights)
    assert variants(document, document["top"][:1]) == [wanted]


def test_a_metric_that_is_not_known_ranks_nowhere() -> None:
    document = documented(trial((1, 1)), objective={"price_per_million_requests": 1.0})
    assert document["trials"][0]["score"] is None and document["choice"] is None


def test_the_worse_a_miss_the_lower_its_rating() -> None:
    ratings = [objective.Judged({}, excess == 0, (), 5.0, excess).rating for excess in (0.0, 0.1, 0.5)]
    assert ratings == [5.0, pytest.approx(3.8), pytest.approx(3.0)]


def test_the_accuracy_is_the_optimizers(tmp_path: Any) -> None:
    folder = tmp_path / "CandidateModels" / "cpu-cpu" / "BestCandidateModel_2"
    folder.mkdir(parents=True)
    found = '{"candidate_model_metrics": {"accuracy-f1": {"value": 0.9}, "latency-avg": {"value": 3}}}'
    (folder / "metrics.json").write_text(found)
    assert accuracy(None, tmp_path, {"candidate": 2}) == {"accuracy-f1": 0.9}
    assert accuracy(None, tmp_path, {"candidate": "cpu-cpu/2"}) == {"accuracy-f1": 0.9}
    assert accuracy(None, tmp_path, {"candidate": 3}) == {}
    (tmp_path / "optimized_parameters.json").write_text('{"metrics": {"accuracy-f1": {"value": 0.8}}}')
    assert accuracy(tmp_path, None, {"worker_count": 1}) == {"accuracy-f1": 0.8}
    assert accuracy(None, None, {"worker_count": 1}) == {}
