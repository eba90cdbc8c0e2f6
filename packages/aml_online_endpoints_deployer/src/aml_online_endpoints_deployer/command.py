"""The tool: its flags, and the run from checked input to deployment_settings.json."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aml_tool_core import Flag, Interrupted, Job, Kind, Tool, ToolError, optimized_parameters, outputs

from aml_online_endpoints_deployer import definition, rollout, settings, tuning
from aml_online_endpoints_deployer.definition import Definition
from aml_online_endpoints_deployer.rollout import Made

if TYPE_CHECKING:
    from aml_tool_core.azure.workspace import Workspace
    from azure.ai.ml import MLClient

NAME = "aml_online_endpoints_deployer"
_VERSION = version("aml-online-endpoints-deployer")
_log = logging.getLogger(NAME)
_REMOVAL_SEC = 900.0
_INTERRUPTED_REMOVAL_SEC = 20.0  # who stops a tool, or cancels a job, does not wait long


def run(job: Job) -> None:
    """Check all that can be checked without Azure, deploy, and write deployment_settings.json."""
    from aml_tool_core.azure import credential, sdk_output
    from aml_tool_core.azure import workspace as workspaces

    workspace = workspaces.resolve(
        job.values["subscription_id"], job.values["resource_group"], job.values["workspace_name"]
    )
    folders = {name: job.values[flag.lstrip("-")] for name, flag in definition.FLAG_OF_PLACEHOLDER.items()}
    parameters_path = job.values["optimized_parameters_path"]
    parameters = None if parameters_path is None else optimized_parameters.read(parameters_path)
    wanted = definition.read(job.path("endpoint_yaml_path"), job.path("deployment_yaml_path"), folders)
    _tune(wanted, parameters, folders["MODEL_FOLDER_PATH"])
    _tag(wanted)
    deadline = time.monotonic() + job.values["timeout_sec"]
    with sdk_output.diverted():
        client = workspaces.client(workspace, credential.credential())
        made = Made()
        with _nothing_orphaned(job, client, workspace, wanted, made):
            deployed = rollout.deploy(client, wanted, made, deadline)
            outputs.write_json(
                job.outputs / settings.FILE_NAME, settings.document(workspace, deployed), settings.SCHEMA
            )
    _log.info("deployed; settings are in %s", job.outputs / settings.FILE_NAME)


def _tune(wanted: Definition, parameters: dict[str, Any] | None, model_folder: Path | None) -> None:
    """Give the deployment the variables that scoring scripts read, and the model's hash; the YAML's own win."""
    found = {} if parameters is None else tuning.variables(parameters)
    if model_folder is not None:
        found["MODEL_FOLDER_NAME"] = model_folder.resolve().name
    own = wanted.deployment.environment_variables or {}
    wanted.deployment.environment_variables = {**found, **own}
    for name, value in found.items():
        _log.info("%s=%s%s", name, own.get(name, value), " (set by the YAML)" if name in own else "")
    model_hash = tuning.model_sha256(parameters, wanted.local_model)
    if model_hash is not None:
        wanted.deployment.tags = {"model_sha256": model_hash, **(wanted.deployment.tags or {})}


def _tag(wanted: Definition) -> None:
    """Mark what this tool creates as its own, for those who look for leftovers; the YAML's own tags win."""
    mark = {"tool": NAME, "tool_version": _VERSION}
    if job_name := os.environ.get("AZUREML_RUN_ID"):
        mark["job"] = job_name
    for entity in (wanted.endpoint, wanted.deployment):
        entity.tags = {**mark, **(entity.tags or {})}


@contextmanager
def _nothing_orphaned(
    job: Job, client: MLClient, workspace: Workspace, wanted: Definition, made: Made
) -> Iterator[None]:
    """Keep a note for the deleter while something is being made, and remove what was made when it does not end well.

    The note is on disk before the first call that creates, so that even a killed run leaves it. One that an earlier run
    left stays until a run succeeds: what it names may still stand.
    """
    note = job.outputs / settings.PARTIAL_NAME
    left_earlier = note.exists()
    names = settings.partial(workspace, wanted.endpoint_name, wanted.deployment_name)
    outputs.write_json(note, names, settings.SCHEMA)
    try:
        yield
    except BaseException as reason:
        why = _kept(job, client, wanted, made, isinstance(reason, Interrupted))
        if why:
            remedy = f"python -m aml_online_endpoints_deleter --config_path {note} --delete_endpoint {made.endpoint}"
            _log.warning("what this run created still stands (%s); to remove it: %s", why, remedy)
        elif not left_earlier:
            note.unlink(missing_ok=True)
        raise
    note.unlink(missing_ok=True)


def _kept(job: Job, client: MLClient, wanted: Definition, made: Made, interrupted: bool) -> str:
    """Remove what this run created; return why it stands, or nothing when it does not."""
    from aml_tool_core.azure.operation import TimedOut

    if not (made.endpoint or made.deployment):
        return ""
    if job.values["keep_failed"]:
        return "--keep_failed"
    limit_sec = _INTERRUPTED_REMOVAL_SEC if interrupted else _REMOVAL_SEC
    _log.info("removing what this run created")
    try:
        rollout.remove(client, wanted, made, time.monotonic() + limit_sec)
    except TimedOut:
        return f"its removal is under way, but was not done within {limit_sec:g} s"
    except ToolError as error:
        return str(error)
    return ""


TOOL = Tool(
    name=NAME,
    version=_VERSION,
    summary="Deploy a model with its optimized parameters as an AzureML online endpoint, and write "
    "./outputs/deployment_settings.json for the profilers and the deleter.",
    flags=(
        Flag("--endpoint_yaml_path", "the endpoint, in AzureML's online endpoint YAML", Kind.FILE, required=True),
        Flag("--deployment_yaml_path", "the deployment, in AzureML's online deployment YAML", Kind.FILE, required=True),
        Flag("--model_folder_path", "fills in <%% MODEL_FOLDER_PATH %%> in the YAML", Kind.FOLDER),
        Flag("--environment_folder_path", "fills in <%% ENVIRONMENT_FOLDER_PATH %%> in the YAML", Kind.FOLDER),
        Flag("--code_folder_path", "fills in <%% CODE_FOLDER_PATH %%> in the YAML", Kind.FOLDER),
        Flag(
            "--optimized_parameters_path",
            "what the optimizer found (its file or folder): becomes the deployment's environment variables",
            Kind.PATH,
        ),
        Flag("--subscription_id", "subscription of the workspace; default: that of the running AzureML job"),
        Flag("--resource_group", "resource group of the workspace; default: that of the running AzureML job"),
        Flag("--workspace_name", "workspace to deploy to; default: that of the running AzureML job"),
        Flag("--timeout_sec", "how long to wait for Azure, in all (default: 3600)", Kind.SECONDS, default="3600"),
        Flag("--keep_failed", "leave a failed deployment standing, to look into it", Kind.SWITCH),
    ),
    run=run,
    outputs=(settings.FILE_NAME,),
    epilog="The YAML may set any environment variable itself; then the optimized one is not used.",
)
