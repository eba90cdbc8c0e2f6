"""The MiniLM example's files agree with each other, with the tool, and with the digits example's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from aml_olive_optimizer import configuration, footprints, forced
from aml_olive_optimizer.places import Places
from aml_tool_core import InputError

TEMPLATES = Path(__file__).resolve().parents[3] / "job-templates"
EXAMPLE = TEMPLATES / "minilm"
CONFIG = EXAMPLE / "optimizer.json"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "all-MiniLM-L6-v2"
    folder.mkdir()
    (folder / "tokenizer.json").write_text("{}")
    return tmp_path


@pytest.fixture
def prepared() -> dict[str, Any]:
    found = configuration.prepared(CONFIG, None, EXAMPLE / "code")
    return dict(found.configuration)


def test_the_configuration_is_in_the_current_form_and_loses_nothing(prepared: dict[str, Any]) -> None:
    written = json.loads(CONFIG.read_text())
    assert {key: prepared[key] for key in ("input_model", "passes", "evaluators", "data_configs")} == {
        key: written[key] for key in ("input_model", "passes", "evaluators", "data_configs")
    }


def test_both_execution_providers_are_searched(prepared: dict[str, Any]) -> None:
    assert forced.accelerators(prepared) == [("cpu", ["CPUExecutionProvider", "OpenVINOExecutionProvider"])]


def test_scripts_are_found_in_code_and_data_beside_the_model(prepared: dict[str, Any], model: Path) -> None:
    resolved = Places(model, EXAMPLE / "code", model / "generated").resolved(prepared, "optimizer.json")
    folder = str((model / "all-MiniLM-L6-v2").resolve())
    assert resolved["input_model"]["model_path"] == folder
    assert resolved["input_model"]["model_attributes"]["additional_files"] == [f"{folder}/tokenizer.json"]
    for data in resolved["data_configs"]:
        assert data["user_script"] == str((EXAMPLE / "code" / "user_script.py").resolve())
        assert data["load_dataset_config"]["data_dir"] == folder


def test_a_missing_companion_file_is_named(prepared: dict[str, Any], model: Path) -> None:
    (model / "all-MiniLM-L6-v2" / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"/input_model/model_attributes/additional_files/0: .*tokenizer\.json"):
        Places(model, EXAMPLE / "code", model / "generated").resolved(prepared, "optimizer.json")


def test_the_search_holds_the_embeddings_to_the_promised_agreement(prepared: dict[str, Any]) -> None:
    goals = footprints.goals(prepared)
    assert goals["agreement-mean_cosine"].kind == "threshold"
    assert goals["agreement-mean_cosine"].value >= 0.99
    assert set(goals) == {"latency-min", "agreement-mean_cosine", "retrieval-mrr"}


def test_what_is_not_promised_is_not_configured(prepared: dict[str, Any]) -> None:
    # Found by the search, not by hand: every quantization is an alternative to leaving the model as it is.
    kinds = [entry["type"] for entry in prepared["passes"]["quantization"]]
    assert kinds == ["OnnxQuantizationPreprocess", "OnnxDynamicQuantization", "OnnxStaticQuantization"]
    assert prepared["passes"]["quantization"][1]["per_channel"] == [False, True]
    assert len(prepared["passes"]["fusion"]) == 2


def test_every_function_that_the_configuration_names_is_in_the_user_script(prepared: dict[str, Any]) -> None:
    script = (EXAMPLE / "code" / "user_script.py").read_text()
    named = {data["load_dataset_config"]["type"] for data in prepared["data_configs"]}
    evaluator = prepared["evaluators"]["common_evaluator"]
    named |= {metric["user_config"]["metric_func"] for metric in evaluator["metrics"] if "user_config" in metric}
    assert named
    for name in named:
        assert re.search(rf"^def {name}\(", script, re.MULTILINE), name


def test_serving_runs_the_optimizer_own_runtime_and_tokenizer() -> None:
    environment = yaml.safe_load((EXAMPLE / "environment" / "conda.yml").read_text())
    pinned = dict(entry.split("==") for entry in environment["dependencies"][-1]["pip"] if "==" in entry)
    lock = (TEMPLATES.parent / "images" / "aml_olive_optimizer" / "requirements.lock").read_text()
    for name in ("onnxruntime-openvino", "tokenizers"):
        assert re.search(rf"^{re.escape(name)}=={re.escape(pinned[name])}\b", lock, re.MULTILINE), name


@pytest.mark.parametrize("name", ["endpoint.yml", "deployment.yml"])
def test_deployment_files_differ_from_the_digits_example_in_names_only(name: str) -> None:
    ours, theirs = ((TEMPLATES / example / name).read_text() for example in ("minilm", "digits"))
    assert ours.replace("minilm", "digits") == theirs


def test_scoring_truncates_where_the_search_does() -> None:
    lengths = {
        re.search(r"^SEQUENCE_LENGTH = (\d+)", (EXAMPLE / path).read_text(), re.MULTILINE)
        for path in ("code/minilm.py", "score/score.py")
    }
    assert len({found.group(1) for found in lengths if found}) == 1
    assert None not in lengths


def test_the_benchmark_serves_the_original_with_the_searchs_own_versions() -> None:
    folder = TEMPLATES.parent / "tests" / "bench" / "optimizer" / "pytorch" / "environment"
    environment = yaml.safe_load((folder / "conda.yml").read_text())
    pinned = dict(entry.split("==") for entry in environment["dependencies"][-1]["pip"])
    lock = (TEMPLATES.parent / "images" / "aml_olive_optimizer" / "requirements.lock").read_text()
    for name in ("transformers", "tokenizers", "huggingface-hub"):
        assert re.search(rf"^{name}=={re.escape(pinned[name.replace('-', '_')])}\b", lock, re.MULTILINE), name
    makefile = (TEMPLATES.parent / "Makefile").read_text()
    assert f"TORCH := torch=={pinned['torch']}\n" in makefile
