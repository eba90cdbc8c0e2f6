"""What Azure knows of a target: asked only where endpoint information is given and something is needed from it.

The SDKs are imported where they are used: a bare scoring_uri needs none of them, and they take seconds to import.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from aml_tool_core import logs
from aml_tool_core.errors import InputError, ToolError
from aml_tool_core.profiling.target import Target, target_of

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

    from aml_tool_core.azure.endpoint import EndpointTarget
    from aml_tool_core.azure.workspace import Workspace

log = logging.getLogger(__name__)

_WORKSPACE_KEYS = ("subscription_id", "resource_group", "workspace_name")
_MACHINE_KEYS = ("sku", "instance_count", "worker_count", "max_concurrent_requests_per_instance")
# Headers that choose who answers, or what: with another value it is another target.
_TELLING_HEADERS = {"azureml-model-deployment", "content-type", "host"}
_KEY_LIKE = re.compile(r"^code$|auth|key|passw|secret|sig|token", re.IGNORECASE)  # parameters of a query


@dataclass(frozen=True)
class Deployment:
    """A target and the means to ask Azure more about it."""

    target: Target
    settings: Mapping[str, Any]
    resource_id: str | None = None
    model_sha256: str | None = None


@dataclass(frozen=True)
class Usage:
    """Report.json's `resource_usage`, None where there is none, with the reasons for what is missing."""

    metrics: Mapping[str, Any] | None
    reasons: tuple[str, ...]
    whole_minutes: bool = True  # False where the run covers none: the figures hold other traffic


def resolve(settings: Mapping[str, Any], source: str, *, concurrency_given: bool) -> Deployment:
    """Complete a scoring target from its endpoint. The file's own values win.

    Raises InputError where the file names no target, ToolError where Azure must be asked and says no.
    """
    logs.hide(settings.get("identity_access_token"))
    named = "endpoint_name" in settings and "deployment_name" in settings
    if not named and "scoring_uri" not in settings:
        raise InputError(
            f"{source}: /deployment_settings: names no target; give scoring_uri, or endpoint_name and deployment_name"
        )
    wanted = _wanted(settings, concurrency_given)
    if not named or not wanted:
        return Deployment(target_of(settings, source), settings)
    try:
        found = _ask(settings)
    except ToolError as error:
        if {"scoring_uri", "scoring_headers"} & set(wanted):
            raise
        log.warning("%s; going on without %s", error, ", ".join(wanted))
        return Deployment(target_of(settings, source), settings)
    return Deployment(
        target_of({**_as_settings(found), **settings}, source), settings, found.deployment_id, found.model_sha256
    )


def target_facts(deployment: Deployment) -> dict[str, Any]:
    """Return what makes a target another one, without its keys, which may change while it is measured.

    What Azure could not be asked for is left out; that it is not known makes no target another one.
    """
    target = deployment.target
    headers = {name.lower(): value for name, value in target.headers.items() if name.lower() in _TELLING_HEADERS}
    query = [pair for pair in parse_qsl(target.parts.query, keep_blank_values=True) if not _KEY_LIKE.search(pair[0])]
    told = json.dumps([target.shown_uri, headers, query], sort_keys=True)
    facts = {key: value for key, value in vars(target).items() if key not in ("uri", "headers")}
    facts |= {"address_sha256": hashlib.sha256(told.encode()).hexdigest(), "model_sha256": deployment.model_sha256}
    return {key: value for key, value in facts.items() if value is not None}


def vcpus(deployment: Deployment) -> tuple[int | None, str | None]:
    """Return the vCPUs of the target's machine size, or None with the reason. Never fails a run."""
    target = deployment.target
    if target.sku is None or target.location is None:
        return None, None
    try:
        from aml_tool_core.azure import arm

        workspace, credential = _identity(deployment.settings)
        count = arm.vcpus(workspace, credential, target.location, target.sku)
    except (InputError, ToolError) as error:
        return None, f"the vCPUs of {target.sku} cannot be asked: {error}"
    return count, None if count else f"{target.location} knows no machine size {target.sku}"


def usage(deployment: Deployment, started_at: datetime, ended_at: datetime) -> Usage:
    """Return the deployment's resource usage over the run's whole minutes. Never fails a run."""
    target = deployment.target
    if target.endpoint_name is None or target.deployment_name is None:
        return Usage(None, ("the scoring target names no endpoint_name and deployment_name",))
    try:
        from aml_tool_core.azure import monitor

        workspace, credential = _identity(deployment.settings)
        resource_id = deployment.resource_id or workspace.deployment_resource_id(
            target.endpoint_name, target.deployment_name
        )
        found = monitor.deployment_metrics(credential, resource_id, started_at, ended_at)
    except (InputError, ToolError) as error:
        return Usage(None, (str(error),))
    return Usage(found.document() if found.metrics else None, found.reasons, found.whole_minutes)


def _wanted(settings: Mapping[str, Any], concurrency_given: bool) -> list[str]:
    """Return what the file leaves open and the endpoint can tell."""
    keys = ["scoring_uri", "scoring_headers", "sku", "location", "instance_count"]
    concurrency_known = concurrency_given or {"max_concurrent_requests_per_instance", "worker_count"} & set(settings)
    if not concurrency_known:
        keys.append("max_concurrent_requests_per_instance")
    return [key for key in keys if key not in settings]


def _ask(settings: Mapping[str, Any]) -> EndpointTarget:
    from aml_tool_core.azure import endpoint
    from aml_tool_core.azure import workspace as workspaces

    workspace, credential = _identity(settings)
    client = workspaces.client(workspace, credential)
    log.info("asking endpoint %s for its URI, key and machines", settings["endpoint_name"])
    return endpoint.endpoint_target(client, settings["endpoint_name"], settings["deployment_name"])


def _identity(settings: Mapping[str, Any]) -> tuple[Workspace, TokenCredential]:
    from aml_tool_core.azure import credential
    from aml_tool_core.azure import workspace as workspaces

    workspace = workspaces.resolve(**{key: settings.get(key) for key in _WORKSPACE_KEYS})
    return workspace, credential.credential(settings.get("identity_access_token"))


def _as_settings(found: EndpointTarget) -> dict[str, Any]:
    machines = {key: getattr(found.machines, key) for key in _MACHINE_KEYS} if found.machines else {}
    settings = {
        "scoring_uri": found.scoring_uri,
        "scoring_headers": dict(found.headers),
        "location": found.location,
        **machines,
    }
    return {key: value for key, value in settings.items() if value is not None}
