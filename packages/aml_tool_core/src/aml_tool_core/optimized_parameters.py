"""Read what the optimizer found, in its own form or in either of the forms that Olive itself writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aml_tool_core import documents
from aml_tool_core.errors import InputError

SCHEMA = "optimized_parameters"
FILE_NAME = "optimized_parameters.json"
SESSION_OPTIONS = (
    "execution_mode",
    "graph_optimization_level",
    "inter_op_num_threads",
    "intra_op_num_threads",
    "extra_session_config",
)


def read(path: Path) -> dict[str, Any]:
    """Return the optimized parameters in `path`, a file or the folder that holds it, normalized.

    Whatever form the file has, the result has `execution_provider` as pairs of a name and its options,
    `session_options` with every key of `SESSION_OPTIONS` (None where the search left it alone), and `io_bind`.
    Raises InputError.
    """
    file = _file(path)
    return normalized(documents.read_json(file, SCHEMA), str(file))


def normalized(parameters: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return valid optimized parameters in the one form that the product's readers know. Raises InputError."""
    result = {key: value for key, value in parameters.items() if key not in ("provider_options", "tuning_op_result")}
    result["execution_provider"] = provider_pairs(
        parameters["execution_provider"], parameters.get("provider_options"), source
    )
    options = parameters.get("session_options") or {}
    result["session_options"] = {key: options.get(key) for key in SESSION_OPTIONS} | dict(options)
    result["io_bind"] = bool(parameters.get("io_bind"))
    return result


def provider_pairs(
    providers: Sequence[Any], options: Sequence[Mapping[str, Any] | None] | None, source: str
) -> list[list[Any]]:
    """Return `[[name, options], ...]` from Olive's pairs, or from its names beside a list of options."""
    beside = list(options or [])
    if beside and len(beside) != len(providers):
        raise InputError(
            f"{source}: /provider_options: {len(beside)} of them for {len(providers)} execution providers; "
            "give one per provider, or none"
        )
    pairs = []
    for index, provider in enumerate(providers):
        if isinstance(provider, str):
            pairs.append([provider, dict(beside[index] or {}) if beside else {}])
        else:
            pairs.append([provider[0], dict(provider[1] or {}) if len(provider) > 1 else {}])
    return pairs


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    if (path / FILE_NAME).is_file():
        return path / FILE_NAME
    found = sorted(path.glob("*inference_config.json"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(
            f"{path}: holds neither {FILE_NAME} nor an inference_config.json; name the file, or the folder that the "
            "optimizer wrote it to"
        )
    names = ", ".join(file.name for file in found)
    raise InputError(f"{path}: no {FILE_NAME} here, but {names}; name the one file to use")
