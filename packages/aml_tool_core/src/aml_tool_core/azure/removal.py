"""Remove online endpoints and deployments, and believe it only when Azure no longer knows them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any

from aml_tool_core.azure import marks, traffic
from aml_tool_core.azure.failures import NotFound, OperationFailed, TimedOut, asking
from aml_tool_core.azure.operation import finish, pause_sec, settled, unhindered
from aml_tool_core.azure.traffic import Move
from aml_tool_core.errors import Interrupted

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.core.polling import LROPoller

_log = logging.getLogger("aml_tool_core.azure")
_ASK_AGAIN_SEC = 2.0
_MOST_TRIES = 3


class Outcome(Enum):
    """What became of the thing that was to be removed."""

    REMOVED = "removed"
    ABSENT = "not there"
    LEFT = "not of that run, and left as it is"


def remove_endpoint(client: MLClient, endpoint_name: str, deadline: float) -> Outcome:
    """Remove an endpoint with all its deployments; return when it is verified gone.

    `deadline` is a time of `time.monotonic()`. Raises ToolError.
    """
    what = f"endpoint {endpoint_name}: deletion"
    if find_endpoint(client, endpoint_name) is None:
        require_workspace(client)
        return Outcome.ABSENT
    return _remove(
        lambda: client.online_endpoints.begin_delete(endpoint_name),
        lambda: find_endpoint(client, endpoint_name),
        what,
        deadline,
    )


def remove_deployment(
    client: MLClient, endpoint_name: str, deployment_name: str, deadline: float, move: Move | None = None
) -> Outcome:
    """Take a deployment's traffic away, remove it alone, and return when it is verified gone.

    `move` is what the run that is undone did to the traffic. Raises ToolError.
    """
    what = f"endpoint {endpoint_name}: deployment {deployment_name}: deletion"
    # While the endpoint changes, or is itself deleted, by another operation, its traffic cannot be set.
    endpoint = settled(lambda: find_endpoint(client, endpoint_name), f"endpoint {endpoint_name}", deadline)
    if endpoint is None or find_deployment(client, endpoint_name, deployment_name) is None:
        require_workspace(client)
        return Outcome.ABSENT
    take_traffic(client, endpoint_name, deployment_name, deadline, move)
    return _remove(
        lambda: client.online_deployments.begin_delete(deployment_name, endpoint_name),
        lambda: find_deployment(client, endpoint_name, deployment_name),
        what,
        deadline,
    )


def remove_run(
    client: MLClient,
    endpoint_name: str,
    deployment_name: str,
    run: str,
    deadline: float,
    *,
    endpoint_too: bool = True,
    move: Move | None = None,
) -> dict[str, Outcome]:
    """Remove what a run of the deployer created, known by its mark, and nothing else; return what became of each.

    The endpoint goes with all in it, unless something in it is not of that run, or it is not to go: then the deployment
    goes alone, and the traffic is as it was before the run's `move`. Raises ToolError.
    """
    names = f"endpoint {endpoint_name}", f"endpoint {endpoint_name}: deployment {deployment_name}"
    endpoint = find_endpoint(client, endpoint_name)
    if endpoint is None:
        require_workspace(client)
        return {names[0]: Outcome.ABSENT}
    with asking(f"{names[0]}: deployments"):
        deployments = list(client.online_deployments.list(endpoint_name))
    if endpoint_too and marks.of_run(endpoint, run) and all(marks.of_run(one, run) for one in deployments):
        return {names[0]: remove_endpoint(client, endpoint_name, deadline)}
    outcomes = {names[0]: Outcome.LEFT} if endpoint_too else {}
    deployment = next((one for one in deployments if one.name == deployment_name), None)
    if deployment is None:
        outcomes[names[1]] = Outcome.ABSENT
    elif marks.of_run(deployment, run):
        outcomes[names[1]] = remove_deployment(client, endpoint_name, deployment_name, deadline, move)
    else:
        outcomes[names[1]] = Outcome.LEFT
    return outcomes


def require_workspace(client: MLClient) -> None:
    """Raise ToolError where the workspace itself is not there: a wrong name must not pass for a thing that is gone."""
    name = str(client.workspace_name)
    with asking(f"workspace {name}"):
        client.workspaces.get(name)


def find_endpoint(client: MLClient, endpoint_name: str) -> Any | None:
    """Return the SDK's entity of an endpoint, None where Azure does not know it. Raises ToolError."""
    try:
        with asking(f"endpoint {endpoint_name}"):
            return client.online_endpoints.get(endpoint_name)
    except NotFound:
        return None


def find_deployment(client: MLClient, endpoint_name: str, deployment_name: str) -> Any | None:
    """Return the SDK's entity of a deployment, None where Azure does not know it. Raises ToolError."""
    try:
        with asking(f"endpoint {endpoint_name}: deployment {deployment_name}"):
            return client.online_deployments.get(deployment_name, endpoint_name)
    except NotFound:
        return None


def take_traffic(
    client: MLClient, endpoint_name: str, deployment_name: str, deadline: float, move: Move | None = None
) -> None:
    """Set a deployment's share of the traffic, live and mirrored, to 0 where it has any.

    What a run moved is put back as it was. Raises ToolError.
    """

    def take() -> None:
        endpoint: Any = find_endpoint(client, endpoint_name)
        if endpoint is None:
            return
        present = traffic.shares_of(endpoint)
        standing: set[str] = set()
        if move is not None:
            with asking(f"endpoint {endpoint_name}: deployments"):
                standing = {str(one.name) for one in client.online_deployments.list(endpoint_name)}
        wanted = traffic.released(present, deployment_name, move, standing)
        if wanted == present:
            return
        endpoint.traffic, endpoint.mirror_traffic = dict(wanted.live), dict(wanted.mirrored)
        what = f"endpoint {endpoint_name}: traffic {endpoint.traffic or 'to none'}"
        _log.info("%s (was %s)", what, present.live)
        with asking(what):
            poller = client.online_endpoints.begin_create_or_update(endpoint)
        finish(poller, what, deadline)

    what = f"endpoint {endpoint_name}"
    unhindered(take, lambda: find_endpoint(client, endpoint_name), what, deadline)


def _remove(
    begin: Callable[[], LROPoller[None]], find: Callable[[], Any | None], what: str, deadline: float
) -> Outcome:
    for tries in range(1, _MOST_TRIES + 1):
        try:
            # Something else may be under way with it, perhaps its deletion: when that has ended there is nothing left
            # to do, or it can be tried once more.
            unhindered(lambda: _delete(begin, find, what, deadline), find, what, deadline)
            break
        except OperationFailed as failure:
            # It may have failed half-way; what is left can go in another try.
            if find() is None:
                break
            if tries == _MOST_TRIES or time.monotonic() >= deadline:
                raise
            _log.warning("%s; trying again", failure)
            time.sleep(pause_sec(tries))
    while find() is not None:
        if time.monotonic() >= deadline:
            raise TimedOut(f"{what}: Azure accepted it, but still knows the thing; look again later, or run again")
        time.sleep(_ASK_AGAIN_SEC)
    return Outcome.REMOVED


def _delete(begin: Callable[[], LROPoller[None]], find: Callable[[], Any | None], what: str, deadline: float) -> None:
    if find() is None:
        return
    try:
        with asking(what):
            poller = begin()
        _log.info("%s: accepted", what)
        finish(poller, what, deadline)
    except Interrupted as stop:
        stop.left = f"{what}: may go on in Azure without this tool; run it again to see"
        raise
    except NotFound:
        _log.info("%s: it went away by itself", what)
