"""Every legacy key is translated, dropped or refused, and no key ever disappears without a line."""

from __future__ import annotations

import ast
import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aml_olive_optimizer import configuration, forced, legacy
from aml_olive_optimizer.legacy import Translated, thread_counts, translate
from aml_tool_core import InputError
from aml_tool_core.documents import pointer, validate
from hypothesis import given, settings
from hypothesis import strategies as st

CONFIGURATIONS = Path(__file__).parents[2] / "data" / "valid" / "olive_config"
SAMPLES = ("legacy_bert", "legacy_user_script", "legacy_onnx")


def sample(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((CONFIGURATIONS / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


def translated(document: Mapping[str, Any], cores: int = 4) -> Translated:
    return translate(document, "config.json", cores)


def places(result: Translated) -> list[str]:
    return [change.place for change in result.changes]


def test_the_predecessors_own_sample() -> None:
    result = translated(sample("legacy_bert")).configuration
    assert result["input_model"]["type"] == "HfModel"
    model = result["input_model"]["config"]
    assert model["model_path"] == "Intel/bert-base-uncased-mrpc"
    assert model["task"] == "text-classification"
    assert "hf_config" not in model
    assert result["systems"]["local_system"]["config"]["accelerators"] == [
        {"device": "cpu", "execution_providers": ["CPUExecutionProvider", "OpenVINOExecutionProvider"]}
    ]
    assert result["engine"]["search_strategy"] == {
        "execution_order": "joint",
        "sampler": "tpe",
        "sampler_config": {"max_samples": 3, "seed": 0},
    }
    dataset, dummy = result["data_configs"]
    assert dataset == {
        "name": "input_model_dataset",
        "type": "HuggingfaceContainer",
        "load_dataset_config": {"params": {"data_name": "glue", "subset": "mrpc", "split": "validation"}},
        "pre_process_data_config": {"params": {"input_cols": ["sentence1", "sentence2"], "label_col": "label"}},
        "dataloader_config": {"params": {"batch_size": 1}},
    }
    assert dummy["type"] == "DummyDataContainer"
    metrics = result["evaluators"]["common_evaluator"]["metrics"]
    assert [metric["data_config"] for metric in metrics] == ["input_model_dataset"] * 2
    tuning = result["passes"]["perf_tuning"]
    assert tuning["type"] == "OrtSessionParamsTuning"
    assert tuning["config"] == {
        "data_config": dummy["name"],
        "providers_list": "DEFAULT_VALUE",
        "execution_mode_list": [0, 1],
        "opt_level_list": [99],
        "inter_thread_num_list": [1],
        "intra_thread_num_list": [1, 2, 4],
    }


def test_user_functions_are_called_through_generated_scripts() -> None:
    result = translated(sample("legacy_user_script"))
    names = {script.reference: script for script in result.scripts}
    for script in result.scripts:
        ast.parse(script.text)
    metrics = {metric["name"]: metric for metric in result.configuration["evaluators"]["common"]["metrics"]}
    data = {entry["name"]: entry for entry in result.configuration["data_configs"]}
    accuracy = data[metrics["accuracy"]["data_config"]]
    assert names[accuracy["user_script"]].text.count("create_dataloader") == 1
    assert accuracy["post_process_data_config"]["type"] == "common_accuracy_post_process"
    assert accuracy["dataloader_config"] == {"type": "common_accuracy_dataloader", "params": {"batch_size": 8}}
    own = metrics["own"]["user_config"]
    assert own["evaluate_func"] == "evaluate"
    assert "'user_script.py', None, 'evaluate'" in names[own["user_script"]].text
    model = result.configuration["input_model"]["config"]
    assert model["model_loader"] == "load_model"
    assert model["model_script"] in names
    quantization = result.configuration["passes"]["quantization"]
    assert quantization["config"]["precision"] == "uint8"
    assert "disable_search" not in quantization
    assert result.configuration["systems"]["local_system"]["config"]["accelerators"][0]["device"] == "cpu"


def test_an_onnx_configuration_gets_a_system_and_a_search() -> None:
    result = translated(sample("legacy_onnx")).configuration
    assert result["engine"]["target"] == "local_system"
    assert forced.accelerators(result) == [("cpu", ["CPUExecutionProvider", "OpenVINOExecutionProvider"])]
    assert result["engine"]["search_strategy"] == {"execution_order": "joint", "sampler": "sequential"}
    assert result["passes"]["perf_tuning"]["config"]["intra_thread_num_list"] == [1]
    assert set(result["input_model"]["config"]) == {"model_path"}


@pytest.mark.parametrize("name", SAMPLES)
def test_what_comes_out_is_valid_and_needs_no_further_translation(name: str) -> None:
    result = translated(sample(name))
    validate(result.configuration, "olive_config", name)
    again = translated(result.configuration)
    assert again.configuration == result.configuration
    assert again.changes == ()


def test_a_current_configuration_comes_out_as_it_went_in() -> None:
    current = Path(__file__).parents[3] / "job-templates" / "digits" / "optimizer.json"
    for document in (json.loads(current.read_text(encoding="utf-8")), sample("current_minimal")):
        result = translated(document)
        assert result.configuration == document
        assert result.changes == ()


def test_only_the_forced_keys_are_added_to_a_current_configuration() -> None:
    document = sample("current_minimal")
    prepared = configuration.from_document(document, "config.json", None, 2)
    assert {key: prepared.configuration[key] for key in document} == document
    assert prepared.configuration["engine"] == dict(forced.FORCED)


ONE_OF_EACH: list[tuple[tuple[str | int, ...], Any]] = [
    (("engine", "output_name"), "best"),
    (("engine", "execution_providers"), ["CPUExecutionProvider"]),
    (("verbose",), True),
    (("input_model", "config", "hf_config", "feature"), "default"),
    (("input_model", "config", "hf_config", "from_pretrained_args"), {"torch_dtype": "float32"}),
    (("input_model", "config", "model_loader"), "load"),
    (("input_model", "config", "model_storage_kind"), "LocalFolder"),
    (("systems", "local_system", "config", "device"), "cpu"),
    (("passes", "conversion", "disable_search"), True),
    (("passes", "conversion", "clean_run_cache"), True),
    (("passes", "conversion", "output_name"), "x"),
    (("passes", "conversion", "config", "disable_search"), True),
    (("passes", "perf_tuning", "config", "providers_list"), ["CPUExecutionProvider"]),
    (("passes", "perf_tuning", "config", "data_dir"), "data"),
    (("passes", "perf_tuning", "config", "batch_size"), 4),
]


@pytest.mark.parametrize(("path", "value"), ONE_OF_EACH, ids=lambda part: str(part)[:60])
def test_each_legacy_key_is_told_of(path: tuple[str | int, ...], value: Any) -> None:
    document = sample("legacy_bert")
    holder: Any = document
    for part in path[:-1]:
        holder = holder[part]
    holder[path[-1]] = value
    assert unexplained(document, translated(document)) == []


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        ("weight_type", "QInt8", ("precision", "int8")),
        ("activation_type", "QUInt8", ("activation_type", "uint8")),
        ("ActivationSymmetric", True, ("activation_symmetric", True)),
        ("WeightSymmetric", False, ("weight_symmetric", False)),
        ("MatMulConstBOnly", True, ("extra_options", {"MatMulConstBOnly": True})),
    ],
)
def test_quantization_keys(kind: str, old: Any, new: tuple[str, Any]) -> None:
    document = sample("legacy_bert")
    document["passes"]["quantization"] = {"type": "OnnxDynamicQuantization", "config": {kind: old}}
    result = translated(document)
    assert result.configuration["passes"]["quantization"]["config"][new[0]] == new[1]
    assert unexplained(document, result) == []


def test_the_former_graph_optimizer() -> None:
    document = sample("legacy_bert")
    document["passes"]["graph"] = {"type": "OnnxModelOptimizer", "config": {}}
    result = translated(document)
    assert result.configuration["passes"]["graph"] == {"type": "OnnxPeepholeOptimizer", "config": {}}
    assert "/passes/graph/type: 'OnnxModelOptimizer' is now 'OnnxPeepholeOptimizer'" in map(str, result.changes)


@pytest.mark.parametrize("keys", [["from_pretrained_args"], ["loading_args"], ["from_pretrained_args", "loading_args"]])
def test_how_a_hugging_face_model_is_loaded(keys: list[str]) -> None:
    document = sample("legacy_bert")
    document["input_model"]["config"]["load_kwargs"] = {"revision": "main"}
    for key in keys:
        document["input_model"]["config"]["hf_config"][key] = {f"of_{key}": 1}
    result = translated(document)
    expected = {"revision": "main", **{f"of_{key}": 1 for key in keys}}
    assert result.configuration["input_model"]["config"]["load_kwargs"] == expected
    assert {f"/input_model/config/hf_config/{key}" for key in keys} <= set(places(result))


def test_component_kwargs_go_to_their_components() -> None:
    document = sample("legacy_bert")
    dataset = document["input_model"]["config"]["hf_config"]["dataset"]
    dataset["component_kwargs"] = {
        "load_dataset": {"trust_remote_code": False},
        "pre_process_data": {"max_length": 64, "label_col": "other"},
        "dataloader": {"batch_size": 4},
    }
    validate(document, "olive_config", "config.json")
    (entry, *_) = translated(document).configuration["data_configs"]
    assert entry["load_dataset_config"]["params"]["trust_remote_code"] is False
    assert entry["pre_process_data_config"]["params"]["max_length"] == 64
    assert entry["pre_process_data_config"]["params"]["label_col"] == "other"
    assert entry["dataloader_config"]["params"] == {"batch_size": 4}
    dataset["component_kwargs"] = None
    validate(document, "olive_config", "config.json")
    assert translated(document).configuration["data_configs"][0]["dataloader_config"]["params"] == {"batch_size": 1}


@pytest.mark.parametrize("name", SAMPLES)
def test_engine_keys_at_the_top_level_are_translated_too(name: str) -> None:
    nested = sample(name)
    flat = sample(name)
    flat |= flat.pop("engine")
    expected, result = translated(nested), translated(flat)
    assert result.configuration == expected.configuration
    told = {place.removeprefix("/engine") for place in places(expected)}
    assert {place.removeprefix("/engine") for place in places(result)} == told
    assert not [place for place in places(result) if place.startswith("/engine/") and place[8:].split("/")[0] in flat]


def test_evaluators_without_a_name_are_translated_too() -> None:
    document = sample("legacy_user_script")
    document["engine"]["evaluator"] = document.pop("evaluators")["common"]
    result = translated(document)
    metrics = {metric["name"]: metric for metric in result.configuration["engine"]["evaluator"]["metrics"]}
    data = {entry["name"] for entry in result.configuration["data_configs"]}
    assert metrics["accuracy"]["data_config"] in data
    assert metrics["own"]["user_config"]["user_script"] in {script.reference for script in result.scripts}
    assert unexplained(document, result) == []


def test_the_system_of_a_pass_is_translated_too() -> None:
    document = sample("legacy_bert")
    document["passes"]["conversion"]["host"] = {"type": "LocalSystem", "config": {"accelerators": ["CPU"]}}
    result = translated(document)
    accelerators = [{"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}]
    assert result.configuration["passes"]["conversion"]["host"]["config"]["accelerators"] == accelerators
    assert "/passes/conversion/host/config/accelerators" in places(result)


def test_inline_and_old_data_configs() -> None:
    document = sample("legacy_bert")
    document["data_configs"] = {"shapes": {"type": "DummyDataContainer", "params_config": {"input_shapes": [[1, 2]]}}}
    metric = document["evaluators"]["common_evaluator"]["metrics"][0]
    metric["data_config"] = {
        "name": "inline",
        "type": "HuggingfaceContainer",
        "components": {"dataloader": {"params": {"batch_size": 2}}},
    }
    result = translated(document)
    data = {entry["name"]: entry for entry in result.configuration["data_configs"]}
    assert data["shapes"]["load_dataset_config"] == {"params": {"input_shapes": [[1, 2]]}}
    assert data["inline"]["dataloader_config"] == {"params": {"batch_size": 2}}
    assert unexplained(document, result) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["input_model"]["config"]["hf_config"].update(components=[]), "/hf_config/components"),
        (lambda d: d["input_model"]["config"]["hf_config"].update(model_name=None), "/hf_config/model_name"),
        (lambda d: d["input_model"]["config"]["hf_config"]["dataset"].update(shuffle=True), "/dataset/shuffle"),
        (lambda d: d["input_model"]["config"]["hf_config"]["dataset"].update(label_cols=["a", "b"]), "label_cols"),
        (lambda d: d["engine"]["search_strategy"].update(search_algorithm="genetic"), "search_algorithm"),
        (lambda d: d["passes"]["perf_tuning"]["config"].update(dataloader_func="load"), "needs user_script"),
        (
            lambda d: d["passes"]["perf_tuning"]["config"].update(
                user_script="u.py", dataloader_func="load", batch_size="many"
            ),
            "/batch_size: 'many' is not a number of rows",
        ),
        (
            lambda d: d["input_model"]["config"]["hf_config"]["dataset"].update(component_kwargs={"loader": {}}),
            "/dataset/component_kwargs/loader: unknown; give one of load_dataset",
        ),
    ],
)
def test_what_has_no_equivalent_is_refused_by_name(change: Any, said: str) -> None:
    document = sample("legacy_bert")
    change(document)
    with pytest.raises(InputError, match=said):
        translated(document)


def test_thread_counts_are_bounded_by_the_cores() -> None:
    assert thread_counts(1) == [1]
    assert thread_counts(2) == [1, 2]
    assert thread_counts(6) == [1, 2, 4, 6]


# --- the property


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    if isinstance(value, dict) and value:
        for key, entry in value.items():
            yield from leaves(entry, (*path, key))
    elif isinstance(value, list) and any(isinstance(entry, dict) for entry in value):
        for index, entry in enumerate(value):
            yield from leaves(entry, (*path, index))
    else:
        yield path, value


def unexplained(before: Any, result: Translated) -> list[str]:
    """Return every key whose value is not where it was, and of which (or of whose parent) no change tells."""
    after = dict(leaves(result.configuration))
    told = set(places(result))
    return [
        pointer(path)
        for path, value in leaves(before)
        if after.get(path, legacy) != value and not told & {pointer(path[:end]) for end in range(1, len(path) + 1)}
    ]


KEYS = st.sampled_from(
    [
        "input_names",
        "input_shapes",
        "input_types",
        "dataloader_func",
        "data_dir",
        "batch_size",
        "user_script",
        "script_dir",
        "post_processing_func",
        "evaluate_func",
        "metric_func",
        "inference_settings",
        "io_bind",
        "disable_search",
        "clean_run_cache",
        "output_name",
        "providers_list",
        "device",
        "hf_config",
        "weight_type",
        "some_other_key",
    ]
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "input_names": st.just(["x"]),
    "input_shapes": st.just([[1, 4]]),
    "input_types": st.just(["float32"]),
    "batch_size": st.integers(1, 8),
    "io_bind": st.booleans(),
    "disable_search": st.booleans(),
    "clean_run_cache": st.booleans(),
    "inference_settings": st.just({"onnx": {}}),
    "providers_list": st.just(["CPUExecutionProvider"]),
    "hf_config": st.just({"model_name": "bert", "task": "fill-mask", "feature": "default"}),
    "weight_type": st.sampled_from(["QInt8", "QUInt8"]),
}


@st.composite
def sprinkled(draw: st.DrawFn) -> dict[str, Any]:
    """Return a legacy configuration with legacy keys put wherever they may stand, and where they may not."""
    document = copy.deepcopy(sample(draw(st.sampled_from(SAMPLES))))
    holders: list[dict[str, Any]] = [document["input_model"]["config"]]
    holders += [entry.setdefault("config", {}) for entry in document["passes"].values()]
    holders += list(document["passes"].values())
    for evaluator in document["evaluators"].values():
        holders += [metric.setdefault("user_config", {}) for metric in evaluator["metrics"]]
    for _ in range(draw(st.integers(1, 6))):
        holder, key = draw(st.sampled_from(range(len(holders)))), draw(KEYS)
        if key != "hf_config" or holder == 0:
            holders[holder][key] = draw(VALUES.get(key, st.just("something")))
    return document


@settings(max_examples=300, deadline=None)
@given(sprinkled())
def test_no_key_disappears_without_a_line(document: dict[str, Any]) -> None:
    before = copy.deepcopy(document)
    try:
        result = translated(document)
    except InputError:
        return  # refused, by name: nothing disappeared
    assert document == before, "the input was changed in place"
    assert unexplained(before, result) == []
