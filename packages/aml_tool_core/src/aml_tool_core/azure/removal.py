"""Remove online endpoints and deployments, and believe it only when Azure no longer knows them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

from aml_tool_core.azure.failures import Conflict, NotFound, asking
from aml_tool_core.azure.operation import TimedOut, finish, settled

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.core.polling import LROPoller

_log = logging.getLogger("aml_tool_core.azure")
_ASK_AGAIN_SEC = 2.0
_FULL_PERCENT = 100


class Outcome(Enum):
    """What became of the thing that was to be removed."""

    REMOVED = "removed"
    ABSENT = "not there"


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
    take_traffic(client, endpoint, deployment_name, deadline)
    return _remove(
        lambda: client.online_deployments.begin_delete(deployment_name, endpoint_name),
        lambda: find_deployment(client, endpoint_name, deployment_name),
        what,
        deadline,
    )


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


def take_traffic(client: MLClient, endpoint: Any, deployment_name: str, deadline: float) -> None:
    """Set a deployment's share of the traffic, live and mirrored, to 0 where it has any. Raises ToolError."""
    traffic, mirrored = dict(endpoint.traffic or {}), dict(endpoint.mirror_traffic or {})
    if not traffic.get(deployment_name) and not mirrored.get(deployment_name):
        return
    endpoint.traffic = without(traffic, deployment_name)
    endpoint.mirror_traffic = {name: share for name, share in mirrored.items() if name != deployment_name}
    what = f"endpoint {endpoint.name}: traffic {endpoint.traffic or 'to none'}"
    _log.info("%s (was %s)", what, traffic)
    with asking(what):
        poller = client.online_endpoints.begin_create_or_update(endpoint)
    finish(poller, what, deadline)


def without(traffic: Mapping[str, int], deployment_name: str) -> dict[str, int]:
    """Return the traffic shares without a deployment's; the others keep their proportions and fill its place.

    Azure takes shares that add up to 100 or to 0 only, so what the deployment had must go to the others where they have
    any; where they have none, nobody has any. Shares are whole percents: the largest remainders round up.
    """
    others = {name: share for name, share in traffic.items() if name != deployment_name and share > 0}
    total = sum(others.values())
    if not total:
        return {}
    exact = {name: share * _FULL_PERCENT / total for name, share in others.items()}
    shares = {name: int(share) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: exact[name] - shares[name], reverse=True)
    for name in by_remainder[: _FULL_PERCENT - sum(shares.values())]:
        shares[name] += 1
    return shares


def _remove(
    begin: Callable[[], LROPoller[None]], find: Callable[[], Any | None], what: str, deadline: float
) -> Outcome:
    try:
        _delete(begin, what, deadline)
    except Conflict as conflict:
        # Something else is under way with it, perhaps its deletion: when that has ended there is nothing left to do, or
        # it can be tried once more.
        _log.info("%s: %s", what, conflict)
        if settled(find, what, deadline) is not None:
            _delete(begin, what, deadline)
    while find() is not None:
        if time.monotonic() >= deadline:
            raise TimedOut(f"{what}: Azure accepted it, but still knows the thing; look again later, or run again")
        time.sleep(_ASK_AGAIN_SEC)
    return Outcome.REMOVED


def _delete(begin: Callable[[], LROPoller[None]], what: str, deadline: float) -> None:
    try:
        with asking(what):
            poller = begin()
        finish(poller, what, deadline)
    except NotFound:
        _log.info("%s: it went away by itself", what)
