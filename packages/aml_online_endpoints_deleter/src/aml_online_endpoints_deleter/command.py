"""The tool: its flags, and what a settings file and --delete_endpoint say is to go."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aml_tool_core import Flag, InputError, Job, Kind, Tool

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

NAME = "aml_online_endpoints_deleter"
_log = logging.getLogger(NAME)


def run(job: Job) -> None:
    """Delete what the settings name, or with --dry_run print it."""
    whole = job.values["delete_endpoint"]
    target = job.documents["config_path"]["deployment_settings"]
    endpoint_name = _name(target, "endpoint_name", job.path("config_path"))
    deployment_name = None if whole else _name(target, "deployment_name", job.path("config_path"))

    from aml_tool_core.azure import credential, removal, sdk_output
    from aml_tool_core.azure import workspace as workspaces

    workspace = workspaces.resolve(
        target.get("subscription_id"), target.get("resource_group"), target.get("workspace_name")
    )
    client = workspaces.client(workspace, credential.credential(target.get("identity_access_token")))
    if job.values["dry_run"]:
        with sdk_output.diverted():
            lines = plan(client, endpoint_name, deployment_name)
        print("\n".join(lines))
        return
    deadline = time.monotonic() + job.values["timeout_sec"]
    with sdk_output.diverted():
        if deployment_name is None:
            outcome = removal.remove_endpoint(client, endpoint_name, deadline)
        else:
            outcome = removal.remove_deployment(client, endpoint_name, deployment_name, deadline)
    _log.info("%s: %s", named(endpoint_name, deployment_name), _SAID[outcome.name])


def plan(client: MLClient, endpoint_name: str, deployment_name: str | None) -> list[str]:
    """Return what a run would delete, a line each; one line that says so when there is nothing."""
    from aml_tool_core.azure import removal
    from aml_tool_core.azure.failures import asking

    endpoint = removal.find_endpoint(client, endpoint_name)
    if endpoint is None:
        removal.require_workspace(client)
        return [f"nothing: endpoint {endpoint_name} is not there"]
    with asking(f"endpoint {endpoint_name}: deployments"):
        deployments = sorted(str(one.name) for one in client.online_deployments.list(endpoint_name))
    if deployment_name is None:
        return [*(named(endpoint_name, one) for one in deployments), named(endpoint_name, None)]
    if deployment_name not in deployments:
        return [f"nothing: {named(endpoint_name, deployment_name)} is not there"]
    return [f"{named(endpoint_name, deployment_name)} (traffic {(endpoint.traffic or {}).get(deployment_name, 0)} %)"]


def named(endpoint_name: str, deployment_name: str | None) -> str:
    """Return how log lines call an endpoint or a deployment."""
    return f"endpoint {endpoint_name}" + ("" if deployment_name is None else f": deployment {deployment_name}")


def _name(target: Mapping[str, Any], key: str, config_path: Path) -> str:
    name = target.get(key)
    if name is None:
        raise InputError(f"{config_path}: /deployment_settings/{key}: is missing; it names what is to be deleted")
    return str(name)


_SAID = {"REMOVED": "deleted, and verified gone", "ABSENT": "is not there already; nothing to delete"}

TOOL = Tool(
    name=NAME,
    version=version("aml-online-endpoints-deleter"),
    summary="Delete the online endpoint that a deployment_settings.json names, or its deployment alone, and verify "
    "that it is gone.",
    flags=(
        Flag(
            "--config_path",
            "what to delete: the deployer's deployment_settings.json",
            Kind.FILE,
            required=True,
            schema="deployment_settings",
        ),
        Flag(
            "--delete_endpoint",
            "True: the endpoint with all its deployments; False: the named deployment alone",
            Kind.BOOLEAN,
            required=True,
        ),
        Flag("--timeout_sec", "how long to wait for Azure, in all (default: 1800)", Kind.SECONDS, default="1800"),
        Flag("--dry_run", "print what would be deleted, and delete nothing", Kind.SWITCH),
    ),
    run=run,
)
