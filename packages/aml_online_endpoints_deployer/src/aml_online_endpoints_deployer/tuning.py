"""From the optimizer's parameters to the environment variables that a scoring script reads, and the model's hash."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_log = logging.getLogger("aml_online_endpoints_deployer")
# onnxruntime's ExecutionMode, as its members print.
_EXECUTION_MODES = {0: "ExecutionMode.ORT_SEQUENTIAL", 1: "ExecutionMode.ORT_PARALLEL"}
_OPTIONS = {
    "INTER_OP_NUM_THREADS": "inter_op_num_threads",
    "INTRA_OP_NUM_THREADS": "intra_op_num_threads",
    "GRAPH_OPTIMIZATION_LEVEL": "graph_optimization_level",
}
_CHUNK_BYTES = 1 << 20


def variables(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment variables for normalized optimized parameters; what the search left alone has none."""
    options = parameters["session_options"]
    # int(): to JSON Schema 2.0 is an integer too, and a scoring script's int("2.0") fails.
    found = {name: str(int(options[key])) for name, key in _OPTIONS.items() if options.get(key) is not None}
    mode = options.get("execution_mode")
    if mode is not None:
        found["EXECUTION_MODE"] = _EXECUTION_MODES[mode]
    providers = parameters["execution_provider"]
    if providers:
        name, provider_options = providers[0]
        found["EXECUTION_PROVIDER"] = name
        if provider_options:
            _log.warning("%s was tuned with options that no variable carries: %s", name, sorted(provider_options))
    return dict(sorted(found.items()))


def model_sha256(parameters: Mapping[str, Any], model_folder: Path | None) -> str | None:
    """Return the hash of the model file that is deployed, as far as it is known.

    With a model folder it is the hash of the file in it, and a warning says when that is not the file that the
    parameters were tuned for; without one it is the hash that the parameters tell.
    """
    told = parameters.get("model_sha256")
    if model_folder is None:
        return told
    name = parameters.get("model_file")
    file = model_folder / name if name else None
    if file is None or not file.is_file():
        if told:
            _log.warning("%s: has no %s, for which the parameters were tuned", model_folder, name or "known model file")
        return None
    found = sha256(file)
    if told and found != told:
        _log.warning("%s: is not the model that the parameters were tuned for (SHA-256 %s, not %s)", file, found, told)
    return found


def sha256(file: Path) -> str:
    """Return a file's SHA-256, in hexadecimal."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
