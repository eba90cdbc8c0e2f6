"""Configurations of every style, and models of every shape, to packaged output."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from aml_olive_optimizer import default_search, onnx_graphs
from aml_tool_core import InputError, optimized_parameters
from aml_tool_core.documents import validate

from .conftest import REPOSITORY, Ended, Models, Optimize, example

pytestmark = pytest.mark.olive

BOTH = ["CPUExecutionProvider", "OpenVINOExecutionProvider"]


def assert_complete(ended: Ended, accelerators: list[str], count: int = 1) -> None:
    """Check the artifacts and the named outputs that users of the predecessor look for."""
    assert ended.code == 0, ended.stderr
    outputs, package = ended.folder / "outputs", ended.folder / "outputs" / "OutputModels"
    for accelerator in accelerators:
        for name in ("footprints.json", "pareto_frontier_footprints.json"):
            assert ended.output("outputs", f"{accelerator}_{name}")
        chart = outputs / f"{accelerator}_pareto_frontier_footprints_footprints_chart.html"
        assert "plotly" in chart.read_text(encoding="utf-8")
    names = [f"{accelerator}_BestCandidateModel_{k + 1}" for accelerator in accelerators for k in range(count)]
    with zipfile.ZipFile(outputs / "OutputModels.zip") as archive:
        zipped = set(archive.namelist())
    unpacked = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    assert zipped == unpacked
    ranking = ended.output("outputs", "OutputModels", "models_rank.json")
    assert [entry["rank"] for entry in ranking] == list(range(1, len(names) + 1))
    assert {entry["model_config"]["config"]["model_path"] for entry in ranking} <= unpacked
    for name in names:
        accelerator, _, number = name.rpartition("_BestCandidateModel_")
        folder = f"CandidateModels/{accelerator}/BestCandidateModel_{number}"
        for file in ("model.onnx", "configurations.json", "metrics.json", "inference_config.json", "model_info.json"):
            assert f"{folder}/{file}" in unpacked
        config = ended.output("parameters", f"{name}_inference_config.json")
        assert config == ended.output("outputs", "OutputModels", f"{folder}/inference_config.json")
        validate(config, "optimized_parameters", name)
        onnx.checker.check_model(str(ended.folder / "models" / f"{name}_model.onnx"))
    (wheel,) = [name for name in unpacked if name.startswith("ONNXRuntimePackages/")]
    assert ort.__version__ in wheel
    assert sum(name.startswith("SampleCode/") for name in unpacked) == 3
    best = ended.output("parameters", "optimized_parameters.json")
    validate(best, "optimized_parameters", "optimized_parameters.json")
    assert best["rank"] == 1
    assert f"{best['accelerator']}_BestCandidateModel_1" in names
    assert (ended.folder / "models" / f"{best['accelerator']}_BestCandidateModel_1_model.onnx").is_file()
    onnx.checker.check_model(str(ended.folder / "models" / "model.onnx"))
    page = (outputs / "optimization.html").read_text(encoding="utf-8")
    assert page.count('class="packaged"') == len(names)
    assert "http" not in page
    assert not list(outputs.glob(".*"))
    assert not list((ended.folder / "tmp").iterdir())


def assert_computes_the_same(model: Path, ended: Ended, name: str = "x") -> None:
    inputs = {name: np.random.default_rng(0).normal(size=(1, 4)).astype(np.float32)}
    (expected,) = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"]).run(None, inputs)
    optimized = ort.InferenceSession(str(ended.folder / "models" / "model.onnx"), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(optimized.run(None, inputs)[0], expected, atol=1e-5)


def one_core() -> None:
    """Make searches of threads short."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])


def onnx_search(**engine: Any) -> dict[str, Any]:
    """Return a small search in the current form: latency of model.onnx under both providers."""
    return {
        "input_model": {"type": "ONNXModel", "model_path": "model.onnx"},
        "systems": {"here": {"type": "LocalSystem", "accelerators": [{"device": "cpu", "execution_providers": BOTH}]}},
        "data_configs": [
            {
                "name": "shapes",
                "type": "DummyDataContainer",
                "load_dataset_config": {"input_names": ["x"], "input_shapes": [[1, 4]], "input_types": ["float32"]},
            }
        ],
        "evaluators": {
            "latency": {
                "metrics": [
                    {
                        "name": "latency",
                        "type": "latency",
                        "data_config": "shapes",
                        "sub_types": [{"name": "avg", "priority": 1}, {"name": "p90"}],
                    }
                ]
            }
        },
        "passes": {
            "tuning": {
                "type": "OrtSessionParamsTuning",
                "data_config": "shapes",
                "providers_list": "DEFAULT_VALUE",
                "intra_thread_num_list": [1, 2],
            }
        },
        "engine": {
            "search_strategy": {"execution_order": "joint", "sampler": "sequential"},
            "evaluator": "latency",
            "host": "here",
            "target": "here",
            **engine,
        },
    }


def smallest_search(**engine: Any) -> dict[str, Any]:
    """Return a search of one point, where the search itself is not what is tested."""
    document = onnx_search(**engine)
    document["systems"]["here"]["accelerators"][0]["execution_providers"] = ["CPUExecutionProvider"]
    document["passes"]["tuning"]["intra_thread_num_list"] = [1]
    return document


def test_the_predecessors_own_sample(optimize: Optimize, models: Models) -> None:
    document = example("legacy_bert")
    hf_config = document["input_model"]["config"]["hf_config"]
    hf_config["model_name"] = models.bert.name
    del hf_config["dataset"]["subset"]
    hf_config["dataset"].update(data_name="json", data_files=models.sentences.name, split="train")
    document["passes"]["transformers_optimization"]["config"]["hidden_size"] = 96
    # A random network: its accuracy is chance, and its speed that of a toy; what counts is that all of it is measured.
    document["evaluators"]["common_evaluator"]["metrics"][1]["sub_types"][0].pop("goal")
    ended = optimize(document, model_path=models.bert.parent, code=models.code)
    assert_complete(ended, ["cpu-cpu", "cpu-openvino"])
    assert "point 6 of 6" in ended.stderr
    assert "/engine/search_strategy/search_algorithm: 'tpe' is now sampler 'tpe'" in ended.stderr
    best = ended.output("parameters", "optimized_parameters.json")
    assert best["metrics"]["accuracy-accuracy_score"]["input_model_value"] is not None
    proto = onnx.load(str(ended.folder / "models" / "model.onnx"))
    assert {entry.version for entry in proto.opset_import if entry.domain == ""} == {13}
    assert any(node.op_type == "Attention" for node in proto.graph.node), "the graph is not fused"


@pytest.mark.parametrize("file_name", ["model.pt", "script.pt"])
def test_pytorch_with_a_user_script(optimize: Optimize, models: Models, file_name: str) -> None:
    document = example("legacy_user_script")
    document["input_model"]["config"]["model_path"] = file_name
    ended = optimize(document, code=models.code)
    assert_complete(ended, ["cpu-cpu"])
    best = ended.output("parameters", "optimized_parameters.json")
    assert set(best["metrics"]) == {"accuracy-accuracy_score", "own-score", "latency-avg"}
    assert best["metrics"]["own-score"]["value"] == 8  # 64 rows in batches of 8: the legacy batch_size reached it
    proto = onnx.load(str(ended.folder / "models" / "model.onnx"))
    assert any(node.op_type == "DequantizeLinear" for node in proto.graph.node)


def test_onnx_only_in_the_legacy_form(optimize: Optimize) -> None:
    assert_complete(optimize(example("legacy_onnx")), ["cpu-cpu", "cpu-openvino"])


def test_external_weights_travel_with_the_model(optimize: Optimize, models: Models) -> None:
    document = onnx_search()
    document["input_model"]["model_path"] = "outside.onnx"
    ended = optimize(document)
    assert_complete(ended, ["cpu-cpu", "cpu-openvino"])
    assert_computes_the_same(models.files / "model.onnx", ended)
    kept = {path.name for path in (ended.folder / "models").iterdir()}
    assert len(kept) == 6, kept  # three models, each with its weights


def test_other_weights_are_another_model(optimize: Optimize, models: Models, tmp_path: Path) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    for file in models.files.glob("outside.onnx*"):
        (folder / file.name).write_bytes(file.read_bytes())
    document = smallest_search()
    document["input_model"]["model_path"] = "outside.onnx"
    document["passes"] = {"graph": {"type": "OnnxPeepholeOptimizer"}, **document["passes"]}  # writes a model of its own
    assert optimize(document, model_path=folder).code == 0
    weights = np.fromfile(folder / "outside.onnx.data", np.float32)
    (weights * 2).tofile(folder / "outside.onnx.data")  # trained anew: the graph is the same, byte by byte
    ended = optimize(document, model_path=folder)
    assert ended.code == 0
    assert_computes_the_same(folder / "outside.onnx", ended)


def test_several_candidates_are_ranked_across_providers(optimize: Optimize, models: Models) -> None:
    document = onnx_search(
        output_dir="elsewhere", packaging_config={"type": "Zipfile", "name": "Mine"}, evaluate_input_model=False
    )
    document["engine"]["search_strategy"]["output_model_num"] = 2
    goal = {"type": "max-degradation", "value": 1e6}
    document["evaluators"]["latency"]["metrics"][0]["sub_types"][1] |= {"priority": 2, "goal": goal}
    ended = optimize(document)
    assert_complete(ended, ["cpu-cpu", "cpu-openvino"], count=2)
    assert "/engine/output_dir: 'elsewhere' is overridden" in ended.stderr
    assert "/engine/packaging_config: " in ended.stderr
    assert not (ended.folder / "elsewhere").exists()
    latencies = [
        entry["metrics"]["latency-avg"]["value"]
        for entry in ended.output("outputs", "OutputModels", "models_rank.json")
    ]
    assert latencies == sorted(latencies)
    assert_computes_the_same(models.files / "model.onnx", ended)
    # The sample runs on each packaged candidate, and on the best one by itself.
    package = ended.folder / "outputs" / "OutputModels"
    sample = [sys.executable, str(package / "SampleCode" / "ONNXModel" / "python" / "code_sample.py")]
    for candidate in (None, *sorted((package / "CandidateModels").glob("*/*"))):
        flags = ["--candidate", str(candidate)] if candidate else []
        done = subprocess.run([*sample, *flags], capture_output=True, text=True, timeout=120, check=True)
        assert "y: shape [1, 3], float32" in done.stdout
        provider = "OpenVINO" if candidate and "openvino" in candidate.parent.name else ""
        assert f"on {provider}" in done.stdout
    # The goal is relative to the input model, so that is measured, whatever evaluate_input_model says.
    metrics = ended.output("parameters", "optimized_parameters.json")["metrics"]
    assert metrics["latency-p90"]["input_model_value"] is not None
    # And the parameters are what the deployer reads.
    read = optimized_parameters.read(ended.folder / "parameters")
    assert read["execution_provider"][0][0] in BOTH


def test_what_olive_prunes_is_told_with_its_reason(optimize: Optimize) -> None:
    document = onnx_search()
    del document["passes"]["tuning"]["providers_list"]  # so Olive tries every provider under each accelerator
    ended = optimize(document)
    assert ended.code == 0, ended.stderr
    reasons = [
        f"Ignore perf tuning for EP {name} since current pass EP is {other}" for name, other in (BOTH, BOTH[::-1])
    ]
    (told,) = re.findall(r"\d+ of \d+ combinations were pruned by Olive: .+", ended.stderr)
    points, pruned = (
        ended.stderr.count(", tuning: "),
        [ended.stderr.count(f", tuning: pruned: {one}") for one in reasons],
    )
    assert told.startswith(f"{sum(pruned)} of {points} combinations")
    assert all(f"{count} x {reason}" in told for count, reason in zip(pruned, reasons, strict=True))
    page = (ended.folder / "outputs" / "optimization.html").read_text(encoding="utf-8")
    assert told in page
    assert "latency-avg (ms)" in page and "latency-avg (ms)" in ended.stderr
    assert "<code>intra_thread_num_list = 1</code>" in page
    assert re.search(r"tuning: latency-avg [0-9.]+ ms, latency-p90 [0-9.]+ ms", ended.stderr)


def test_a_model_without_a_configuration(optimize: Optimize, models: Models, tmp_path: Path) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "model.onnx").write_bytes((models.files / "model.onnx").read_bytes())
    ended = optimize(None, model_path=folder)
    assert_complete(ended, ["cpu-cpu", "cpu-openvino"])
    assert "assumed: the open dimension 'batch' is taken as 1" in ended.stderr
    assert_computes_the_same(models.files / "model.onnx", ended)


def test_a_hugging_face_folder_without_a_configuration(optimize: Optimize, models: Models) -> None:
    ended = optimize(None, model_path=models.bert, limits=one_core)
    assert_complete(ended, ["cpu-cpu", "cpu-openvino"])
    assert "; 1 threads" in ended.stderr
    assert "assumed: BertForSequenceClassification for text-classification" in ended.stderr
    assert "assumed: the open dimension 'sequence_length' is taken as 128" in ended.stderr


def test_inputs_that_cannot_be_generated_need_a_configuration_alone(tmp_path: Path) -> None:
    text = onnx.helper.make_tensor_value_info("text", onnx.TensorProto.STRING, ["batch"])
    same = onnx.helper.make_tensor_value_info("same", onnx.TensorProto.STRING, ["batch"])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["text"], ["same"])], "g", [text], [same])
    onnx.save(onnx.helper.make_model(graph), str(tmp_path / "model.onnx"))
    (found,), _ = onnx_graphs.read(tmp_path / "model.onnx")
    assert found.is_open
    with pytest.raises(InputError, match="input 'text' has a type that cannot be generated"):
        default_search.configuration(tmp_path, 2)


def test_without_a_search_the_last_pass_is_the_result(optimize: Optimize) -> None:
    document = example("current_minimal")
    document["input_model"]["model_path"] = "fixed.onnx"
    ended = optimize(document)
    assert_complete(ended, ["cpu-cpu"])
    best = ended.output("parameters", "optimized_parameters.json")
    assert best["metrics"] == {}
    assert best["session_options"]["graph_optimization_level"] == 99


def test_transformers_are_quantized(optimize: Optimize, models: Models) -> None:
    names = ["input_ids", "attention_mask", "token_type_ids"]
    shapes = {"input_names": names, "input_shapes": [[1, 16]] * 3, "input_types": ["int64"] * 3}
    # Without preprocessing is the harder way: with it, ONNX Runtime rewrites the graph first.
    common = {"precision": "int8", "per_channel": True, "reduce_range": False, "quant_preprocess": [False, True]}
    static = {"data_config": "tokens", "activation_type": "int8", "quant_format": "QDQ", "calibrate_method": "MinMax"}
    timing = {"warmup_num": 1, "repeat_test_num": 2}
    sub_type = {"name": "avg", "priority": 1, "metric_config": timing}
    latency = {"name": "latency", "type": "latency", "data_config": "tokens", "sub_types": [sub_type]}
    document = {
        "input_model": {
            "type": "HfModel",
            "model_path": models.bert.name,
            "task": "text-classification",
            "io_config": {
                **shapes,
                "output_names": ["logits"],
                "dynamic_axes": {name: {"0": "batch", "1": "length"} for name in names},
            },
        },
        "data_configs": [{"name": "tokens", "type": "DummyDataContainer", "load_dataset_config": shapes}],
        "evaluators": {"latency": {"metrics": [latency]}},
        "passes": {
            "conversion": {"type": "OnnxConversion", "target_opset": 17},
            "fusion": [
                {"type": "OnnxOpVersionConversion", "target_opset": 17},  # leaves it as it is
                {"type": "OrtTransformersOptimization", "model_type": "bert", "opt_level": 0},
            ],
            "quantization": [
                {"type": "OnnxDynamicQuantization", **common},
                {"type": "OnnxStaticQuantization", **common, **static},
            ],
        },
        "engine": {
            "search_strategy": {"execution_order": "joint", "sampler": "sequential", "output_model_num": 8},
            "evaluator": "latency",
        },
    }
    ended = optimize(document, model_path=models.bert.parent)
    assert ended.code == 0, ended.stderr
    assert "failed" not in ended.stderr
    exported = ended.folder / "exported.onnx"
    exported.write_bytes(next((ended.folder / ".olive-cache").glob("*/runs/*/models/model.onnx")).read_bytes())
    inputs = {name: np.ones((1, 16), np.int64) for name in names}
    (expected,) = ort.InferenceSession(str(exported), providers=["CPUExecutionProvider"]).run(None, inputs)
    seen = set()
    for folder in (ended.folder / "outputs" / "OutputModels" / "CandidateModels" / "cpu-cpu").iterdir():
        history = json.loads((folder / "configurations.json").read_text(encoding="utf-8"))
        _, _, fusion, quantization = (name.partition("_")[2].partition("-")[0] for name in history)
        seen.add((fusion, quantization, list(history.values())[-1]["quant_preprocess"]))
        graph = onnx.load(str(folder / "model.onnx")).graph
        weights = {tensor.name for tensor in graph.initializer}
        makers = {name: node.op_type for node in graph.node for name in node.output}
        # No product with a weight is left in floating point.
        for node in graph.node:
            if node.op_type in ("MatMul", "Gemm"):
                assert not weights & set(node.input), (folder, node.name)
                assert quantization == "onnxdynamicquantization" or {makers[name] for name in node.input} == {
                    "DequantizeLinear"
                }, (folder, node.name)
        operators = {node.op_type for node in graph.node}
        assert ("MatMulInteger" in operators) is (quantization == "onnxdynamicquantization")
        assert ("QuantizeLinear" in operators) is (quantization == "onnxstaticquantization")
        session = ort.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
        (logits,) = session.run(None, inputs)
        np.testing.assert_allclose(logits, expected, atol=0.05, err_msg=str(folder))
    assert len(seen) == 8


def test_the_digits_example(optimize: Optimize, tmp_path: Path) -> None:
    digits = REPOSITORY / "job-templates" / "digits"
    subprocess.run([sys.executable, str(digits / "train.py"), "--output", str(tmp_path / "model")], check=True)
    document = json.loads((digits / "optimizer.json").read_text(encoding="utf-8"))
    ended = optimize(copy.deepcopy(document), model_path=tmp_path / "model", code=digits / "code")
    assert_complete(ended, ["cpu-cpu", "cpu-openvino"])
    metrics = ended.output("parameters", "optimized_parameters.json")["metrics"]
    accuracy = metrics["accuracy-accuracy_score"]
    assert accuracy["input_model_value"] > 0.95
    assert accuracy["value"] >= accuracy["input_model_value"] - 0.01
    assert {name: found["type"] for name, found in metrics.items()} == {
        "accuracy-accuracy_score": "accuracy", "latency-avg": "latency",
    }  # fmt: skip
