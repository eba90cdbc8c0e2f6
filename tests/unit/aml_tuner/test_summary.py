"""What a summary says of trials whose figures are known."""

from __future__ import annotations

import html
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from aml_tool_core.documents import validate
from aml_tool_core.errors import InputError
from aml_tuner import deployment, objective, summary
from aml_tuner.accuracy import Excluded
from aml_tuner.configuration import Plan
from aml_tuner.models import Model, model_of
from aml_tuner.page import render_summary
from aml_tuner.space import Space

SPACE = Space.of({"candidate": [1, 2], "worker_count": [1, 2, 4]})
GIVEN = """\
# comments may go
name: blue
endpoint_name: mine
model:
  path: <% MODEL_FOLDER_PATH %>
environment_variables:
  INTER_OP_NUM_THREADS: '7'
request_settings: {request_timeout_ms: 5000, max_concurrent_requests_per_instance: 2}
"""
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
        "profiler_source": "load.json", "run": "beef", "accuracy_limits": {}, "excluded": (),
        "deploy_flags": {"--deployment_yaml_path": "outputs/deployment.yml", "--model_folder_path": "my model"},
        "deployment_yaml": GIVEN, "model_variable": {},
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


MODELS = {
    1: Model({"accuracy": 0.99}, frozenset(), {"INTRA_OP_NUM_THREADS": "1"}),
    2: Model({"accuracy": 0.97}, frozenset(), {"INTRA_OP_NUM_THREADS": "2", "EXECUTION_PROVIDER": "CPU"}),
}


def made(models: dict[int, Model], *trials: dict[str, Any]) -> summary.Made:
    known = {one["id"]: models[one["variant"]["candidate"]] for one in trials}
    return summary.Made(trials, 0, known, "2026-03-14T09:20:00Z")


def documented(*trials: dict[str, Any], models: dict[int, Model] = MODELS, **changes: Any) -> dict[str, Any]:
    document = summary.document(plan(**changes), made(models, *trials), "aml_tuner", "0.1.0")
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
        "succeeded_per_sec. The next, candidate 1, worker_count 2, is 28 % worse in succeeded_per_sec."
    )
    assert (
        "One setting changed, by succeeded_per_sec: candidate 1 instead of 2: 28 % worse; worker_count 1 instead of 2: "
        "40 % worse, 4 instead of 2: misses a constraint." in why
    )
    assert document["choice"]["command"] == (
        "python -m aml_online_endpoints_deployer \\\n  --deployment_yaml_path outputs/deployment.yml \\\n"
        "  --model_folder_path 'my model' \\\n  --variant '{\"candidate\": 2}'"
    ), "with the model, and its session's variables, which a YAML cannot choose"
    given = yaml.safe_load(GIVEN)
    given["environment_variables"]["WORKER_COUNT"] = "2"
    assert yaml.safe_load(document["choice"]["deployment_yml"]) == given
    head = document["choice"]["deployment_yml"].partition("name: blue")[0]
    assert "that the model is the optimizer's candidate 2 is said by" in head and "another model is deployed" in head
    assert "\n# ".join(document["choice"]["command"].splitlines()) in head
    assert (
        "A more accurate model is that of candidate 1 (accuracy 0.99): at its best, candidate 1, worker_count 2, 28 % "
        in why
    )


def test_limits_that_the_profilers_configuration_has_are_told_of() -> None:
    assert "Of the 2 trials, it is" in documented(trial((2, 1)), trial((2, 2)), constraints={})["choice"]["why"]
    missed = documented(trial((2, 1)), trial((2, 4)), constraints={})["choice"]["why"]
    assert "It is the only trial that keeps every limit." in missed


def test_the_chosen_deployment_yml_is_whole_and_can_be_copied_from_the_page() -> None:
    space = Space.of({"max_concurrent_requests_per_instance": [4], "worker_count": [2]})
    chosen = {**trial((2, 2)), "variant": space.variant((4, 2)), "id": plan(space=space).trial_id((4, 2))}
    known = {"INTRA_OP_NUM_THREADS": "3", "INTER_OP_NUM_THREADS": "1", "WORKER_COUNT": "9"}
    made = summary.Made([chosen], 0, {chosen["id"]: Model({}, frozenset(), known)}, "2026-03-14T09:20:00Z")
    named = {"MODEL_FOLDER_NAME": "weights"}
    document = summary.document(plan(space=space, model_variable=named), made, "aml_tuner", "0.1.0")
    text = document["choice"]["deployment_yml"]
    given = yaml.safe_load(GIVEN)
    # The YAML's own variables win over the optimizer's, and the variant over both, as in the trial.
    given["environment_variables"] |= {"WORKER_COUNT": "2", "INTRA_OP_NUM_THREADS": "3", **named}
    given["request_settings"]["max_concurrent_requests_per_instance"] = 4
    assert yaml.safe_load(text) == given
    assert text.count("request_settings:") == 1 and "--variant" not in document["choice"]["command"]
    assert copied(render_summary(document)) == [document["choice"]["command"], text]


def copied(page: str) -> list[str]:
    """What a reader of a page copies from its texts, as HTML says it."""
    texts: list[str] = []

    class Reader(HTMLParser):
        inside = False

        def handle_starttag(self, tag: str, attrs: Any) -> None:
            self.inside = self.inside or tag == "pre"
            if tag == "pre":
                texts.append("")

        def handle_endtag(self, tag: str) -> None:
            self.inside = self.inside and tag != "pre"

        def handle_data(self, data: str) -> None:
            if self.inside:
                texts[-1] += data

    Reader().feed(page)
    return [text.removeprefix("\n") for text in texts]  # the line break just after <pre> is none of its text


def test_a_deployment_yaml_keeps_its_files_and_what_it_merges_in(tmp_path: Path) -> None:
    path = tmp_path / "given" / "deployment.yml"
    path.parent.mkdir()
    path.write_text(
        "base: &base {worker: 1, environment_variables: {A: '010', B: 'on'}}\n<<: *base\nname: blue\n"
        "model: {path: ./weights}\ncode_configuration: {code: ../code, scoring_script: score.py}\n"
        "environment: {conda_file: <% ENVIRONMENT_FOLDER_PATH %>/conda.yml, build: {path: /abs}}\n"
    )
    text = deployment.given(path, tmp_path / "outputs")
    told = yaml.safe_load(deployment.written(text, {"worker_count": 2}, {}, "deploy", "this"))
    assert told["environment_variables"] == {"A": "010", "B": "on", "WORKER_COUNT": "2"}
    assert told["base"]["environment_variables"] == {"A": "010", "B": "on"}
    assert told["model"]["path"] == "../given/weights" and told["code_configuration"]["code"] == "../code"
    assert told["environment"] == {
        "conda_file": "<% ENVIRONMENT_FOLDER_PATH %>/conda.yml", "build": {"path": "/abs"}
    }  # fmt: skip
    assert deployment.model_variable(text, tmp_path / "weights") == {"MODEL_FOLDER_NAME": "weights"}
    assert deployment.model_variable(GIVEN, tmp_path / "weights") == {}, "the deployer says it"
    path.write_text("environment_variables: none\n")
    with pytest.raises(InputError, match=r"given/deployment.yml: /environment_variables: is not a mapping"):
        deployment.check(deployment.given(path, tmp_path), {"worker_count": 2}, path)
    path.write_text("- a list\n")
    with pytest.raises(InputError, match="is not a mapping"):
        deployment.given(path, tmp_path)


@pytest.mark.parametrize(
    "merged",
    [
        "environment_variables: *shared",
        "environment_variables: {<<: *shared}",
        "environment_variables: {<<: [*shared, {C: x}], B: *value}",
        "environment_variables: {*key : '2', B: *value}",
        "environment_variables:\n  <<: *shared\ntags: [*key, *shared]",
    ],
)
def test_what_a_deployment_yaml_has_in_two_places_is_written_in_both(tmp_path: Path, merged: str) -> None:
    path = tmp_path / "deployment.yml"
    path.write_text(f"name: blue\nbase: &shared {{&key A: &value '1', B: 'no'}}\n{merged}\n")
    wanted = yaml.safe_load(path.read_text())
    text = deployment.written(deployment.given(path, tmp_path), {"worker_count": 2}, {}, "deploy", "this")
    assert not {"&", "*"} & set(text), "as a person writes it, and as every reader of YAML takes it"
    variables = {**wanted["environment_variables"], "WORKER_COUNT": "2"}
    assert yaml.safe_load(text) == {**wanted, "environment_variables": variables}, "and the base stays as it was"


def test_a_deployment_yaml_that_holds_itself_is_written_as_such(tmp_path: Path) -> None:
    path = tmp_path / "deployment.yml"
    path.write_text("name: blue\ntags: &tags {own: *tags}\n")
    tags = yaml.safe_load(deployment.given(path, tmp_path))["tags"]
    assert tags["own"] is tags


def test_an_accuracy_may_be_the_better_the_lower_it_is() -> None:
    errors = {
        rank: Model({"accuracy-error": 1 - model.accuracy["accuracy"]}, frozenset({"accuracy-error"}))
        for rank, model in MODELS.items()
    }
    document = documented(*map(trial, FIGURES), models=errors)
    assert variants(document, document["pareto_front"]) == [(2, 1), (2, 2), (1, 1), (1, 2)]
    assert "A more accurate model is that of candidate 1 (accuracy-error 0.01)" in document["choice"]["why"]
    best = documented(trial((1, 2)), trial((2, 1)), models=errors)
    assert variants(best, [best["choice"]["id"]]) == [(1, 2)] and "more accurate" not in best["choice"]["why"]


def test_near_draws_and_doubts_are_called_so() -> None:
    doubtful = trial((2, 2), valid=False, reasons=["the load generator ran out of CPU"])
    near = trial((2, 1), metrics={**trial((2, 1))["metrics"], "succeeded_per_sec": 249.0})
    document = documented(doubtful, near)
    assert (
        "0.4 % worse in succeeded_per_sec, which one more run of each might turn: every variant was deployed and "
        "measured once." in document["choice"]["why"]
    )
    assert document["choice"]["why"].endswith("may not be believed as it is: the load generator ran out of CPU.")
    behind = documented(trial((2, 2)), {**doubtful, "variant": SPACE.variant((2, 1)), "id": near["id"], "metrics": {
        **doubtful["metrics"], "succeeded_per_sec": 150.0}})["choice"]["why"]  # fmt: skip
    assert "worse in succeeded_per_sec; but its run is not valid: the load generator ran out of CPU." in behind
    assert "worker_count 1 instead of 2: 40 % worse in a run that is not valid." in behind
    gaps = " ".join(document["not_measured"])
    assert "4 of the 6 combinations: they were not tried" in gaps
    assert "never tried: candidate 1, worker_count 4" in gaps
    assert "1 of the 2 runs are not valid" in gaps


def test_percentages_of_several_weights_are_said_to_be_of_the_weighed_figure() -> None:
    why = documented(*map(trial, FIGURES), objective={"succeeded_per_sec": 1.0, "latency_ms_99": 0.25})["choice"]["why"]
    assert "% worse in the weighed objective." in why and "One setting changed, by the weighed objective: " in why
    one = documented(*map(trial, FIGURES), objective={"succeeded_per_sec": 2.0})["choice"]["why"]
    assert "% worse in the weighed objective." in one, "a weight of 2 squares it"


@pytest.mark.parametrize(
    ("profiler", "load", "said"),
    [
        ("aml_wrk_profiler", {"connections": 4}, " at 4 connections, in a closed loop,"),
        ("aml_wrk2_profiler", {"target_rps": 50, "connections": 1}, " at 50 requests/s, 1 connection,"),
        ("aml_labench_profiler", {"target_rps": 50, "clients": [2, 4]}, " at 50 requests/s,"),
        ("aml_wrk_profiler", {"connections": [2, 4]}, ","),
    ],
)
def test_the_load_is_told_with_the_choice(profiler: str, load: dict[str, Any], said: str) -> None:
    document = documented(trial((2, 2)), profiler=profiler, profiler_config={"profiler_config": load})
    assert f"250 good answers per second{said} p99 7 ms" in document["choice"]["why"]


def test_whether_a_trial_may_be_believed_stands_beside_its_name_with_the_first_reason() -> None:
    doubtful = trial((2, 1), valid=False, reasons=["the load generator ran out of CPU", "a second", "a third"])
    page = html.unescape(render_summary(documented(trial((2, 2)), doubtful)))
    why = "no: the load generator ran out of CPU (and 2 more, in its report.html)"
    assert page.count(f'candidate 2, worker_count 1</th><td class="long">{why}</td>') == 2, (
        "among the best, and among all"
    )
    assert '<th scope="col">Variant</th><th scope="col">May be believed</th>' in page


def test_nothing_that_holds_leaves_no_choice() -> None:
    document = documented(trial((2, 4)))
    assert (document["choice"], document["top"], document["pareto_front"]) == (None, [], [])
    assert "No combination keeps every constraint" in render_summary(document)


def test_the_page_shows_the_figures_of_the_choice_and_loads_nothing() -> None:
    document = documented(*map(trial, FIGURES))
    page = render_summary(document)
    index = next(i for i, one in enumerate(document["trials"]) if one["id"] == document["choice"]["id"])
    assert f'data-pointer="/trials/{index}/metrics/latency_ms_99"' in page
    assert copied(page) == [document["choice"]["command"], document["choice"]["deployment_yml"]]
    assert "WORKER_COUNT: &#39;2&#39;" in page and "front at accuracy 0.99" in page
    named = {rank: Model({"own/f~1": model.accuracy["accuracy"]}) for rank, model in MODELS.items()}
    assert f'data-pointer="/trials/{index}/accuracy/own~1f~01"' in render_summary(
        documented(*map(trial, FIGURES), models=named)
    ), "any name"
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


PARAMETERS: dict[str, Any] = {
    "execution_provider": [["CPUExecutionProvider", {}]],
    "session_options": {"intra_op_num_threads": 3, "execution_mode": 0},
}


def test_the_model_is_what_the_optimizer_says_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "CandidateModels" / "cpu-cpu" / "BestCandidateModel_2"
    folder.mkdir(parents=True)
    found = {"accuracy-f1": {"value": 0.9}, "accuracy-loss": {"value": 1, "higher_is_better": False}}
    (folder / "metrics.json").write_text(json.dumps({"candidate_model_metrics": found | {"latency-avg": {"value": 3}}}))
    for wanted in (2, "cpu-cpu/2"):
        model = model_of(None, tmp_path, {"candidate": wanted})
        assert model == Model({"accuracy-f1": 0.9, "accuracy-loss": 1.0}, frozenset({"accuracy-loss"}))
        assert model.losses() == (-0.9, 1.0)
    assert model_of(None, tmp_path, {"candidate": 3}) == model_of(None, None, {"worker_count": 1}) == Model()


def test_users_name_accuracy_as_they_like(tmp_path: Path) -> None:
    value = {"value": 0.9, "input_model_value": None, "priority": 1, "higher_is_better": True}
    metrics = {
        "agreement-mean_cosine": value, "retrieval-mrr": {**value, "type": "custom"}, "latency-avg": value,
        "Throughput-avg": value, "speed-p99": {**value, "type": "latency"}, "latency-own": {**value, "type": "custom"},
    }  # fmt: skip
    path = tmp_path / "optimized_parameters.json"
    path.write_text(json.dumps(PARAMETERS | {"metrics": metrics}))
    assert model_of(path, None, {}).accuracy == {"agreement-mean_cosine": 0.9, "retrieval-mrr": 0.9}


def test_a_candidates_variables_are_its_own(tmp_path: Path) -> None:
    (tmp_path / "cpu-cpu_BestCandidateModel_2_inference_config.json").write_text(json.dumps(PARAMETERS))
    model = model_of(tmp_path, None, {"candidate": 2})
    assert model.variables == {
        "EXECUTION_MODE": "ExecutionMode.ORT_SEQUENTIAL", "EXECUTION_PROVIDER": "CPUExecutionProvider",
        "INTRA_OP_NUM_THREADS": "3",
    }  # fmt: skip
    assert model_of(tmp_path, None, {"worker_count": 2}).variables == model.variables, "the only ones that are there"
    with pytest.raises(InputError, match="no parameters of candidate 3"):
        model_of(tmp_path, None, {"candidate": 3})
    (tmp_path / "gpu-cuda_BestCandidateModel_2_inference_config.json").write_text(json.dumps(PARAMETERS))
    with pytest.raises(InputError, match="candidate 2 of which accelerator"):
        model_of(tmp_path, None, {"candidate": 2})


def report_of(measured: Any, **more: Any) -> dict[str, Any]:
    report: dict[str, Any] = measured()
    return {**report, **more}


def test_what_the_profiler_could_not_confirm_or_use_is_a_miss(measured: Any) -> None:
    weights = {"succeeded_per_sec": 1.0}
    assert objective.judge(report_of(measured), weights).feasible
    found = {"reason": "the budget of 4 runs is spent before a run of full length could confirm 9"}
    confirmed = {"search": {**found, "answer": {"confirmed": True}}}
    assert objective.judge(report_of(measured, **confirmed), weights).feasible
    judged = objective.judge(report_of(measured, search={**found, "answer": {"confirmed": False}}), weights)
    assert not judged.feasible and judged.misses == () and judged.unconfirmed == found["reason"]
    assert objective.judge(report_of(measured, **confirmed), weights).unconfirmed is None
    choices = [{"payload_class": "small", "best": 1}, {"payload_class": "large", "best": None}]
    judged = objective.judge(report_of(measured, choices=choices), weights)
    assert judged.misses == ("no run of payload class large can be used, or keeps every demand",)
    unknown = {"metric": "latency_ms_99", "limit": 9, "value": None, "met": False, "reason": "it never came"}
    judged = objective.judge(report_of(measured, sla={"met": False, "criteria": [unknown]}), weights)
    assert judged.misses == ("latency_ms_99 is not known (it never came), its limit is 9",)
    refused = report_of(measured)
    sent = refused["result"]["requests"]["sent"]
    refused["result"]["errors"]["status"] = {"429": sent // 10}
    judged = objective.judge(refused, weights)
    assert not judged.feasible and judged.misses[0].endswith("% of the requests were refused with 429")
    refused["sla"] = {"met": True, "criteria": [{"metric": "refused_percent", "limit": 20, "value": 10, "met": True}]}
    assert objective.judge(refused, weights).feasible, "where refusals are allowed"


def test_a_latency_that_is_demanded_is_ranked_with_those_who_were_not_answered(measured: Any) -> None:
    weights = {"latency_ms_99": 1.0}
    report = report_of(measured)
    of_answers = report["result"]["latency_ms"]["percentiles"]["99"]["value"]
    of_all = {"metric": "latency_ms_99", "limit": 9 * of_answers, "value": 8 * of_answers, "met": True}
    judged = objective.judge({**report, "sla": {"met": True, "criteria": [of_all]}}, weights)
    assert judged.feasible and judged.metrics["latency_ms_99"] == 8 * of_answers
    assert judged.score == objective.score({"latency_ms_99": 8 * of_answers}, weights)
    best = trial((2, 2), metrics=judged.metrics)
    why = documented(best, constraints={"latency_ms_99": of_all["limit"]})["choice"]["why"]
    assert f"p99 {8 * of_answers:.4g} ms" in why and f"(here {8 * of_answers:.4g})" in why
    assert objective.judge(report, weights).metrics["latency_ms_99"] == of_answers, "all were answered"


def test_an_objective_does_not_take_lost_requests_for_quick_ones(measured: Any) -> None:
    weights = {"latency_ms_99": 1.0}
    report = report_of(measured)
    result = report["result"]
    told = {name: one["value"] for name, one in result["latency_ms"]["percentiles"].items()}
    count = result["latency_ms"]["count"]
    assert result["errors"].get("timeout", 0) == 0
    result["errors"]["timeout"] = lost = count * 9 // 1000
    result["requests"]["sent"] = count + lost
    judged = objective.judge(report, weights)
    assert judged.feasible
    # Nine in a thousand more that are slower: the p99 of all is the answers' p99.9.
    assert told["99"] < judged.metrics["latency_ms_99"]
    assert judged.metrics["latency_ms_99"] == pytest.approx(told["99.9"], rel=0.1)
    assert judged.metrics["latency_ms_50"] == pytest.approx(told["50"], rel=0.02)
    assert judged.metrics["latency_ms_mean"] == result["latency_ms"]["mean"]
    of_service = {name: one["value"] for name, one in result["service_time_ms"]["percentiles"].items()}
    assert judged.metrics["service_time_ms_99"] > of_service["99"]
    # As with a limit, what falls on a lost request has no length.
    assert not {"latency_ms_99.9", "latency_ms_max"} & judged.metrics.keys()
    result["errors"]["timeout"] = lost = count // 50
    result["requests"]["sent"] = count + lost
    assert objective.judge(report, weights).score is None


def test_a_percentile_that_too_few_requests_show_leaves_a_doubt(measured: Any) -> None:
    reason = "9000 requests were measured, too few for latency_ms_99.99, which needs 36888; let the run last longer"
    report = report_of(measured)
    criterion = {"metric": "latency_ms_99.99", "limit": 99, "value": 50, "met": True, "certified": False}
    report |= {"sla": {"met": True, "criteria": [criterion]}}
    report["verdict"] |= {"valid": False, "reasons": [reason]}
    judged = objective.judge(report, {"succeeded_per_sec": 1.0})
    assert judged.feasible and (judged.valid, judged.reasons) == (False, (reason,))
    one = trial((2, 2), metrics=judged.metrics, valid=judged.valid, reasons=list(judged.reasons))
    document = documented(one, constraints={"latency_ms_99.99": 99})
    assert document["choice"]["why"].endswith(f"Its run may not be believed as it is: {reason}.")
    assert any(
        gap.startswith("1 of the 1 runs are not valid") and gap.endswith(reason) for gap in document["not_measured"]
    )


def test_a_payload_class_is_not_judged_by_another(measured: Any) -> None:
    weights = {"succeeded_per_sec": 1.0, "latency_ms_99": 1.0}
    report = report_of(measured)
    slow = json.loads(json.dumps(report["result"]))
    slow["succeeded_per_sec"] /= 10
    slow["latency_ms"]["percentiles"]["99"]["value"] *= 10
    runs = [
        {"number": number, "load": {**report["load"], "payload": {"source": "p", "class": name}}, "result": result,
         "verdict": {"valid": name == "small", "reasons": [] if name == "small" else ["too few"]}, "usable": True,
         "feasible": True, "cost": report["cost"],
         "sla": {"met": True, "criteria": [{"metric": "latency_ms_97", "limit": 99, "value": number, "met": True}]}}
        for number, (name, result) in enumerate((("small", report["result"]), ("large", slow)), 1)
    ]  # fmt: skip
    choices = [
        {"payload_class": name, "objective": "succeeded_per_sec", "best": number}
        for number, name in ((1, "small"), (2, "large"))
    ]
    judged = objective.judge({**report, "runs": runs, "choices": choices, "about_run": 1}, weights)
    assert judged.feasible and judged.payload_class == "large"
    assert judged.metrics["succeeded_per_sec"] == slow["succeeded_per_sec"]
    assert (judged.valid, judged.reasons) == (False, ("too few",))
    assert judged.metrics["latency_ms_97"] == 2, "what was demanded beside the usual figures is a figure too"
    # A class whose objective nobody knows misses no demand.
    unknown = [choices[0], {**choices[1], "best": None, "objective": "price_per_million_requests"}]
    judged = objective.judge({**report, "runs": runs, "choices": unknown, "about_run": 1}, weights)
    assert judged.misses == (
        "price_per_million_requests is not known of any run of payload class large that keeps every demand",
    )


SEARCHED = {"answer": {"axis": "connections", "value": 12, "interval": [10.5, None]}}
LOAD = {"profiler_config": {"search": {}, "repeat": 3}}


def test_what_a_search_found_is_told_and_what_it_could_not_confirm_is_no_miss() -> None:
    why = "the budget of 8 runs is spent before a run of full length could confirm 9"
    doubtful = trial((1, 2), feasible=False, unconfirmed=why, excess=0.5, **SEARCHED)
    document = documented(trial((2, 2), **SEARCHED), doubtful, profiler_config=LOAD, constraints={})
    said = document["choice"]["why"]
    assert (
        "250 good answers per second at 12 connections (the most that holds, 95 % interval 10.5 or more), p99 7 ms"
        in said
    )
    assert "candidate 1 instead of 2: not confirmed" in said and "misses" not in said
    gaps = " ".join(document["not_measured"])
    assert f"1 of the 2 trials are not ranked, as no run of full length confirmed what their searches found: {why}" in (
        gaps.replace("candidate 1, worker_count 2; the first: ", "")
    )
    assert "every variant was deployed and searched once, each load measured 3 times in a row" in gaps
    page = html.unescape(render_summary(document))
    assert "Most connections that hold" in page and 'data-pointer="/trials/0/answer/interval/0"' in page
    assert "Largest load found" in page and "12 connections" in page
    assert f"not confirmed: {why}" in page and "misses" not in page
    nothing = documented(doubtful, constraints={})
    assert nothing["choice"] is None
    assert "No combination is confirmed to keep every constraint" in render_summary(nothing)


def test_an_objective_that_is_not_known_is_no_missed_constraint() -> None:
    document = documented(trial((2, 2)), objective={"price_per_million_requests": 1.0})
    assert document["choice"] is None
    page = render_summary(document)
    assert page.count("price_per_million_requests is not known of any combination that keeps every constraint") == 3
    assert "No combination keeps" not in page and "No trial kept" not in page


def test_candidates_that_were_not_tried_and_limits_of_accuracy_are_told() -> None:
    out = Excluded(3, ("has accuracy 0.9, less than the 0.95 demanded",))
    document = documented(trial((2, 2)), trial((1, 2)), accuracy_limits={"accuracy": 0.95}, excluded=(out,))
    assert (
        "that keep latency_ms_99 at most 20 (here 7) and accuracy at least 0.95 (here 0.97)"
        in document["choice"]["why"]
    )
    assert document["constraints"] == {"latency_ms_99": 20.0, "accuracy": 0.95}
    assert document["excluded"] == [{"candidate": 3, "misses": list(out.misses)}]
    told = "candidate 3 has accuracy 0.9, less than the 0.95 demanded: it was not deployed"
    assert told in document["not_measured"] and told[1:] in render_summary(document)


def test_a_more_accurate_model_is_better_in_one_metric_and_worse_in_none() -> None:
    one = Model({"f1": 0.9, "loss": 0.3}, frozenset({"loss"}))
    assert Model({"loss": 0.2, "f1": 0.9}, frozenset({"loss"})).is_more_accurate(one)
    assert not Model({"f1": 0.99, "loss": 0.4}, frozenset({"loss"})).is_more_accurate(one), "it is a matter of taste"
    assert not one.is_more_accurate(one)
    assert not Model({"f1": 0.99}).is_more_accurate(one)
    mixed = {1: Model({"a": 0.99, "b": 0.1}), 2: Model({"a": 0.97, "b": 0.2})}
    assert "more accurate" not in documented(*map(trial, FIGURES), models=mixed)["choice"]["why"]
