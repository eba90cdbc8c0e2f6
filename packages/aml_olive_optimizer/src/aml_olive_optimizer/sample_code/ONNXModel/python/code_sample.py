"""Run a packaged candidate with the session options and the execution provider that it was measured with.

    python code_sample.py                          # the best candidate of this package, with made-up inputs
    python code_sample.py --candidate FOLDER       # another one: CandidateModels/<accelerator>/BestCandidateModel_<k>
    python code_sample.py --inputs inputs.npz      # your own inputs, one array per input name

Needs numpy and the runtime in ONNXRuntimePackages/.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

PACKAGE = Path(__file__).resolve().parents[3]
NUMPY_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}


def load(candidate: Path) -> ort.InferenceSession:
    """Return a session of the candidate, set up as its inference_config.json says."""
    config = json.loads((candidate / "inference_config.json").read_text(encoding="utf-8"))
    asked = config.get("session_options") or {}
    options = ort.SessionOptions()
    if asked.get("execution_mode") is not None:
        options.execution_mode = (ort.ExecutionMode.ORT_SEQUENTIAL, ort.ExecutionMode.ORT_PARALLEL)[
            asked["execution_mode"]
        ]
    if asked.get("graph_optimization_level") is not None:
        options.graph_optimization_level = ort.GraphOptimizationLevel(asked["graph_optimization_level"])
    for key in ("inter_op_num_threads", "intra_op_num_threads"):
        if asked.get(key) is not None:
            setattr(options, key, asked[key])
    for key, value in (asked.get("extra_session_config") or {}).items():
        options.add_session_config_entry(key, str(value))
    providers = [(name, settings) for name, settings in config["execution_provider"]]
    return ort.InferenceSession(str(candidate / "model.onnx"), options, providers=providers)


def made_up(session: ort.InferenceSession) -> dict[str, np.ndarray]:
    """Return inputs of the model's own shapes, zeros; an open dimension is taken as 1."""
    return {
        entry.name: np.zeros(
            [size if isinstance(size, int) and size > 0 else 1 for size in entry.shape], NUMPY_TYPES[entry.type]
        )
        for entry in session.get_inputs()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Run a packaged candidate once.")
    parser.add_argument("--candidate", type=Path)
    parser.add_argument("--inputs", type=Path)
    arguments = parser.parse_args()
    best = json.loads((PACKAGE / "models_rank.json").read_text(encoding="utf-8"))[0]
    candidate = arguments.candidate or (PACKAGE / best["model_config"]["config"]["model_path"]).parent
    session = load(candidate)
    inputs = dict(np.load(arguments.inputs)) if arguments.inputs else made_up(session)
    outputs = session.run(None, inputs)  # the first run pays for what is set up lazily
    started = time.perf_counter()
    session.run(None, inputs)
    took_ms = (time.perf_counter() - started) * 1000
    for description, output in zip(session.get_outputs(), outputs, strict=True):
        print(f"{description.name}: shape {list(output.shape)}, {output.dtype}")
    print(f"{candidate.name} on {session.get_providers()[0]}: {took_ms:.3f} ms")


if __name__ == "__main__":
    main()
