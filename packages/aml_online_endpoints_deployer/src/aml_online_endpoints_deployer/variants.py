"""A variant: a deployment that differs from its YAML in a few settings, so that one set of files serves many trials."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from aml_tool_core import deployment_yaml, documents
from aml_tool_core.deployment_variant import CANDIDATE_FILE, CANDIDATE_PARAMETERS, SCHEMA, candidate_files
from aml_tool_core.errors import InputError, ToolError

from aml_online_endpoints_deployer.yaml_file import YamlFile

LIST_SCHEMA = "deployment_variants"
FLAG = "--variant"
_CANDIDATES = "*_BestCandidateModel_*"
_MODEL = "model.onnx"
_SCRATCH = ".candidate"  # hidden; gone when the deployer ends
_WHOLE = re.compile(r"-?[0-9]{1,18}")


def read(text: str, listed: Mapping[str, Any] | None, list_source: str) -> dict[str, Any]:
    """Return the variant that --variant names: JSON, KEY=VALUE pairs with commas, or its number in a list of them.

    Raises InputError.
    """
    text = text.strip()
    if text.isdecimal():
        return _of_list(int(text), listed, list_source)
    found = documents.parse_json(text, FLAG) if text.startswith("{") else dict(_pair(part) for part in text.split(","))
    documents.validate(found, SCHEMA, FLAG)
    return dict(found)


def _of_list(number: int, listed: Mapping[str, Any] | None, source: str) -> dict[str, Any]:
    if listed is None:
        raise InputError(f"{FLAG}: {number} is a number in a list of variants; give the list with --variants_path")
    variants: Sequence[Mapping[str, Any]] = listed["variants"]
    if not 1 <= number <= len(variants):
        raise InputError(f"{FLAG}: {number}: {source} has the variants 1 to {len(variants)}")
    return dict(variants[number - 1])


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.strip().partition("=")
    if not equals or not key:
        raise InputError(f"{FLAG}: {text!r} is not KEY=VALUE; e.g. {FLAG} worker_count=2,instance_count=1")
    return key, int(value) if _WHOLE.fullmatch(value) else value


def with_values(file: YamlFile, values: Mapping[tuple[str, ...], Any]) -> YamlFile:
    """Return a YAML file with values put in, or in the place of its own. Raises InputError where one has no place."""
    try:
        root = deployment_yaml.with_values(file.root, values)
    except deployment_yaml.NoPlace as fault:
        file.fault(fault.node, f"/{fault.key}: is not a mapping, so {FLAG} cannot set {'/'.join(fault.keys)} in it")
    return YamlFile(file.path, root, yaml.safe_load(deployment_yaml.text_of(root)))


@contextmanager
def candidate(
    wanted: int | str | None, model_folder: Path | None, parameters: Path | None, beside: Path
) -> Iterator[tuple[Path | None, Path | None]]:
    """Yield the model folder and the parameters of one of the optimizer's candidates; those given where none is wanted.

    It is a rank, or ACCELERATOR/RANK where the optimizer searched for more than one accelerator.

    The folder is a copy of the given one, under its name, in which that candidate is model.onnx. It lies in `beside`,
    a folder of the tool's own, and shares the files' space where it can. Raises InputError, ToolError.
    """
    if wanted is None:
        yield model_folder, parameters
        return
    if model_folder is None or parameters is None or not parameters.is_dir():
        raise InputError(
            f"{FLAG}: candidate {wanted} is looked for in what the optimizer wrote; give --model_folder_path and, as a "
            "folder, --optimized_parameters_path"
        )
    model = _only(model_folder, wanted, _MODEL)
    found = _only(parameters, wanted, CANDIDATE_PARAMETERS)
    scratch = beside / _SCRATCH
    folder = scratch / model_folder.resolve().name
    try:
        try:
            shutil.rmtree(scratch, ignore_errors=True)  # a deployer that was killed may have left it
            others = shutil.ignore_patterns(_CANDIDATES, f"{_MODEL}*", _SCRATCH)  # it may lie in the model's folder
            shutil.copytree(model_folder, folder, ignore=others, copy_function=_copied)
            _copied(model, folder / _MODEL)
            # Its external weights keep the name by which the model refers to them.
            for weights in model_folder.glob(f"{model.name}?*"):
                _copied(weights, folder / weights.name)
        except OSError as error:  # copytree's own, of many files, has no strerror
            raise ToolError(
                f"{scratch}: candidate {wanted} cannot be copied there: {error.strerror or error}; make room, or run "
                "the deployer in another folder"
            ) from None
        yield folder, found
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _copied(source: str | Path, target: str | Path) -> None:
    """Copy a file, or give it a second name where the file system can: models are large."""
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copyfile(source, target)


def _only(folder: Path, wanted: int | str, file: str) -> Path:
    found = candidate_files(folder, wanted, file)
    accelerator, _, rank = str(wanted).rpartition("/")
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(f"{path.name.partition('_BestCandidateModel_')[0]}/{rank}" for path in found)
        raise InputError(f"{folder}: candidate {wanted} of which accelerator? There are {names}")
    there = ", ".join(sorted(path.name for path in folder.glob(_CANDIDATES))) or "none"
    pattern = CANDIDATE_FILE.format(accelerator=accelerator or "*", rank=rank, file=file)
    raise InputError(f"{folder}: no {pattern}, so there is no candidate {wanted}; there are: {there}")


def described(variant: Mapping[str, Any]) -> str:
    """Return a variant in one line, for the log."""
    return ", ".join(f"{key}={json.dumps(value)}" for key, value in variant.items())
