"""What the optimizer's parameters bring to a deployment: its environment variables, and the model's hash."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aml_tool_core import digests
from aml_tool_core.scoring_variables import variables

__all__ = ["model_sha256", "variables"]

_log = logging.getLogger("aml_online_endpoints_deployer")
_MODEL = "model.onnx"  # the optimizer's name for the best model


def model_sha256(parameters: Mapping[str, Any] | None, deployed: Path | None) -> str | None:
    """Return the hash of the model file that is deployed, as far as it is known.

    `deployed` is the file or folder that becomes the deployment's model, None where that is registered already: then
    the hash is the one that the parameters tell. A warning says when the file is not the one that they were tuned for.
    """
    told, name = (None, None) if parameters is None else (parameters.get("model_sha256"), parameters.get("model_file"))
    if deployed is None:
        return told
    file = _model_file(deployed, name)
    if file is None:
        if told:
            _log.warning("%s: has no %s, for which the parameters were tuned", deployed, name or "known model file")
        return None
    found = digests.sha256(file)
    if told and found != told:
        _log.warning("%s: is not the model that the parameters were tuned for (SHA-256 %s, not %s)", file, found, told)
    return found


def _model_file(deployed: Path, name: str | None) -> Path | None:
    """Return the model among what is deployed: the named file, else model.onnx, else the only .onnx or only file."""
    if deployed.is_file():
        return deployed
    if name is not None:
        return deployed / name if (deployed / name).is_file() else None
    if (deployed / _MODEL).is_file():
        return deployed / _MODEL
    files = [path for path in deployed.rglob("*") if path.is_file()]
    models = [path for path in files if path.suffix == ".onnx"] or files
    return models[0] if len(models) == 1 else None
