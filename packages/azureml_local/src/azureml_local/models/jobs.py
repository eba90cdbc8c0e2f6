"""Jobs: their rules, their states, and the specification of a command job that the runtime carries out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

from azureml_local.exceptions import ConflictError, InvalidRequestError
from azureml_local.models import placeholders
from azureml_local.models.durations import parse_duration_sec
from azureml_local.models.resource_ids import last_name
from azureml_local.models.store import Resource, Store

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,254}")
FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
TERMINAL = frozenset({"Completed", "Failed", "Canceled"})
DEFAULT_DATASTORE = "workspaceblobstore"
ARTIFACT_DATASTORE = "workspaceartifactstore"
FILE_TYPES = {"uri_file"}
FOLDER_TYPES = {"uri_folder", "mltable", "custom_model", "mlflow_model", "triton_model"}
KINDS = ("command", "sweep", "pipeline")
DEFAULT_EXPERIMENT = "Default"
DISTRIBUTIONS = ("pytorch", "mpi")
# How inputs and outputs come and go, as the API and YAML files write it; what is mounted in the cloud is a copy here.
INPUT_MODES = {"readonlymount", "romount", "download"}
OUTPUT_MODES = {"readwritemount", "rwmount", "upload"}
DIRECT = "direct"
MOST_NODES = 64


@dataclass(frozen=True)
class DataInput:
    """A file or a folder that comes down from the datastore."""

    name: str
    is_file: bool
    uri: str


@dataclass(frozen=True)
class DataOutput:
    """A file or a folder that goes back to the datastore."""

    name: str
    is_file: bool
    uri: str


@dataclass(frozen=True)
class CommandSpec:
    """What a command job asks for, checked."""

    command: str
    environment_id: str
    code_id: str | None
    literals: Mapping[str, str]
    data: tuple[DataInput, ...]
    outputs: tuple[DataOutput, ...]
    environment_variables: Mapping[str, str]
    timeout_sec: float | None
    shm_size: str | None
    docker_arguments: tuple[str, ...]
    node_count: int = 1
    distribution: str | None = None  # "pytorch" or "mpi": whose variables tell the nodes apart

    @property
    def literal_values(self) -> dict[str, str]:
        """What the literals fill in."""
        return {f"inputs.{name}": value for name, value in self.literals.items()}

    @property
    def path_references(self) -> list[str]:
        """What paths in the container fill in."""
        return [f"inputs.{entry.name}" for entry in self.data] + [f"outputs.{entry.name}" for entry in self.outputs]


def artifact_uri(job_name: str) -> str:
    """Return where a job's logs and its ./outputs lie."""
    return f"azureml://datastores/{ARTIFACT_DATASTORE}/paths/ExperimentRun/dcid.{job_name}/"


def output_uri(job_name: str, name: str, wanted: str | None, *, is_file: bool) -> str:
    """Return where a named output goes: as wanted, or to its place in the default datastore."""
    if wanted:
        filled = {"name": job_name, "output_name": name, "default_datastore": DEFAULT_DATASTORE}
        for word, value in filled.items():
            wanted = wanted.replace(f"${{{{{word}}}}}", value)
        return wanted
    return f"azureml://datastores/{DEFAULT_DATASTORE}/paths/azureml/{job_name}/{name}{'' if is_file else '/'}"


def put_job(store: Store, resource_id: str, body: dict[str, Any], internal: dict[str, Any]) -> Resource:
    """Check and create a job; one that exists already is refused."""
    name = last_name(resource_id)
    if not NAME.fullmatch(name):
        raise InvalidRequestError(
            f"The job name '{name}' is invalid: 1 to 255 letters, digits, '_' and '-', the first no sign."
        )
    if store.find(resource_id) is not None:
        raise ConflictError(f"A job named '{name}' exists already; give the new one another name.", "UserError")
    kind = job_kind(body.get("properties") or {})
    properties = {key: value for key, value in (body.get("properties") or {}).items() if value is not None}
    properties |= {
        "status": "Queued",
        "experimentName": properties.get("experimentName") or DEFAULT_EXPERIMENT,
        "displayName": properties.get("displayName") or name,
        "tags": properties.get("tags") or {},
        "properties": properties.get("properties") or {},
        "inputs": properties.get("inputs") or {},
        # A sweep's outputs are its trials', each at its own place.
        "outputs": properties.get("outputs") or {} if kind == "sweep" else with_places(name, properties.get("outputs")),
        "isArchived": False,
        "services": {},
    }
    return store.put(Resource(id=resource_id, properties=properties, internal=internal))


def job_kind(properties: Mapping[str, Any]) -> str:
    """Return a job's type, which must be one that runs here: command, sweep or pipeline."""
    kind = str(properties.get("jobType", "")).lower()
    if kind not in KINDS:
        raise InvalidRequestError(f"Jobs of type '{properties.get('jobType')}' are not emulated.", "NotSupported")
    return kind


def with_places(job_name: str, outputs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a job's outputs, each with the place that it goes to."""
    placed = {}
    for name, output in (outputs or {}).items():
        entry = {key: value for key, value in (output or {}).items() if value is not None}
        kind = entry.setdefault("jobOutputType", "uri_folder")
        entry["uri"] = output_uri(job_name, name, entry.get("uri"), is_file=kind in FILE_TYPES)
        placed[name] = entry
    return placed


def is_terminal(job: Resource) -> bool:
    """Say whether a job has ended."""
    return job.properties["status"] in TERMINAL


def compute_name(properties: Mapping[str, Any]) -> str | None:
    """Return the compute that a job names; None for serverless compute."""
    compute = properties.get("computeId")
    return last_name(str(compute)).removeprefix("azureml:") if compute else None


def parse_command(properties: Mapping[str, Any]) -> CommandSpec:
    """Turn a command job's properties into a specification; raises InvalidRequestError."""
    command, environment = str(properties.get("command") or "").strip(), properties.get("environmentId")
    if not command:
        raise InvalidRequestError("A command job needs a command.")
    if not environment:
        raise InvalidRequestError("A command job needs an environment.")
    resources = properties.get("resources") or {}
    nodes, distribution = node_count(properties), _distribution(properties.get("distribution"))
    if nodes > 1 and distribution is None:
        raise InvalidRequestError(
            "resources.instance_count is more than 1, and nothing tells the nodes apart; add distribution: "
            "{type: pytorch}, which sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT."
        )
    literals, data = parse_inputs(properties.get("inputs") or {})
    outputs = tuple(_parse_output(name, entry) for name, entry in (properties.get("outputs") or {}).items())
    timeout = (properties.get("limits") or {}).get("timeout")
    spec = CommandSpec(
        command=command,
        environment_id=str(environment),
        code_id=str(properties["codeId"]) if properties.get("codeId") else None,
        literals=literals,
        data=data,
        outputs=outputs,
        environment_variables={str(k): str(v) for k, v in (properties.get("environmentVariables") or {}).items()},
        timeout_sec=parse_duration_sec(str(timeout)) if timeout else None,
        shm_size=resources.get("shmSize"),
        docker_arguments=_docker_arguments(resources),
        node_count=nodes,
        distribution=distribution,
    )
    # A placeholder that nothing fills is the job's fault, and known now.
    placeholders.resolve(command, {**spec.literal_values, **dict.fromkeys(spec.path_references, "")})
    return spec


def node_count(properties: Mapping[str, Any]) -> int:
    """Return on how many nodes a command job runs; raises InvalidRequestError."""
    count = (properties.get("resources") or {}).get("instanceCount")
    if count is None:
        return 1
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST_NODES:
        raise InvalidRequestError(f"resources.instance_count must be a whole number from 1 to {MOST_NODES}.")
    return count


def _distribution(asked: Mapping[str, Any] | None) -> str | None:
    """Return whose environment variables the nodes get: one process runs on each."""
    if not asked:
        return None
    kind = str(asked.get("distributionType", "")).lower()
    if kind not in DISTRIBUTIONS:
        raise InvalidRequestError(
            f"The distribution '{asked.get('distributionType')}' is not emulated; {' and '.join(DISTRIBUTIONS)} are.",
            "NotSupported",
        )
    if (asked.get("processCountPerInstance") or 1) != 1:
        raise InvalidRequestError(
            "distribution.process_count_per_instance must be 1: a node's container runs the command once.",
            "NotSupported",
        )
    return kind


def parse_inputs(inputs: Mapping[str, Any]) -> tuple[dict[str, str], tuple[DataInput, ...]]:
    """Split a job's inputs into literals and data; raises InvalidRequestError."""
    literals: dict[str, str] = {}
    data: list[DataInput] = []
    for name, given in inputs.items():
        _check_field("input", name)
        entry = {} if given is None else given
        if not isinstance(entry, Mapping):
            raise InvalidRequestError(f"The input '{name}' is no object with a jobInputType.")
        kind = str(entry.get("jobInputType", "literal")).lower()
        if kind == "literal":
            # An optional input that was given nothing: $[[...]] falls away.
            if entry.get("value") is not None:
                literals[name] = str(entry["value"])
        elif kind in FILE_TYPES | FOLDER_TYPES:
            if not entry.get("uri"):
                raise InvalidRequestError(f"The input '{name}' has no path.")
            if _mode("input", name, entry, INPUT_MODES | {DIRECT}) == DIRECT:
                # Nothing comes down: the command reads the place itself.
                literals[name] = str(entry["uri"])
            else:
                data.append(DataInput(name, kind in FILE_TYPES, str(entry["uri"])))
        else:
            raise InvalidRequestError(f"The input '{name}' is of type {kind}, which is not emulated.", "NotSupported")
    return literals, tuple(data)


def _parse_output(name: str, entry: dict[str, Any]) -> DataOutput:
    _check_field("output", name)
    kind = str(entry.get("jobOutputType", "uri_folder")).lower()
    if kind not in FILE_TYPES | FOLDER_TYPES:
        raise InvalidRequestError(f"The output '{name}' is of type {kind}, which is not emulated.", "NotSupported")
    _mode("output", name, entry, OUTPUT_MODES)
    return DataOutput(name, kind in FILE_TYPES, str(entry["uri"]))


def _mode(what: str, name: str, entry: Mapping[str, Any], emulated: Set[str]) -> str | None:
    """Return an input's or output's mode; raises InvalidRequestError for one that is not emulated."""
    if not entry.get("mode"):
        return None
    mode = str(entry["mode"]).lower().replace("_", "")
    if mode not in emulated:
        raise InvalidRequestError(f"The {what} '{name}' has the mode {entry['mode']}: not emulated.", "NotSupported")
    return mode


def _check_field(what: str, name: str) -> None:
    if not FIELD_NAME.fullmatch(name):
        raise InvalidRequestError(
            f"The {what} name '{name}' is invalid: letters, digits and '_', beginning with a letter or '_'."
        )


def _docker_arguments(resources: Mapping[str, Any]) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(str(resources.get("dockerArgs") or "")))
    except ValueError as error:
        raise InvalidRequestError(f"resources.docker_args cannot be read: {error}") from error
