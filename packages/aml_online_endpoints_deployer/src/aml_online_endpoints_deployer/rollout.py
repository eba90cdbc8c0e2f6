"""Bring the endpoint and the deployment up, and take away again what this run brought."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aml_tool_core.azure import removal
from aml_tool_core.azure.failures import asking
from aml_tool_core.azure.operation import finish, settled
from aml_tool_core.errors import InputError, ToolError

from aml_online_endpoints_deployer.definition import Definition

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

_log = logging.getLogger("aml_online_endpoints_deployer")
_LOG_LINES = 50
_FULL_PERCENT = 100


@dataclass
class Made:
    """What this run set out to create. It is noted before the call, so that an interruption in it loses nothing."""

    endpoint: bool = False
    deployment: bool = False


@dataclass(frozen=True)
class Deployed:
    """The endpoint and the deployment as Azure describes them, in azure-ai-ml's entities."""

    endpoint: Any
    deployment: Any


def deploy(client: MLClient, definition: Definition, made: Made, deadline: float) -> Deployed:
    """Create the endpoint where there is none, create or update the deployment, and set the traffic. Raises ToolError.

    `deadline` is a time of `time.monotonic()`; what this run creates is noted in `made`.
    """
    name = definition.endpoint_name
    endpoint = settled(lambda: removal.find_endpoint(client, name), f"endpoint {name}", deadline)
    others = set() if endpoint is None else _others(client, definition)
    _check_traffic(definition, others)
    if endpoint is None:
        removal.require_workspace(client)
        made.endpoint = True
        _create_endpoint(client, definition, deadline)
    else:
        _tell_differences(definition, endpoint)
    deployment = settled(
        lambda: removal.find_deployment(client, name, definition.deployment_name),
        f"endpoint {name}: deployment {definition.deployment_name}",
        deadline,
    )
    made.deployment = deployment is None
    _create_deployment(client, definition, made, deadline)
    _set_traffic(client, definition, others, deadline)
    with asking(f"endpoint {definition.endpoint_name}"):
        return Deployed(
            client.online_endpoints.get(definition.endpoint_name),
            client.online_deployments.get(definition.deployment_name, definition.endpoint_name),
        )


def remove(client: MLClient, definition: Definition, made: Made, deadline: float) -> None:
    """Remove what this run created, and nothing else. Raises ToolError when something of it stands."""
    if made.endpoint:
        outcome = removal.remove_endpoint(client, definition.endpoint_name, deadline)
        _log.info("endpoint %s, which this run created: %s", definition.endpoint_name, outcome.value)
    elif made.deployment:
        outcome = removal.remove_deployment(client, definition.endpoint_name, definition.deployment_name, deadline)
        _log.info("deployment %s, which this run created: %s", definition.deployment_name, outcome.value)
    made.endpoint = made.deployment = False


def wanted_traffic(
    asked: Mapping[str, int], present: Mapping[str, int], others: set[str], deployment_name: str
) -> dict[str, int]:
    """Return the traffic shares that are to be set: as asked; else all for the only deployment; else as they are."""
    if not asked and not others:
        return {deployment_name: _FULL_PERCENT}
    return {name: share for name, share in (asked or present).items() if share}


def _others(client: MLClient, definition: Definition) -> set[str]:
    with asking(f"endpoint {definition.endpoint_name}: deployments"):
        found = {str(one.name) for one in client.online_deployments.list(definition.endpoint_name)}
    return found - {definition.deployment_name}


def _check_traffic(definition: Definition, others: set[str]) -> None:
    """Refuse traffic for deployments that will not be there, before anything is created that costs money."""
    for key, shares in (("traffic", definition.traffic), ("mirror_traffic", definition.mirror_traffic)):
        unknown = sorted({name for name, share in shares.items() if share} - others - {definition.deployment_name})
        if unknown:
            raise InputError(
                f"{definition.endpoint_yaml}: /{key}: {', '.join(unknown)}: the endpoint will have no such deployment, "
                f"only {', '.join(sorted({*others, definition.deployment_name}))}"
            )


def _create_endpoint(client: MLClient, definition: Definition, deadline: float) -> None:
    what = f"endpoint {definition.endpoint_name}: creation"
    _log.info("%s", what)
    with asking(what):
        poller = client.online_endpoints.begin_create_or_update(definition.endpoint)
    finish(poller, what, deadline)


def _tell_differences(definition: Definition, endpoint: Any) -> None:
    _log.info("endpoint %s is there already", definition.endpoint_name)
    asked, present = (definition.endpoint.auth_mode or "").lower(), (endpoint.auth_mode or "").lower()
    if asked != present:
        _log.warning("endpoint %s keeps its auth_mode %s; the YAML says %s", endpoint.name, present, asked)


def _create_deployment(client: MLClient, definition: Definition, made: Made, deadline: float) -> None:
    what = f"endpoint {definition.endpoint_name}: deployment {definition.deployment_name}: "
    what += "creation" if made.deployment else "update"
    _log.info("%s: uploading what is new of code, environment and model", what)
    with asking(what):
        poller = client.online_deployments.begin_create_or_update(definition.deployment)
    try:
        _log.info("%s: accepted", what)
        finish(poller, what, deadline)
    except ToolError:
        _show_container_log(client, definition)
        raise


def _show_container_log(client: MLClient, definition: Definition) -> None:
    """Put the end of the scoring container's log on stderr: the cause of a failed deployment is usually in it."""
    name = definition.deployment_name
    try:
        with asking(f"deployment {name}: container log"):
            text = client.online_deployments.get_logs(name, definition.endpoint_name, lines=_LOG_LINES)
    except ToolError as error:
        _log.warning("%s", error)  # the deployment's own failure is what is raised
        return
    _log.error("deployment %s: end of its container's log:\n%s", name, text.rstrip() or "(empty)")


def _set_traffic(client: MLClient, definition: Definition, others: set[str], deadline: float) -> None:
    with asking(f"endpoint {definition.endpoint_name}"):
        endpoint = client.online_endpoints.get(definition.endpoint_name)
    present = {name: share for name, share in (endpoint.traffic or {}).items() if share}
    mirrored = dict(endpoint.mirror_traffic or {})
    wanted = wanted_traffic(definition.traffic, present, others, definition.deployment_name)
    wanted_mirrored = dict(definition.mirror_traffic) or mirrored
    if wanted == present and wanted_mirrored == mirrored:
        _log.info("endpoint %s: traffic stays %s", definition.endpoint_name, present or "at none")
        return
    endpoint.traffic, endpoint.mirror_traffic = wanted, wanted_mirrored
    what = f"endpoint {definition.endpoint_name}: traffic {wanted}"
    _log.info("%s", what)
    with asking(what):
        poller = client.online_endpoints.begin_create_or_update(endpoint)
    finish(poller, what, deadline)
