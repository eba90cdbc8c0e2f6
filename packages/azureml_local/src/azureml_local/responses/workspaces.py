"""Workspaces: the one that the first start made."""

from __future__ import annotations

import uuid

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from azureml_local.cloud import DISCOVERY_PATH
from azureml_local.models.resource_ids import WORKSPACE_TYPE
from azureml_local.responses.envelope import workspace_of
from azureml_local.responses.paths import WORKSPACE
from azureml_local.runtime.azurite import ACCOUNT

TENANT_ID = "00000000-0000-0000-0000-000000000002"


async def get_workspace(request: Request) -> JSONResponse:
    """Describe the workspace."""
    plane = workspace_of(request)
    settings = plane.settings
    group = f"/subscriptions/{settings.subscription_id}/resourceGroups/{settings.resource_group}"
    unique = str(uuid.uuid5(uuid.NAMESPACE_URL, plane.workspace_id))
    return JSONResponse(
        {
            "id": plane.workspace_id,
            "name": settings.workspace_name,
            "type": WORKSPACE_TYPE,
            "location": settings.location,
            "tags": {},
            "identity": {"type": "SystemAssigned", "principalId": unique, "tenantId": TENANT_ID},
            "sku": {"name": "Basic", "tier": "Basic"},
            "kind": "Default",
            "properties": {
                "workspaceId": unique,
                "friendlyName": settings.workspace_name,
                "provisioningState": "Succeeded",
                "discoveryUrl": f"{settings.arm_url}{DISCOVERY_PATH}",
                "mlFlowTrackingUri": f"azureml://127.0.0.1:{settings.arm_port}/mlflow/v1.0{plane.workspace_id}",
                "storageAccount": f"{group}/providers/Microsoft.Storage/storageAccounts/{ACCOUNT}",
                "publicNetworkAccess": "Enabled",
            },
        }
    )


ROUTES = [Route(WORKSPACE, get_workspace, methods=["GET"])]
