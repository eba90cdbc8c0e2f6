"""Bring the endpoint and the deployment up, and take away again what this run brought.

What the run creates carries its mark. The marks, not the run's memory, decide what may be removed: a call whose answer
was lost, or another who was quicker, cannot mislead it, and a run that was killed is continued by the next.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aml_tool_core.azure import marks, removal, traffic
from aml_tool_core.azure.failures import Conflict, asking
from aml_tool_core.azure.operation import finish, settled, state_of, unhindered
from aml_tool_core.azure.removal import Outcome
from aml_tool_core.azure.traffic import Move, Shares
from aml_tool_core.errors import InputError, ToolError

from aml_online_endpoints_deployer.definition import Definition

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

_log = logging.getLogger("aml_online_endpoints_deployer")
_LOG_LINES = 50
_FULL_PERCENT = 100


@dataclass
class Made:
    """What this run set out to change. It is noted before the call, so that an interruption in it loses nothing."""

    run: str
    note_move: Callable[[Move], None]  # on disk
    move: Move | None = None
    endpoint: bool = False
    deployment: bool = False
    found: tuple[str, ...] = ()  # what was there before, for people


@dataclass(frozen=True)
class Deployed:
    """The endpoint and the deployment as Azure describes them, in azure-ai-ml's entities."""

    endpoint: Any
    deployment: Any


def deploy(client: MLClient, definition: Definition, made: Made, deadline: float, share: int | None = None) -> Deployed:
    """Create the endpoint where there is none, create or update the deployment, and set the traffic. Raises ToolError.

    `deadline` is a time of `time.monotonic()`; what this run creates is noted in `made`. `share` is the percentage of
    the traffic that the deployment gets, where the YAML does not say.
    """
    name = definition.endpoint_name
    endpoint = settled(lambda: removal.find_endpoint(client, name), f"endpoint {name}", deadline)
    others = set() if endpoint is None else _others(client, definition)
    _check_traffic(definition, others)
    if share is not None:
        present = {} if endpoint is None else dict(endpoint.traffic or {})
        wanted_share(share, present, others, definition.deployment_name)  # refused now rather than when all stands
    if endpoint is None:
        removal.require_workspace(client)
        made.endpoint = True
        _create_endpoint(client, definition, made, deadline)
    else:
        made.endpoint = marks.of_run(endpoint, made.run)
        made.found += () if made.endpoint else (f"endpoint {name}",)
        _tell_differences(definition, endpoint, made)
        if made.endpoint and state_of(endpoint) != "succeeded":
            _create_endpoint(client, definition, made, deadline)
    _create_deployment(client, definition, made, deadline)
    _set_traffic(client, definition, made, share, deadline)
    with asking(f"endpoint {definition.endpoint_name}"):
        return Deployed(
            client.online_endpoints.get(definition.endpoint_name),
            client.online_deployments.get(definition.deployment_name, definition.endpoint_name),
        )


def remove(client: MLClient, definition: Definition, made: Made, deadline: float) -> None:
    """Remove what this run created, and nothing else. Raises ToolError when something of it stands."""
    names = definition.endpoint_name, definition.deployment_name
    outcomes = removal.remove_run(client, *names, made.run, deadline, move=made.move)
    for what, outcome in outcomes.items():
        _log.info("%s: %s", what, "was there before, and stands" if outcome is Outcome.LEFT else outcome.value)
    made.endpoint = made.deployment = False


def wanted_traffic(
    asked: Mapping[str, int], present: Mapping[str, int], others: set[str], deployment_name: str
) -> dict[str, int]:
    """Return the traffic shares that are to be set: as asked; else all for the only deployment; else as they are."""
    if not asked and not others:
        return {deployment_name: _FULL_PERCENT}
    return {name: share for name, share in (asked or present).items() if share}


def wanted_share(share: int, present: Mapping[str, int], others: set[str], deployment_name: str) -> dict[str, int]:
    """Return the traffic shares of which the deployment has one, and the others the rest in their proportions.

    Raises InputError where there is nobody to take the rest: Azure takes shares that add up to 100 or to none.
    """
    rest = traffic.without({name: part for name, part in present.items() if name in others}, deployment_name)
    if share == _FULL_PERCENT:
        return {deployment_name: share}
    if not share:
        return rest
    if not rest:
        raise InputError(
            f"--traffic: {share}: no other deployment of the endpoint has traffic that could take the other "
            f"{_FULL_PERCENT - share} %; give 100 or 0, or say all shares in the endpoint YAML's `traffic`"
        )
    return {**traffic.shared_out(rest, _FULL_PERCENT - share), deployment_name: share}


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


def _create_endpoint(client: MLClient, definition: Definition, made: Made, deadline: float) -> None:
    what = f"endpoint {definition.endpoint_name}: creation"
    _log.info("%s", what)

    def find() -> Any | None:
        return removal.find_endpoint(client, definition.endpoint_name)

    def create_unless_another_did() -> None:
        # Azure has no creation that fails where something of the name is there: all that can be done is to look just
        # before each call. After a refusal, an earlier try's answer may have been lost, or another was quicker.
        found = find()
        if found is None or marks.of_run(found, made.run):
            with asking(what):
                poller = client.online_endpoints.begin_create_or_update(definition.endpoint)
            finish(poller, what, deadline)
        else:
            made.endpoint = False
            made.found += (f"endpoint {definition.endpoint_name}",)
            _tell_differences(definition, found, made)

    try:
        create_unless_another_did()
    except Conflict as conflict:
        _log.info("%s", conflict)
        settled(find, what, deadline)
        unhindered(create_unless_another_did, find, what, deadline)


def _tell_differences(definition: Definition, endpoint: Any, made: Made) -> None:
    since = ", created by this run when it was cut short" if made.endpoint else ""
    _log.info("endpoint %s is there already%s", definition.endpoint_name, since)
    asked, present = (definition.endpoint.auth_mode or "").lower(), (endpoint.auth_mode or "").lower()
    if asked != present:
        _log.warning("endpoint %s keeps its auth_mode %s; the YAML says %s", endpoint.name, present, asked)


def _create_deployment(client: MLClient, definition: Definition, made: Made, deadline: float) -> None:
    """Create or update the deployment, and note in `made` whether it is this run's."""
    name = f"endpoint {definition.endpoint_name}: deployment {definition.deployment_name}"
    tags = dict(definition.deployment.tags or {})

    def find() -> Any | None:
        return removal.find_deployment(client, definition.endpoint_name, definition.deployment_name)

    def create() -> None:
        # Looked at before each call: after a refusal, another may have made it.
        found = settled(find, name, deadline)
        made.deployment = found is None or marks.of_run(found, made.run)
        if not made.deployment and name not in made.found:
            made.found += (name,)
        definition.deployment.tags = tags if found is None else marks.updated(tags, found)
        what = f"{name}: {'creation' if found is None else 'update'}"
        _log.info("%s: uploading what is new of code, environment and model", what)
        with asking(what):
            poller = client.online_deployments.begin_create_or_update(definition.deployment)
        try:
            _log.info("%s: accepted", what)
            finish(poller, what, deadline)
        except ToolError:
            _show_container_log(client, definition)
            raise

    unhindered(create, find, name, deadline)


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


def _set_traffic(client: MLClient, definition: Definition, made: Made, share: int | None, deadline: float) -> None:
    def set_once() -> None:
        # Asked anew: somebody may have changed it while the deployment was made.
        others = _others(client, definition)
        with asking(f"endpoint {definition.endpoint_name}"):
            endpoint = client.online_endpoints.get(definition.endpoint_name)
        present = traffic.shares_of(endpoint)
        if share is None:
            live = wanted_traffic(definition.traffic, present.live, others, definition.deployment_name)
        else:
            live = wanted_share(share, present.live, others, definition.deployment_name)
        mirrored = {name: part for name, part in definition.mirror_traffic.items() if part}
        wanted = Shares(live, mirrored if definition.mirror_traffic else present.mirrored)
        if wanted == present:
            _log.info("endpoint %s: traffic stays %s", definition.endpoint_name, present.live or "at none")
            return
        # Noted first: where this run is undone, who has the traffic now is to have it again. Of a run that another
        # continues, and of a call whose answer was lost, the shares before the first count.
        made.move = Move(present if made.move is None else made.move.before, wanted)
        made.note_move(made.move)
        endpoint.traffic, endpoint.mirror_traffic = dict(wanted.live), dict(wanted.mirrored)
        what = f"endpoint {definition.endpoint_name}: traffic {endpoint.traffic}"
        _log.info("%s%s", what, f", mirrored {endpoint.mirror_traffic}" if wanted.mirrored else "")
        with asking(what):
            poller = client.online_endpoints.begin_create_or_update(endpoint)
        finish(poller, what, deadline)

    what = f"endpoint {definition.endpoint_name}: traffic"
    unhindered(set_once, lambda: removal.find_endpoint(client, definition.endpoint_name), what, deadline)
