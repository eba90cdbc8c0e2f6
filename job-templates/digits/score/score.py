"""Scoring script of the digits example: runs the optimized model with the session options the optimizer found.

The deployer hands them over as environment variables; each one that is absent leaves ONNX Runtime's default.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from azureml_inference_server_http.api.aml_response import AMLResponse

PIXELS = 64
session: ort.InferenceSession


def init() -> None:
    """Load the model once per process and say with which options it really runs."""
    global session
    session = ort.InferenceSession(str(model_file()), session_options(), providers=providers())
    in_use = session.get_session_options()
    print(
        "session options in use: "
        + json.dumps(
            {
                "model": model_file().name,
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
    """Answer `{"data": [[64 pixels, 0 to 16], ...]}` with `{"digits": [...]}`."""
    try:
        pixels = np.asarray(json.loads(body)["data"], dtype=np.float32)
        if pixels.ndim != 2 or pixels.shape[1] != PIXELS:
            raise ValueError(f"data has the shape {pixels.shape}, (N, {PIXELS}) is needed")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        return AMLResponse({"error": f"not a request of this model: {error}"}, 400, json_str=True)
    (logits,) = session.run(None, {"pixels": pixels})
    return {"digits": logits.argmax(axis=1).tolist()}


def model_file() -> Path:
    """Return model.onnx, in the registered model's folder or right in the model directory."""
    root = Path(os.environ["AZUREML_MODEL_DIR"])
    named = root / os.environ.get("MODEL_FOLDER_NAME", "") / "model.onnx"
    return named if named.is_file() else root / "model.onnx"


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
