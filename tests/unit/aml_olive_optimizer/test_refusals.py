"""What the tool does not do is refused by name, with the place and with what to do instead."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aml_olive_optimizer import environment
from aml_olive_optimizer.configuration import eager_attention, from_document
from aml_olive_optimizer.refusals import refuse_other_inputs
from aml_tool_core import InputError

DIGITS = Path(__file__).parents[3] / "job-templates" / "digits" / "optimizer.json"

Change = Callable[[dict[str, Any]], object]


def digits() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DIGITS.read_text(encoding="utf-8"))
    return loaded


def refused(change: Change) -> str:
    document = digits()
    change(document)
    with pytest.raises(InputError) as caught:
        from_document(document, "config.json", DIGITS.parent / "code", 2)
    said = str(caught.value)
    assert "\n" not in said
    return said


def metrics(document: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = document["evaluators"]["common_evaluator"]["metrics"]
    return found


@pytest.mark.parametrize(
    ("change", "place", "remedy"),
    [
        (
            lambda d: d["systems"].update(cloud={"type": "AzureML", "config": {"aml_compute": "cpu"}}),
            "/systems/cloud/type: 'AzureML'",
            "only LocalSystem",
        ),
        (lambda d: d["systems"]["local_system"].update(type="Docker"), "/systems/local_system/type: 'Docker'", "only"),
        (lambda d: d["engine"].update(target={"type": "PythonEnvironment"}), "/engine/target/type", "only LocalSystem"),
        (lambda d: d["passes"]["conversion"].update(host={"type": "Docker"}), "/passes/conversion/host/type", "only"),
        (lambda d: d.update(azureml_client={"subscription_id": "x"}), "/azureml_client", "remove it"),
        (lambda d: d["engine"].update(azureml_client_config={}), "/engine/azureml_client_config", "remove it"),
        (lambda d: d.update(pass_flows=[["conversion"]]), "/pass_flows", "run the tool once per flow"),
        (lambda d: d["engine"].update(cache="x"), "/engine/cache: unknown key", "cache_dir"),
        (lambda d: d.update(evaluater="x"), "/evaluater: unknown key", "evaluators"),
        (lambda d: d.update(search_strategy=True), "/search_strategy: stands in the engine too", "give it once"),
        (lambda d: metrics(d)[1].update(name="accuracy"), "/metrics/1/name: 'accuracy' stands twice", "its own name"),
        (lambda d: metrics(d)[1]["sub_types"][0].update(priority=3), "priorities are [1, 3]", "number them 1 to 2"),
        (lambda d: metrics(d)[1]["sub_types"][0].update(priority=1), "priorities are [1, 1]", "number them 1 to 2"),
        (
            lambda d: [metric["sub_types"][0].update(priority=-1) for metric in metrics(d)],
            "no metric has a priority",
            "give the one to rank by priority 1",
        ),
        (lambda d: metrics(d)[0].pop("data_config"), "/metrics/0: accuracy needs data", "data_configs"),
        (lambda d: metrics(d)[1].pop("data_config"), "/metrics/1: latency with dynamic axes needs data", "DummyData"),
        (lambda d: d["passes"]["perf_tuning"].pop("data_config"), "/passes/perf_tuning: session tuning", "data_config"),
    ],
)
def test_refusals_name_the_place_and_the_remedy(change: Change, place: str, remedy: str) -> None:
    said = refused(change)
    assert said.startswith("config.json: /")
    assert place in said
    assert remedy in said


def named_inputs(names: list[str], passes: dict[str, Any] | None = None) -> dict[str, Any]:
    data = {"name": "made", "type": "DummyDataContainer", "load_dataset_config": {"input_names": names}}
    return {
        "data_configs": [data, {**data, "name": "unused", "load_dataset_config": {"input_names": ["other"]}}],
        "evaluators": {"one": {"metrics": [{"name": "latency", "type": "latency", "data_config": "made"}]}},
        "passes": passes or {},
    }


def test_data_that_lack_an_input_of_the_model_are_refused() -> None:
    refuse_other_inputs(named_inputs(["pixels", "more"]), "config.json", ["pixels"])
    with pytest.raises(InputError) as caught:
        refuse_other_inputs(named_inputs(["x"], {"q": {"type": "OnnxQuantization"}}), "config.json", ["pixels"])
    assert str(caught.value) == (
        "config.json: /data_configs/0/load_dataset_config/input_names: no 'pixels' there; the model's inputs are "
        "pixels: name them all"
    )
    # After such a pass the inputs may be others.
    refuse_other_inputs(named_inputs(["x"], {"s": {"type": "GraphSurgeries"}}), "config.json", ["pixels"])


def test_an_evaluator_without_a_name_is_judged_too() -> None:
    def unnamed(document: dict[str, Any]) -> None:
        metrics(document)[1]["sub_types"][0].update(priority=1)
        document["engine"]["evaluator"] = document.pop("evaluators")["common_evaluator"]

    assert "/engine/evaluator/metrics: the priorities are [1, 1]" in refused(unnamed)


@pytest.mark.parametrize(
    ("value", "said"), [(3, "/passes/tuning: 3 is not"), ([3], "/passes/tuning/0: 3 is not of type 'object'")]
)
def test_a_pass_that_is_no_object(value: Any, said: str) -> None:
    assert said in refused(lambda document: document["passes"].update(tuning=value))


@pytest.mark.parametrize("document", [[], "x", 3, None])
def test_a_configuration_is_an_object(document: Any) -> None:
    with pytest.raises(InputError, match=r"config\.json: /: .* is not of type 'object'"):
        from_document(document, "config.json", None, 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("from olive.model import OliveModel\n", "line 1: .*OliveModelHandler"),
        ("import olive.model\n\ndef f(model: olive.model.OliveModel): ...\n", "line 3: .*OliveModelHandler"),
        (
            "from olive.evaluator.accuracy import AccuracyScore\n\nx = AccuracyScore({}).measure([1], [1])\n",
            r"line 3: measure\(preds, target\).*OliveModelOutput",
        ),
        (
            "from olive.evaluator.accuracy import AccuracyScore\n\n"
            "def f(preds, target):\n    score = AccuracyScore({})\n    return score.measure(preds, target)\n",
            r"line 5: measure\(preds, target\).*OliveModelOutput",
        ),
        ("def f(:\n", "line 1: not Python"),
    ],
)
def test_user_scripts_of_an_older_olive_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "user_script.py").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        from_document(digits(), "config.json", tmp_path, 2)


def test_a_user_script_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"/input_model/model_script: user_script\.py: no such file or folder; not in "
    ):
        from_document(digits(), "config.json", tmp_path, 2)


def test_a_user_script_in_the_current_style_is_taken(tmp_path: Path) -> None:
    text = (
        "from olive.evaluator.accuracy import AccuracyScore\n"
        "from olive.evaluator.olive_evaluator import OliveModelOutput\n"
        "from olive.model import OliveModelHandler\n"
        "x = AccuracyScore({}).measure(OliveModelOutput([1], None), [1])\n"
    )
    (tmp_path / "user_script.py").write_text(text, encoding="utf-8")
    from_document(digits(), "config.json", tmp_path, 2)


def test_a_missing_execution_provider_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "available_providers", lambda: ["CPUExecutionProvider"])
    environment.check_providers(["CPUExecutionProvider"], "config.json")
    with pytest.raises(InputError, match=r"config\.json: execution provider CUDAExecutionProvider: not in this env"):
        environment.check_providers(["CPUExecutionProvider", "CUDAExecutionProvider"], "config.json")


@pytest.mark.parametrize("opset", [13, 17])
@pytest.mark.parametrize("nested", [False, True])
def test_hugging_face_models_are_loaded_eagerly_for_an_old_opset(opset: int, nested: bool) -> None:
    model = {"type": "HfModel", "config": {"model_path": "x"}} if nested else {"type": "HfModel", "model_path": "x"}
    document = {"input_model": model, "passes": {"conversion": {"type": "OnnxConversion", "target_opset": opset}}}
    before = copy.deepcopy(document)
    result, warnings = eager_attention(document)
    assert document == before
    loading = (result["input_model"]["config"] if nested else result["input_model"]).get("load_kwargs")
    assert loading == ({"attn_implementation": "eager"} if opset == 13 else None)
    assert len(warnings) == (1 if opset == 13 else 0)
