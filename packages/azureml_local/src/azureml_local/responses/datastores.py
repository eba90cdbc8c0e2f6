"""Datastores: the two that every workspace has."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from azureml_local.cloud import STORAGE_SUFFIX
from azureml_local.exceptions import ResourceNotFoundError
from azureml_local.models.jobs import DEFAULT_DATASTORE
from azureml_local.models.store import Resource
from azureml_local.plane import Plane
from azureml_local.responses.envelope import resource_body, workspace_of
from azureml_local.responses.paths import WORKSPACE
from azureml_local.runtime.azurite import ACCOUNT, DATASTORE_ACCOUNT
from azureml_local.runtime.blobs import DATASTORE_CONTAINERS


def _datastore(plane: Plane, name: str) -> Resource:
    return Resource(
        id=f"{plane.workspace_id}/datastores/{name}",
        properties={
            "datastoreType": "AzureBlob",
            "isDefault": name == DEFAULT_DATASTORE,
            "accountName": f"127.0.0.1:{plane.settings.blob_port}/{ACCOUNT}",
            "containerName": DATASTORE_CONTAINERS[name],
            "endpoint": STORAGE_SUFFIX,
            "protocol": "https",
            "credentials": {"credentialsType": "AccountKey"},
            "tags": {},
            "properties": {},
        },
    )


def _name(request: Request) -> str:
    name: str = request.path_params["datastore"]
    if name.lower() not in DATASTORE_CONTAINERS:
        raise ResourceNotFoundError(f"The datastore '{name}' was not found.")
    return name.lower()


async def list_datastores(request: Request) -> JSONResponse:
    """List the datastores."""
    plane = workspace_of(request)
    found = [_datastore(plane, name) for name in DATASTORE_CONTAINERS]
    if request.query_params.get("isDefault", "").lower() == "true":
        found = found[:1]
    return JSONResponse({"value": [resource_body(entry) for entry in found]})


async def get_datastore(request: Request) -> JSONResponse:
    """Describe a datastore."""
    return JSONResponse(resource_body(_datastore(workspace_of(request), _name(request))))


async def list_secrets(request: Request) -> JSONResponse:
    """Hand out a signature for the datastore's container."""
    sas = workspace_of(request).blobs.sas(DATASTORE_ACCOUNT, DATASTORE_CONTAINERS[_name(request)])
    return JSONResponse({"secretsType": "Sas", "sasToken": sas})


ROUTES = [
    Route(f"{WORKSPACE}/datastores", list_datastores, methods=["GET"]),
    Route(f"{WORKSPACE}/datastores/{{datastore}}", get_datastore, methods=["GET"]),
    Route(f"{WORKSPACE}/datastores/{{datastore}}/listSecrets", list_secrets, methods=["POST"]),
]
