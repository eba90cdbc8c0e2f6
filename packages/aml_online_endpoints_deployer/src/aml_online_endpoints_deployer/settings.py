"""deployment_settings.json, from what Azure answered."""

from __future__ import annotations

from typing import Any

from aml_tool_core.azure.endpoint import machines
from aml_tool_core.azure.workspace import Workspace

from aml_online_endpoints_deployer.rollout import Deployed

FILE_NAME = "deployment_settings.json"
PARTIAL_NAME = "deployment_settings.partial.json"
SCHEMA = "deployment_settings"
MOVE = "traffic_moved"
_VERSION = "1.0"


def document(workspace: Workspace, deployed: Deployed) -> dict[str, Any]:
    """Return deployment_settings.json of a deployment; what Azure does not tell is left out."""
    runs_on = machines(deployed.deployment)
    told = {
        "sku": runs_on.sku,
        "location": deployed.endpoint.location,
        "instance_count": runs_on.instance_count,
        "worker_count": runs_on.worker_count,
        "max_concurrent_requests_per_instance": runs_on.max_concurrent_requests_per_instance,
    }
    names = _names(workspace, deployed.endpoint.name, deployed.deployment.name)
    names["deployment_settings"].update({key: value for key, value in told.items() if value is not None})
    return names


def partial(workspace: Workspace, endpoint_name: str, deployment_name: str, run: str) -> dict[str, Any]:
    """Return the part that is known before anything is created: enough for the deleter."""
    names = _names(workspace, endpoint_name, deployment_name)
    names["deployment_settings"]["run"] = run
    return names


def _names(workspace: Workspace, endpoint_name: str, deployment_name: str) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "deployment_settings": {
            "subscription_id": workspace.subscription_id,
            "resource_group": workspace.resource_group,
            "workspace_name": workspace.workspace_name,
            "endpoint_name": endpoint_name,
            "deployment_name": deployment_name,
        },
    }
