"""The AzureML workspace that a tool works in, and the SDK's client for it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aml_tool_core.azure import cloud, patience, sdk_output
from aml_tool_core.errors import InputError

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.core.credentials import TokenCredential

# AzureML sets these in every job.
_VARIABLES = {
    "subscription_id": "AZUREML_ARM_SUBSCRIPTION",
    "resource_group": "AZUREML_ARM_RESOURCEGROUP",
    "workspace_name": "AZUREML_ARM_WORKSPACE_NAME",
}


@dataclass(frozen=True)
class Workspace:
    """An AzureML workspace."""

    subscription_id: str
    resource_group: str
    workspace_name: str

    @property
    def resource_id(self) -> str:
        """The workspace's Resource Manager id."""
        return (
            f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{self.workspace_name}"
        )

    def deployment_resource_id(self, endpoint_name: str, deployment_name: str) -> str:
        """Return the Resource Manager id of one of its online deployments."""
        return f"{self.resource_id}/onlineEndpoints/{endpoint_name}/deployments/{deployment_name}"


def resolve(
    subscription_id: str | None = None, resource_group: str | None = None, workspace_name: str | None = None
) -> Workspace:
    """Return the workspace: what is given, else that of the running AzureML job. Raises InputError."""
    given = {"subscription_id": subscription_id, "resource_group": resource_group, "workspace_name": workspace_name}
    found = {key: value or os.environ.get(_VARIABLES[key], "") for key, value in given.items()}
    lacking = [key for key, value in found.items() if not value]
    if lacking:
        them = "them" if len(lacking) > 1 else "it"
        raise InputError(
            f"workspace: {', '.join(lacking)} not given; give {them}, or set "
            f"{', '.join(_VARIABLES[key] for key in lacking)} (an AzureML job has {them}, the local control plane's "
            f"`env` command prints {them})"
        )
    return Workspace(**found)


def client(workspace: Workspace, credential: TokenCredential, deadline: float | None = None) -> MLClient:
    """Return azure-ai-ml's client for the workspace, in the current cloud, without telemetry and progress bars.

    It waits for the service no longer than until `deadline`, a time of `time.monotonic()`.
    """
    # Before the import, for which azure-ai-ml reads the metadata itself: where it cannot, that ends in a traceback.
    name = cloud.current().name
    from azure.ai.ml import MLClient

    sdk_output.hush()
    return MLClient(
        credential,
        workspace.subscription_id,
        workspace.resource_group,
        workspace.workspace_name,
        cloud=name,
        show_progress=False,
        enable_telemetry=False,
        transport=patience.Transport(deadline),
        **patience.RETRIES,
    )
