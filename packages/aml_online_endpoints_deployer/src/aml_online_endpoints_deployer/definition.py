"""What is to be deployed: the two YAML files, checked as far as that goes without Azure."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from aml_tool_core import deployment_variant, deployment_yaml, documents
from aml_tool_core.azure import cloud, sdk_output
from aml_tool_core.errors import InputError

from aml_online_endpoints_deployer import variants, yaml_file
from aml_online_endpoints_deployer.yaml_file import YamlFile

if TYPE_CHECKING:
    from azure.ai.ml.entities import OnlineDeployment, OnlineEndpoint

FLAG_OF_PLACEHOLDER = {
    "MODEL_FOLDER_PATH": "--model_folder_path",
    "CODE_FOLDER_PATH": "--code_folder_path",
    "ENVIRONMENT_FOLDER_PATH": "--environment_folder_path",
}
_MAX_FAULTS = 3
_FULL_PERCENT = 100


@dataclass(frozen=True)
class Definition:
    """An endpoint and a deployment as azure-ai-ml's entities, and what their YAML asks of the traffic."""

    endpoint: OnlineEndpoint  # with no traffic: there is nothing yet to send it to
    deployment: OnlineDeployment
    traffic: Mapping[str, int]
    mirror_traffic: Mapping[str, int]
    endpoint_yaml: Path

    @property
    def endpoint_name(self) -> str:
        return str(self.endpoint.name)

    @property
    def deployment_name(self) -> str:
        return str(self.deployment.name)

    @property
    def local_model(self) -> Path | None:
        """The file or folder of this machine that becomes the deployment's model; None where it is in Azure already."""
        path = getattr(self.deployment.model, "path", None)  # a registered model is a mere name
        return Path(path) if path and not deployment_yaml.is_elsewhere(str(path)) else None


def read(
    endpoint_yaml: Path,
    deployment_yaml: Path,
    folders: Mapping[str, Path | None],
    variant: Mapping[str, Any] | None = None,
) -> Definition:
    """Read both files and check them against each other, against the disk, and against AzureML's own schema.

    `folders` has the folder of each placeholder; a variant's settings take the place of the files' own. Raises
    InputError naming file and place.
    """
    values = {name: None if folder is None else str(folder.resolve()) for name, folder in folders.items()}
    endpoint_file = yaml_file.read(endpoint_yaml, values, FLAG_OF_PLACEHOLDER)
    deployment_file = yaml_file.read(deployment_yaml, values, FLAG_OF_PLACEHOLDER)
    endpoint_file = variants.with_values(endpoint_file, deployment_variant.endpoint_values(variant or {}))
    deployment_file = variants.with_values(deployment_file, deployment_variant.deployment_values(variant or {}))
    name = endpoint_file.required("name", "my-endpoint")
    deployment_file.required("name", "blue")
    named = deployment_file.required("endpoint_name", name)
    if named != name:
        node = deployment_file.node("endpoint_name")
        assert node is not None
        deployment_file.fault(node, f"/endpoint_name: {named!r}, but {endpoint_yaml} names the endpoint {name!r}")
    _check_traffic(endpoint_file)
    _check_shape(deployment_file)
    _check_disk(deployment_file)
    cloud.current()  # reading YAML makes the SDK read the cloud metadata, over and over, with no bound on the time

    from azure.ai.ml import load_online_deployment, load_online_endpoint

    sdk_output.hush()

    endpoint = _loaded(load_online_endpoint, endpoint_file)
    deployment = _loaded(load_online_deployment, deployment_file)
    traffic, mirror_traffic = dict(endpoint.traffic or {}), dict(endpoint.mirror_traffic or {})
    endpoint.traffic, endpoint.mirror_traffic = {}, {}
    return Definition(endpoint, deployment, traffic, mirror_traffic, endpoint_yaml)


def _check_shape(file: YamlFile) -> None:
    """Refuse values on which azure-ai-ml fails with an error of Python's instead of one about the file."""
    for key, may_be_text in (("model", True), ("environment", True), ("code_configuration", False)):
        node = file.node(key)
        fits = node is None or isinstance(node, yaml.MappingNode) or (may_be_text and file.string(key))
        if node is not None and not fits:
            wanted = "a mapping, or the name of an asset" if may_be_text else "a mapping"
            file.fault(node, f"/{key}: {wanted} is needed")


def _check_traffic(file: YamlFile) -> None:
    """Refuse shares that Azure refuses: it would be asked for them last, when all else stands.

    What is no number at all is the schema's to tell; a fraction it would cut off in silence.
    """
    for key in ("traffic", "mirror_traffic"):
        node, shares = file.node(key), file.values.get(key)
        if node is None or not isinstance(shares, Mapping):
            continue
        counted = {
            name: int(share) if isinstance(share, str) else share
            for name, share in shares.items()
            if isinstance(share, (int, float)) or (isinstance(share, str) and share.isdecimal())
        }
        for name, share in counted.items():
            if isinstance(share, bool) or not 0 <= share <= _FULL_PERCENT or share != int(share):
                where = file.node(key, str(name)) or node
                file.fault(where, f"/{key}/{name}: {share} is not a whole number from 0 to {_FULL_PERCENT}")
        total = sum(counted.values())
        if key == "traffic" and len(counted) == len(shares) and total not in (0, _FULL_PERCENT):
            file.fault(node, f"/{key}: the shares add up to {total}; Azure takes {_FULL_PERCENT} or 0")


def _check_disk(file: YamlFile) -> None:
    """Look for the files that the YAML names: the SDK notices only when half of the assets are registered."""
    folder = file.path.resolve().parent
    for keys in deployment_yaml.LOCAL_PATHS:
        named = file.string(*keys)
        if named is None or deployment_yaml.is_elsewhere(named):
            continue
        found = folder / named
        with _readable(file, keys, found):
            if not found.exists():
                file.fault(_node(file, keys), f"{documents.pointer(keys)}: {found}: no such file or folder")
            if found.is_dir() and not any(found.iterdir()):
                file.fault(_node(file, keys), f"{documents.pointer(keys)}: {found}: the folder is empty")
        if keys == deployment_yaml.CONDA_FILE and not isinstance(documents.read_yaml(found), dict):
            raise InputError(f"{found}: is not a mapping, as conda's files are, with `dependencies`")
    code, script = file.string("code_configuration", "code"), file.string("code_configuration", "scoring_script")
    if code is not None and script is not None and not deployment_yaml.is_elsewhere(code):
        keys = ("code_configuration", "scoring_script")
        scoring = folder / code / script
        with _readable(file, keys, scoring):
            if not scoring.is_file():
                file.fault(_node(file, keys), f"/code_configuration/scoring_script: {scoring}: no such file")
            content = scoring.read_bytes()
        try:
            compile(content, str(scoring), "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None)
            raise InputError(f"{scoring}: line {line or 1}: not Python: {error}") from None


@contextmanager
def _readable(file: YamlFile, keys: Sequence[str], path: Path) -> Iterator[None]:
    """Tell of a path that cannot even be looked at: its name is too long, or it is somebody else's."""
    try:
        yield
    except OSError as error:
        file.fault(_node(file, keys), f"{documents.pointer(keys)}: {path}: cannot be read: {error.strerror}")


def _node(file: YamlFile, keys: Sequence[str]) -> yaml.Node:
    node = file.node(*keys)
    assert node is not None
    return node


def _loaded(load: Callable[..., Any], file: YamlFile) -> Any:
    """Let azure-ai-ml read the filled-in text as if it stood in the file's own folder. Raises InputError."""
    from azure.ai.ml.exceptions import MlException
    from marshmallow import ValidationError

    try:
        return load(io.StringIO(file.text()), relative_origin=str(file.path.resolve()))
    except ValidationError as error:
        faults = list(_faults(str(error)))
        more = f" (and {len(faults) - _MAX_FAULTS} more)" if len(faults) > _MAX_FAULTS else ""
        raise InputError(f"{file.path}: {'; '.join(faults[:_MAX_FAULTS])}{more}") from None
    except MlException as error:
        raise InputError(f"{file.path}: {error.message}") from None


def _faults(message: str) -> Iterator[str]:
    """Yield `/pointer: problem` for each entry of the JSON that azure-ai-ml's validation error carries."""
    start = message.find("{")
    if start < 0:
        yield message
        return
    try:
        tree, _ = json.JSONDecoder().raw_decode(message, start)
    except json.JSONDecodeError:
        yield message
        return
    yield from _leaves(tree, ())


def _leaves(tree: Any, path: tuple[str, ...]) -> Iterator[str]:
    if isinstance(tree, Mapping):
        for key, below in tree.items():
            yield from _leaves(below, path if key == "_schema" else (*path, str(key)))
    elif isinstance(tree, list):
        for below in tree:
            yield from _leaves(below, path)
    else:
        yield f"{documents.pointer(path)}: {' '.join(str(tree).split()).rstrip('.')}"
