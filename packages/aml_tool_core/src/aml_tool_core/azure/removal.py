"""Remove online endpoints and deployments, and believe it only when Azure no longer knows them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

from aml_tool_core.azure import marks
from aml_tool_core.azure.failures import NotFound, OperationFailed, TimedOut, asking
from aml_tool_core.azure.operation import finish, pause_sec, settled, unhindered

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.core.polling import LROPoller

_log = logging.getLogger("aml_tool_core.azure")
_ASK_AGAIN_SEC = 2.0
_FULL_PERCENT = 100
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


def remove_deployment(client: MLClient, endpoint_name: str, deployment_name: str, deadline: float) -> Outcome:
    """Take a deployment's traffic away, remove it alone, and return when it is verified gone. Raises ToolError."""
    what = f"endpoint {endpoint_name}: deployment {deployment_name}: deletion"
    # While the endpoint changes, or is itself deleted, by another operation, its traffic cannot be set.
    endpoint = settled(lambda: find_endpoint(client, endpoint_name), f"endpoint {endpoint_name}", deadline)
    if endpoint is None or find_deployment(client, endpoint_name, deployment_name) is None:
        require_workspace(client)
        return Outcome.ABSENT
    take_traffic(client, endpoint_name, deployment_name, deadline)
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
) -> dict[str, Outcome]:
    """Remove what a run of the deployer created, known by its mark, and nothing else; return what became of each.

    The endpoint goes with all in it, unless something in it is not of that run, or it is not to go: then the deployment
    goes alone. Raises ToolError.
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
        outcomes[names[1]] = remove_deployment(client, endpoint_name, deployment_name, deadline)
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


def take_traffic(client: MLClient, endpoint_name: str, deployment_name: str, deadline: float) -> None:
    """Set a deployment's share of the traffic, live and mirrored, to 0 where it has any. Raises ToolError."""

    def take() -> None:
        endpoint: Any = find_endpoint(client, endpoint_name)
        if endpoint is None:
            return
        traffic, mirrored = dict(endpoint.traffic or {}), dict(endpoint.mirror_traffic or {})
        if not traffic.get(deployment_name) and not mirrored.get(deployment_name):
            return
        endpoint.traffic = without(traffic, deployment_name)
        endpoint.mirror_traffic = {name: share for name, share in mirrored.items() if name != deployment_name}
        what = f"endpoint {endpoint_name}: traffic {endpoint.traffic or 'to none'}"
        _log.info("%s (was %s)", what, traffic)
        with asking(what):
            poller = client.online_endpoints.begin_create_or_update(endpoint)
        finish(poller, what, deadline)

    what = f"endpoint {endpoint_name}"
    unhindered(take, lambda: find_endpoint(client, endpoint_name), what, deadline)


def without(traffic: Mapping[str, int], deployment_name: str) -> dict[str, int]:
    """Return the traffic shares without a deployment's; the others keep their proportions and fill its place.

    Azure takes shares that add up to 100 or to 0 only, so what the deployment had must go to the others where they have
    any; where they have none, nobody has any. Shares are whole percents: the largest remainders round up.
    """
    return shared_out({name: share for name, share in traffic.items() if name != deployment_name}, _FULL_PERCENT)


def shared_out(traffic: Mapping[str, int], percent: int) -> dict[str, int]:
    """Return so many percent shared out in the proportions of the traffic shares; nothing where nobody has any."""
    total = sum(traffic.values())
    if not total:
        return {}
    exact = {name: share * percent / total for name, share in traffic.items() if share > 0}
    shares = {name: int(share) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: exact[name] - shares[name], reverse=True)
    for name in by_remainder[: percent - sum(shares.values())]:
        shares[name] += 1
    return shares


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
        finish(poller, what, deadline)
    except NotFound:
        _log.info("%s: it went away by itself", what)
