"""What to deploy: deployment.yml as it was given, with the chosen values in it, and the command that deploys it."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any, TypeVar

import yaml
from aml_tool_core import deployment_yaml, documents
from aml_tool_core.deployment_variant import CANDIDATE, VARIABLES, deployment_values
from aml_tool_core.errors import InputError

FILE_NAME = "deployment.yml"
_PLACEHOLDER = "<%"
_MODEL_PLACEHOLDER = "MODEL_FOLDER_PATH"
_MODEL_VARIABLE = "MODEL_FOLDER_NAME"
_Node = TypeVar("_Node", bound=yaml.Node)


def given(path: Path, outputs: Path) -> str:
    """Return a deployment's YAML as it is to stand in the outputs.

    Its relative paths lead from there to the same files; its placeholders stay; what it merges in stands where it
    counts. Raises InputError.
    """
    root = yaml.compose(documents.read_text(path), Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise InputError(f"{path}: is not a mapping of keys to values; see the examples of the deployer")
    deployment_yaml.merge(root)
    root = _unshared(root, {})
    moved: dict[tuple[str, ...], Any] = {}
    for keys in deployment_yaml.LOCAL_PATHS:
        named = deployment_yaml.string_at(root, keys)
        if named and not (deployment_yaml.is_elsewhere(named) or _PLACEHOLDER in named or Path(named).is_absolute()):
            moved[keys] = os.path.relpath(path.resolve().parent / named, outputs.resolve())
    return deployment_yaml.text_of(deployment_yaml.with_values(root, moved))


def _unshared(node: _Node, above: Mapping[int, yaml.Node]) -> _Node:
    """Return a node in which what stands in several places stands in each by itself.

    As anchors and aliases, which they would be written with, single keys and values cannot be read by everything, and
    not by a person. What holds itself stays so.
    """
    new: _Node = copy(node)
    within: dict[int, yaml.Node] = {**above, id(node): new}

    def one(item: yaml.Node) -> yaml.Node:
        return within[id(item)] if id(item) in within else _unshared(item, within)

    if isinstance(new, yaml.MappingNode):
        new.value = [(one(key), one(value)) for key, value in new.value]
    elif isinstance(new, yaml.SequenceNode):
        new.value = [one(item) for item in new.value]
    return new


def model_variable(text: str, model_folder: Path | None) -> dict[str, str]:
    """Return the variable that names the model's folder, where the YAML itself says which one that is.

    Where a placeholder does, the deployer sets the variable by the folder that it is given.
    """
    return {} if model_folder is None or _MODEL_PLACEHOLDER in text else {_MODEL_VARIABLE: model_folder.resolve().name}


def check(text: str, variant: Mapping[str, Any], source: Path) -> None:
    """Raise InputError where a variant's values have no place in a deployment's YAML."""
    try:
        _filled(text, variant, {})
    except deployment_yaml.NoPlace as fault:
        raise InputError(f"{source}: {fault}; make it one, or leave it out") from None


def written(text: str, variant: Mapping[str, Any], variables: Mapping[str, str], command: str, chosen: str) -> str:
    """Return the YAML of a variant whose model's sessions are to have these variables.

    Which model a candidate is, a YAML cannot say; so its variables are not there either: they would go with another
    model. The command brings both.
    """
    head = [f"Chosen by aml_tuner: {chosen}."]
    if CANDIDATE in variant:
        head += [
            f"Not all of it is here: that the model is the optimizer's candidate {variant[CANDIDATE]} is said by",
            "--variant, which brings its session's variables too; without it, another model is deployed. To deploy it:",
        ]
        variables = {}
    else:
        head.append("To deploy it:")
    lines = [*head, *command.splitlines()]
    return "".join(f"# {line}\n" for line in lines) + _filled(text, variant, variables)


def _filled(text: str, variant: Mapping[str, Any], variables: Mapping[str, str]) -> str:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode), "it was one when it was read"
    # The YAML's own variables win over what the optimizer found, and the variant over both, as they did in the trial.
    found: dict[tuple[str, ...], Any] = {
        (VARIABLES, name): value
        for name, value in variables.items()
        if deployment_yaml.node_at(root, (VARIABLES, name)) is None
    }
    return deployment_yaml.text_of(deployment_yaml.with_values(root, found | deployment_values(variant)))


def command(words: Mapping[str, str], variant: Mapping[str, Any], deployer: str) -> str:
    """Return the deployer's command line for a variant that stands in the YAML, one flag a line.

    `words` are the values of the deployer's flags.
    """
    flags = dict(words)
    if CANDIDATE in variant:
        flags["--variant"] = json.dumps({CANDIDATE: variant[CANDIDATE]})
    return " \\\n  ".join([f"python -m {deployer}", *(f"{flag} {shlex.quote(value)}" for flag, value in flags.items())])
