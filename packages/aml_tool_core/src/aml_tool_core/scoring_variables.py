"""From the optimizer's parameters to the environment variables that a scoring script reads."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

_log = logging.getLogger(__name__)
# onnxruntime's ExecutionMode, as its members print.
_EXECUTION_MODES = {0: "ExecutionMode.ORT_SEQUENTIAL", 1: "ExecutionMode.ORT_PARALLEL"}
_OPTIONS = {
    "INTER_OP_NUM_THREADS": "inter_op_num_threads",
    "INTRA_OP_NUM_THREADS": "intra_op_num_threads",
    "GRAPH_OPTIMIZATION_LEVEL": "graph_optimization_level",
}


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
