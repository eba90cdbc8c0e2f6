"""A configuration for a model that comes without one: what to search, and with which inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aml_tool_core import InputError, documents

from aml_olive_optimizer import environment, onnx_graphs
from aml_olive_optimizer.forced import EXHAUSTIVE
from aml_olive_optimizer.legacy import thread_counts
from aml_olive_optimizer.onnx_graphs import Input

# What an open dimension is taken as: by a part of its name, in this order, else OTHER_SIZE.
SIZES: tuple[tuple[str, int], ...] = (("batch", 1), ("seq", 128), ("length", 128), ("height", 224), ("width", 224))
OTHER_SIZE = 1
OPSET = 17
# Hugging Face architectures that are understood without a configuration: suffix, task, outputs.
_ARCHITECTURES = (
    ("ForSequenceClassification", "text-classification", ["logits"]),
    ("ForTokenClassification", "token-classification", ["logits"]),
    ("ForQuestionAnswering", "question-answering", ["start_logits", "end_logits"]),
    ("ForMaskedLM", "fill-mask", ["logits"]),
    ("Model", "feature-extraction", ["last_hidden_state"]),
)


@dataclass(frozen=True)
class Assumed:
    """A configuration made from a model alone, and what was assumed for it, a line each."""

    configuration: dict[str, Any]
    assumed: tuple[str, ...]


def configuration(folder: Path, cores: int) -> Assumed:
    """Return a search for the one model in a folder. Raises InputError where there is none, or none alone."""
    onnx_files = sorted(folder.glob("*.onnx"))
    if len(onnx_files) == 1:
        return for_onnx(onnx_files[0], cores)
    if onnx_files:
        names = ", ".join(file.name for file in onnx_files)
        raise InputError(f"--model_path: {folder}: {len(onnx_files)} models ({names}); name one in a --config_path")
    if (folder / "config.json").is_file():
        return for_hugging_face(folder, cores)
    torch_files = sorted([*folder.glob("*.pt"), *folder.glob("*.pth")])
    if torch_files:
        raise InputError(
            f"--model_path: {torch_files[0]}: a PyTorch file does not tell its inputs; give a --config_path with "
            "input_model.io_config (input_names, input_shapes, input_types, output_names)"
        )
    raise InputError(f"--model_path: {folder}: neither a .onnx file nor a Hugging Face folder (config.json) here")


def for_onnx(model: Path, cores: int) -> Assumed:
    """Return a search for an ONNX file: fusion if it is a transformer, session tuning, every provider there is."""
    graph_inputs, is_transformer = onnx_graphs.read(model)
    for entry in graph_inputs:
        if entry.type is None:
            raise InputError(
                f"{model}: input {entry.name!r} has a type that cannot be generated; give a --config_path with "
                "data_configs"
            )
    assumed = []
    graph: list[dict[str, Any]] = [{"type": "OnnxPeepholeOptimizer"}]
    if is_transformer:
        graph.insert(0, {"type": "OrtTransformersOptimization", "model_type": "bert", "opt_level": 0})
        assumed.append("the graph is a transformer's: it is searched with fused attention and without")
    return _search({"type": "ONNXModel", "model_path": model.name}, graph_inputs, {"graph": graph}, assumed, cores)


def for_hugging_face(folder: Path, cores: int) -> Assumed:
    """Return a search for a Hugging Face text model: conversion, fusion or not, session tuning."""
    config = documents.read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise InputError(f"--model_path: {folder / 'config.json'}: not an object, so not a Hugging Face model's")
    architectures = config.get("architectures")
    architecture = str(architectures[0]) if isinstance(architectures, list) and architectures else "none"
    known = next((entry for entry in _ARCHITECTURES if architecture.endswith(entry[0])), None)
    if known is None or "vocab_size" not in config:
        raise InputError(
            f"--model_path: {folder / 'config.json'}: /architectures: {architecture}: not a text model whose "
            "inputs are known; give a --config_path with input_model.io_config"
        )
    _, task, outputs = known
    names = ["input_ids", "attention_mask"]
    if _number(config, "type_vocab_size") > 1:
        names.append("token_type_ids")
    inputs = [Input(name, ("batch_size", "sequence_length"), "int64") for name in names]
    sizes = [size for size, _ in map(_size, inputs[0].shape)]
    model = {
        "type": "HfModel",
        "model_path": str(folder.resolve()),
        "task": task,
        "io_config": {
            "input_names": names,
            "input_shapes": [sizes] * len(names),
            "input_types": ["int64"] * len(names),
            "output_names": outputs,
            "dynamic_axes": {
                **{name: {"0": "batch_size", "1": "sequence_length"} for name in names},
                **{name: {"0": "batch_size"} for name in outputs},
            },
        },
    }
    passes = {
        "conversion": {"type": "OnnxConversion", "target_opset": OPSET},
        "graph": [
            {
                "type": "OrtTransformersOptimization",
                "model_type": "bert",
                "opt_level": 0,
                "num_heads": _number(config, "num_attention_heads"),
                "hidden_size": _number(config, "hidden_size"),
            },
            {"type": "OnnxPeepholeOptimizer"},
        ],
    }
    assumed = [
        f"{architecture} for {task}, converted with opset {OPSET}",
        "it is searched with fused attention and without",
    ]
    return _search(model, inputs, passes, assumed, cores)


def _number(config: Mapping[str, Any], key: str) -> int:
    """Return a number of a Hugging Face configuration; 0, which leaves it to Olive, where it has none."""
    value = config.get(key)
    return value if isinstance(value, int) else 0


def _search(
    model: Mapping[str, Any], inputs: Sequence[Input], passes: Mapping[str, Any], assumed: list[str], cores: int
) -> Assumed:
    shapes = [[_size(dimension)[0] for dimension in entry.shape] for entry in inputs]
    for entry in inputs:
        for dimension in entry.shape:
            size, said = _size(dimension)
            if said and f"{said} is taken as {size}" not in assumed:
                assumed.append(f"{said} is taken as {size}")
    available = environment.available_providers()
    providers = [name for name in _SEARCHED if name in available]
    threads = thread_counts(cores)
    assumed += [
        f"execution providers {', '.join(providers)}; {', '.join(map(str, threads))} threads",
        "ranked by average latency with generated inputs; no data, so no accuracy is measured",
    ]
    return Assumed(
        {
            "input_model": dict(model),
            "systems": {
                "local_system": {
                    "type": "LocalSystem",
                    "accelerators": [{"device": "cpu", "execution_providers": providers}],
                }
            },
            "data_configs": [
                {
                    "name": "generated_inputs",
                    "type": "DummyDataContainer",
                    "load_dataset_config": {
                        "input_names": [entry.name for entry in inputs],
                        "input_shapes": shapes,
                        "input_types": [entry.type for entry in inputs],
                    },
                }
            ],
            "evaluators": {
                "latency_evaluator": {
                    "metrics": [
                        {
                            "name": "latency",
                            "type": "latency",
                            "data_config": "generated_inputs",
                            "sub_types": [
                                {
                                    "name": "avg",
                                    "priority": 1,
                                    "metric_config": {"warmup_num": 10, "repeat_test_num": 50},
                                },
                                {"name": "p90", "priority": -1},
                            ],
                        }
                    ]
                }
            },
            "passes": {
                **passes,
                "perf_tuning": {
                    "type": "OrtSessionParamsTuning",
                    "data_config": "generated_inputs",
                    "providers_list": "DEFAULT_VALUE",
                    "execution_mode_list": [0],
                    "opt_level_list": [99],
                    "intra_thread_num_list": threads,
                    "inter_thread_num_list": [1],
                },
            },
            "engine": {
                "search_strategy": dict(EXHAUSTIVE),
                "evaluator": "latency_evaluator",
                "host": "local_system",
                "target": "local_system",
            },
        },
        tuple(assumed),
    )


_SEARCHED = ("CPUExecutionProvider", "OpenVINOExecutionProvider")


def _size(dimension: int | str | None) -> tuple[int, str | None]:
    """Return the size to use, and how to name the dimension if it is open."""
    if isinstance(dimension, int) and dimension > 0:
        return dimension, None
    name = str(dimension or "")
    size = next((size for part, size in SIZES if part in name.lower()), OTHER_SIZE)
    return size, f"the open dimension {name!r}" if name else "an open dimension without a name"
