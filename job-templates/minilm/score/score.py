"""Scoring script of the MiniLM example: texts in, embeddings out, by the optimized model with its own session options.

The deployer hands the options over as environment variables; each one that is absent leaves ONNX Runtime's default.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from azureml_inference_server_http.api.aml_response import AMLResponse
from tokenizers import Tokenizer

SEQUENCE_LENGTH = 128  # longer texts are truncated, as they were when the model was trained
LARGEST_BATCH = 64
DECIMALS = 6
session: ort.InferenceSession
tokenizer: Tokenizer


def init() -> None:
    """Load the model and its tokenizer once per process and say with which options the model really runs."""
    global session, tokenizer
    folder = model_folder()
    session = ort.InferenceSession(str(folder / "model.onnx"), session_options(), providers=providers())
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(SEQUENCE_LENGTH)
    tokenizer.no_padding()
    in_use = session.get_session_options()
    print(
        "session options in use: "
        + json.dumps(
            {
                "model": "model.onnx",
                "providers": session.get_providers(),
                "execution_mode": str(in_use.execution_mode),
                "graph_optimization_level": str(in_use.graph_optimization_level),
                "inter_op_num_threads": in_use.inter_op_num_threads,
                "intra_op_num_threads": in_use.intra_op_num_threads,
            }
        ),
        flush=True,
    )


def run(body: str) -> Any:
    """Answer `{"texts": ["..."]}` with `{"embeddings": [[384 numbers]]}`, each of length 1."""
    try:
        texts = json.loads(body)["texts"]
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise TypeError("texts is not a list of strings")
        if not 1 <= len(texts) <= LARGEST_BATCH:
            raise ValueError(f"{len(texts)} texts, 1 to {LARGEST_BATCH} are taken at a time")
        for text in texts:
            text.encode()  # JSON can write half a surrogate pair, which is no text
    except (KeyError, TypeError, ValueError) as error:
        return AMLResponse({"error": f"not a request of this model: {error}"}, 400, json_str=True)
    return {"embeddings": [embedding(text) for text in texts]}


def embedding(text: str) -> list[float]:
    """Return a text's embedding.

    One text at a time: dynamic quantization takes its ranges from the whole input, so that in a batch a text's
    embedding would depend on the company it keeps (a cosine of 0.99 to its own); and on a few cores a batch saves
    nothing, but spends time on padding.
    """
    encoded = tokenizer.encode(text)
    columns = {
        "input_ids": encoded.ids,
        "attention_mask": encoded.attention_mask,
        "token_type_ids": encoded.type_ids,
    }
    (found,) = session.run(None, {name: np.array([column], dtype=np.int64) for name, column in columns.items()})
    numbers: list[float] = found[0].round(DECIMALS).tolist()
    return numbers


def model_folder() -> Path:
    """Return the folder of model.onnx: the registered model's folder, or the model directory itself."""
    root = Path(os.environ["AZUREML_MODEL_DIR"])
    named = root / os.environ.get("MODEL_FOLDER_NAME", "")
    return named if (named / "model.onnx").is_file() else root


def session_options() -> ort.SessionOptions:
    """Return the options that the environment asks for."""
    options = ort.SessionOptions()
    if threads := os.environ.get("INTER_OP_NUM_THREADS"):
        options.inter_op_num_threads = int(threads)
    if threads := os.environ.get("INTRA_OP_NUM_THREADS"):
        options.intra_op_num_threads = int(threads)
    if mode := os.environ.get("EXECUTION_MODE"):  # "ExecutionMode.ORT_SEQUENTIAL"
        options.execution_mode = getattr(ort.ExecutionMode, mode.removeprefix("ExecutionMode."))
    if level := os.environ.get("GRAPH_OPTIMIZATION_LEVEL"):  # "99", or "GraphOptimizationLevel.ORT_ENABLE_ALL"
        options.graph_optimization_level = (
            ort.GraphOptimizationLevel(int(level))
            if level.isdigit()
            else getattr(ort.GraphOptimizationLevel, level.removeprefix("GraphOptimizationLevel."))
        )
    return options


def providers() -> list[str]:
    """Return the execution provider that the environment asks for, and the CPU's for what it cannot run."""
    asked = os.environ.get("EXECUTION_PROVIDER", "CPUExecutionProvider")
    if asked not in ort.get_available_providers():
        raise RuntimeError(f"EXECUTION_PROVIDER: {asked} is not among {ort.get_available_providers()}; see conda.yml")
    return [asked] if asked == "CPUExecutionProvider" else [asked, "CPUExecutionProvider"]
