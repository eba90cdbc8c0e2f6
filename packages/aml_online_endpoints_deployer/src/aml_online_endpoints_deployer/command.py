"""The tool: its flags, and the run from checked input to deployment_settings.json."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aml_tool_core import Flag, InputError, Interrupted, Job, Kind, Tool, ToolError, optimized_parameters, outputs

from aml_online_endpoints_deployer import definition, notes, rollout, settings, tuning, variants
from aml_online_endpoints_deployer.definition import Definition
from aml_online_endpoints_deployer.notes import Note
from aml_online_endpoints_deployer.rollout import Made

if TYPE_CHECKING:
    from aml_tool_core.azure.workspace import Workspace

NAME = "aml_online_endpoints_deployer"
_VERSION = version("aml-online-endpoints-deployer")
_log = logging.getLogger(NAME)
_REMOVAL_SEC = 900.0
_INTERRUPTED_REMOVAL_SEC = 20.0  # who stops a tool, or cancels a job, does not wait long


def run(job: Job) -> None:
    """Deploy what the flags name, or a variant of it."""
    with outputs.alone(job.outputs):
        _run(job)


def _run(job: Job) -> None:
    aside = notes.set_aside(job.outputs)
    if aside is not None:
        _log.info("the settings of an earlier run are %s now", aside)
    variant: dict[str, Any] = {}
    if job.values["variant"] is not None:
        listed = job.documents.get("variants_path")
        variant = variants.read(job.values["variant"], listed, str(job.values["variants_path"]))
        _log.info("variant: %s", variants.described(variant))
    folders = (job.values["model_folder_path"], job.values["optimized_parameters_path"])
    with variants.candidate(variant.get("candidate"), *folders, job.outputs) as (model, parameters):
        values = {**job.values, "model_folder_path": model, "optimized_parameters_path": parameters}
        _deploy(replace(job, values=values), variant)


def _deploy(job: Job, variant: Mapping[str, Any]) -> None:
    """Check all that can be checked without Azure, deploy, and write deployment_settings.json."""
    from aml_tool_core.azure import credential, sdk_output
    from aml_tool_core.azure import workspace as workspaces

    workspace = workspaces.resolve(
        job.values["subscription_id"], job.values["resource_group"], job.values["workspace_name"]
    )
    folders = {name: job.values[flag.lstrip("-")] for name, flag in definition.FLAG_OF_PLACEHOLDER.items()}
    parameters_path = job.values["optimized_parameters_path"]
    parameters = None if parameters_path is None else optimized_parameters.read(parameters_path)
    wanted = definition.read(job.path("endpoint_yaml_path"), job.path("deployment_yaml_path"), folders, variant)
    share = _share(job.values["traffic"], wanted)
    _tune(wanted, parameters, folders["MODEL_FOLDER_PATH"])
    note = notes.open_note(job.outputs, workspace, wanted.endpoint_name, wanted.deployment_name)
    _mark(wanted, note.run, job.values["expires_after"])
    deadline = time.monotonic() + job.values["timeout_sec"]
    with sdk_output.diverted():
        client = workspaces.client(workspace, credential.credential(deadline=deadline), deadline)
        made = Made(note.run, note.write, note.move)
        with _nothing_orphaned(job, workspace, wanted, made, note):
            deployed = rollout.deploy(client, wanted, made, deadline, share)
            outputs.write_json(
                job.outputs / settings.FILE_NAME, settings.document(workspace, deployed), settings.SCHEMA
            )
    notes.earlier(job.outputs, wanted.endpoint_name, wanted.deployment_name).unlink(missing_ok=True)
    _log.info("deployed; settings are in %s", job.outputs / settings.FILE_NAME)


def _share(text: str | None, wanted: Definition) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and int(text) <= 100):
        raise InputError(f"--traffic: {text!r} is not a whole number from 0 to 100")
    if wanted.traffic:
        raise InputError(f"--traffic: {wanted.endpoint_yaml} says `traffic` itself; leave one of the two out")
    return int(text)


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


def _mark(wanted: Definition, run: str, expires_after_sec: float | None) -> None:
    """Mark what this tool creates as its own, for those who look for leftovers."""
    from aml_tool_core.azure import marks

    mark = {marks.TOOL: NAME, marks.VERSION: _VERSION, marks.RUN: run}
    if job_name := os.environ.get("AZUREML_RUN_ID"):
        mark[marks.JOB] = job_name
    mark.update(marks.times(datetime.now(timezone.utc), expires_after_sec))
    for entity in (wanted.endpoint, wanted.deployment):
        entity.tags = {**(entity.tags or {}), **mark}


@contextmanager
def _nothing_orphaned(job: Job, workspace: Workspace, wanted: Definition, made: Made, note: Note) -> Iterator[None]:
    """Keep a note for the deleter while something is being made, and remove what was made when it does not end well.

    The note is on disk before the first call that creates, so that even a killed run leaves it. One that an earlier run
    left stays until what it names is gone or a run succeeds.
    """
    note.write()
    try:
        yield
    except BaseException as reason:
        (job.outputs / settings.FILE_NAME).unlink(missing_ok=True)  # stopped just when all was done, it may be there
        began = made.endpoint or made.deployment
        why = _kept(job, workspace, wanted, made, isinstance(reason, Interrupted))
        if why:
            remedy = f"python -m aml_online_endpoints_deleter --config_path {note.path} --delete_endpoint True"
            _log.warning("what this run created still stands (%s); to remove it: %s", why, remedy)
            if isinstance(reason, Interrupted):
                reason.left = f"what stands is named in {note.path}"
        elif began or not note.left_earlier:
            note.remove()
        for what in made.found:
            _log.warning("%s was there before this run, and stands", what)
        raise
    note.remove()


def _kept(job: Job, workspace: Workspace, wanted: Definition, made: Made, interrupted: bool) -> str:
    """Remove what this run created; return why it stands, or nothing when it does not."""
    from aml_tool_core.azure import credential
    from aml_tool_core.azure import workspace as workspaces

    if not (made.endpoint or made.deployment):
        return ""
    if job.values["keep_failed"]:
        return "--keep_failed"
    limit_sec = _INTERRUPTED_REMOVAL_SEC
    if not interrupted:
        limit_sec = max(limit_sec, min(job.values["timeout_sec"], _REMOVAL_SEC))
    deadline = time.monotonic() + limit_sec
    _log.info("removing what this run created")
    try:
        # A client of its own: the other one's time may be over, and its token may be what was refused.
        client = workspaces.client(workspace, credential.credential(deadline=deadline), deadline)
        rollout.remove(client, wanted, made, deadline)
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
        Flag(
            variants.FLAG,
            "what to deploy otherwise than the YAML says: KEY=VALUE,... or JSON (worker_count, instance_type, "
            "candidate, ...), or a number in the list of --variants_path",
        ),
        Flag(
            "--variants_path",
            "a list of variants, of which --variant takes one",
            Kind.FILE,
            schema=variants.LIST_SCHEMA,
        ),
        Flag("--subscription_id", "subscription of the workspace; default: that of the running AzureML job"),
        Flag("--resource_group", "resource group of the workspace; default: that of the running AzureML job"),
        Flag("--workspace_name", "workspace to deploy to; default: that of the running AzureML job"),
        Flag(
            "--traffic",
            "percentage of the traffic that the deployment gets; the others share the rest as before (default: all for "
            "the endpoint's only deployment, else none is moved)",
        ),
        Flag(
            "--expires_after",
            "tag what is created with the time when it may be swept, so long from now, e.g. 2h",
            Kind.DURATION,
        ),
        Flag("--timeout_sec", "how long to wait for Azure, in all (default: 3600)", Kind.SECONDS, default="3600"),
        Flag("--keep_failed", "leave a failed deployment standing, to look into it", Kind.SWITCH),
    ),
    run=run,
    epilog="The YAML may set any environment variable itself; then the optimized one is not used.",
)
