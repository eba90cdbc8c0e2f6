"""Datastores: the workspace's own blob store."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from azureml_local.exceptions import ResourceNotFoundError
from azureml_local.models.store import Resource
from azureml_local.plane import Plane
from azureml_local.responses.envelope import resource_body, workspace_of
from azureml_local.responses.metadata import STORAGE_SUFFIX
from azureml_local.responses.paths import WORKSPACE
from azureml_local.runtime.azurite import ACCOUNT, DATASTORE_ACCOUNT
from azureml_local.runtime.blobs import DATASTORE_CONTAINER

DEFAULT_DATASTORE = "workspaceblobstore"


def _datastore(plane: Plane) -> Resource:
    return Resource(
        id=f"{plane.workspace_id}/datastores/{DEFAULT_DATASTORE}",
        properties={
            "datastoreType": "AzureBlob",
            "isDefault": True,
            "accountName": f"127.0.0.1:{plane.settings.blob_port}/{ACCOUNT}",
            "containerName": DATASTORE_CONTAINER,
            "endpoint": STORAGE_SUFFIX,
            "protocol": "https",
            "credentials": {"credentialsType": "AccountKey"},
            "tags": {},
            "properties": {},
        },
    )


def _named(request: Request) -> Plane:
    plane = workspace_of(request)
    name = request.path_params["datastore"]
    if name.lower() != DEFAULT_DATASTORE:
        raise ResourceNotFoundError(f"The datastore '{name}' was not found.")
    return plane


async def list_datastores(request: Request) -> JSONResponse:
    """List the datastores."""
    return JSONResponse({"value": [resource_body(_datastore(workspace_of(request)))]})


async def get_datastore(request: Request) -> JSONResponse:
    """Describe a datastore."""
    return JSONResponse(resource_body(_datastore(_named(request))))


async def list_secrets(request: Request) -> JSONResponse:
    """Hand out a signature for the datastore's container."""
    sas = _named(request).blobs.sas(DATASTORE_ACCOUNT, DATASTORE_CONTAINER)
    return JSONResponse({"secretsType": "Sas", "sasToken": sas})


ROUTES = [
    Route(f"{WORKSPACE}/datastores", list_datastores, methods=["GET"]),
    Route(f"{WORKSPACE}/datastores/{{datastore}}", get_datastore, methods=["GET"]),
    Route(f"{WORKSPACE}/datastores/{{datastore}}/listSecrets", list_secrets, methods=["POST"]),
]
