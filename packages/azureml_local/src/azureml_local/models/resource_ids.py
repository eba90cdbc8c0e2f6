"""Resource ids: built in one place, compared without regard to case as Azure does."""

from __future__ import annotations

PROVIDER = "Microsoft.MachineLearningServices"
WORKSPACE_TYPE = f"{PROVIDER}/workspaces"


def workspace_id(subscription_id: str, resource_group: str, workspace_name: str) -> str:
    """Return a workspace's resource id."""
    return (
        f"/subscriptions/{subscription_id}/resourceGroups/{resource_group}"
        f"/providers/{PROVIDER}/workspaces/{workspace_name}"
    )


def endpoint_id(workspace: str, endpoint: str) -> str:
    """Return an online endpoint's resource id."""
    return f"{workspace}/onlineEndpoints/{endpoint}"


def deployment_id(workspace: str, endpoint: str, deployment: str) -> str:
    """Return an online deployment's resource id."""
    return f"{endpoint_id(workspace, endpoint)}/deployments/{deployment}"


def last_name(resource_id: str) -> str:
    """Return the last segment of a resource id."""
    return resource_id.rstrip("/").rsplit("/", 1)[-1]


def resource_type(resource_id: str) -> str:
    """Return the type of a resource id, for example ``.../workspaces/onlineEndpoints``."""
    _, _, tail = resource_id.partition(f"/providers/{PROVIDER}/")
    return "/".join([PROVIDER, *tail.split("/")[::2]])
