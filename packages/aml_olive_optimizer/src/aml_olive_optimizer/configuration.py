"""From the file that a user gives to the configuration that is run: refused, translated, checked, forced."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aml_tool_core import InputError, documents

from aml_olive_optimizer import default_search, forced, legacy, refusals
from aml_olive_optimizer.scripts import Script

SCHEMA = "olive_config"
SDPA_OPSET = 14  # scaled_dot_product_attention cannot be expressed below it; torch's exporter says so

log = logging.getLogger("aml_olive_optimizer")


@dataclass(frozen=True)
class Prepared:
    """A configuration in Olive's current form, with the tool's own keys set; paths in it are as the user wrote them."""

    source: str  # the file it is from, for messages
    configuration: dict[str, Any]
    scripts: tuple[Script, ...]


def prepared(config_path: Path | None, model_path: Path | None, code: Path | None) -> Prepared:
    """Return the configuration to run. Raises InputError."""
    if config_path is None:
        if model_path is None:
            raise InputError("--config_path, --model_path: neither is given; give one of them, or both")
        return from_model(model_path)
    return from_document(documents.read_json(config_path), str(config_path), code, cores())


def from_document(document: Any, source: str, code: Path | None, cores: int) -> Prepared:
    """Return what a user's configuration comes to; every change is logged as one line. Raises InputError."""
    if isinstance(document, Mapping):
        refusals.refuse_what_runs_elsewhere(document, source)
    documents.validate(document, SCHEMA, source)
    refusals.refuse_old_imports(document, source, code)
    translated = legacy.translate(document, source, cores)
    for change in translated.changes:
        log.info("%s: %s", source, change)
    refusals.refuse_unrankable(translated.configuration, source)
    refusals.refuse_without_data(translated.configuration, source)
    configuration, warnings = forced.forced(translated.configuration)
    configuration, more = eager_attention(configuration)
    for warning in (*warnings, *more):
        log.warning("%s: %s", source, warning)
    return Prepared(source, configuration, translated.scripts)


def from_model(model_path: Path) -> Prepared:
    """Return a configuration for a model that comes without one; what was assumed is logged. Raises InputError."""
    found = default_search.configuration(model_path, cores())
    for line in found.assumed:
        log.info("assumed: %s", line)
    configuration, _ = forced.forced(found.configuration)
    return Prepared(str(model_path), configuration, ())


def eager_attention(configuration: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Load a Hugging Face model with eager attention where the opset asked for cannot express another."""
    result = dict(configuration)
    model = dict(result.get("input_model") or {})
    opsets = [
        (entry.get("config") or entry).get("target_opset")
        for _, entry in refusals.passes(configuration)
        if str(entry.get("type", "")).lower() == "onnxconversion"
    ]
    low = [opset for opset in opsets if isinstance(opset, int) and opset < SDPA_OPSET]
    if str(model.get("type", "")).lower() != "hfmodel" or not low:
        return result, []
    nested = isinstance(model.get("config"), dict)
    settings = dict(model["config"]) if nested else model
    loading = dict(settings.get("load_kwargs") or {})
    if "attn_implementation" in loading:
        return result, []
    settings["load_kwargs"] = {**loading, "attn_implementation": "eager"}
    result["input_model"] = {**model, "config": settings} if nested else settings
    place = "/input_model/config/load_kwargs" if nested else "/input_model/load_kwargs"
    return result, [f"{place}: attn_implementation 'eager' is set: opset {low[0]} cannot express another"]


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))
