"""Versioned assets: codes, environments, models, data and components share their calls."""

from __future__ import annotations

import asyncio
import re
import uuid
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from azureml_local.exceptions import ConflictError, InvalidRequestError
from azureml_local.models.bodies import part
from azureml_local.models.store import Resource
from azureml_local.plane import Plane
from azureml_local.responses.envelope import body_of, in_view, resource_body, resource_list, workspace_of
from azureml_local.responses.paths import WORKSPACE
from azureml_local.runtime.azurite import ACCOUNT

# What the SDK reads without asking whether it is there.
ALWAYS_PRESENT: dict[str, dict[str, object]] = {"models": {"flavors": {}}}
# A version's content, which may not change once it exists.
CONTENT = {
    "models": ("modelUri",),
    "codes": ("codeUri",),
    "environments": ("image", "condaFile"),
    "data": ("dataUri",),
    "components": ("componentSpec",),
}
# What a container tells of its versions: told anew each time.
COMPUTED = ("latestVersion", "nextVersion")
NUMBER = re.compile(r"[0-9]{1,18}")


def _version_id(request: Request, kind: str) -> str:
    workspace, wanted = workspace_of(request).workspace_id, request.path_params
    return f"{workspace}/{kind}/{wanted['name']}/versions/{wanted['version']}"


def _routes_of(kind: str) -> list[Route]:
    def container_id(request: Request) -> str:
        return f"{workspace_of(request).workspace_id}/{kind}/{request.path_params['name']}"

    async def list_containers(request: Request) -> JSONResponse:
        plane = workspace_of(request)
        found = in_view(request, plane.store.children(f"{plane.workspace_id}/{kind}"))
        return JSONResponse({"value": [_container_body(plane, container) for container in found]})

    async def get_container(request: Request) -> JSONResponse:
        plane = workspace_of(request)
        return JSONResponse(_container_body(plane, plane.store.get(container_id(request))))

    async def put_container(request: Request) -> JSONResponse:
        plane, wanted_id = workspace_of(request), container_id(request)
        wanted = part(await body_of(request), "properties")
        kept = {name: value for name, value in wanted.items() if name not in COMPUTED and value is not None}
        present = plane.store.find(wanted_id)
        container = plane.store.put(Resource(id=wanted_id, properties={"isArchived": False, **kept}))
        return JSONResponse(_container_body(plane, container), status_code=200 if present else 201)

    async def list_versions(request: Request) -> JSONResponse:
        plane = workspace_of(request)
        name, query = request.path_params["name"], request.query_params
        collection = f"{plane.workspace_id}/{kind}"
        if "hash" in query:
            # The SDK asks with a name that it has just made up: what it looks for is the content, under any name.
            found = [
                entry
                for container in plane.store.children(collection)
                for entry in plane.store.children(f"{container.id}/versions")
                if _hash_of(entry) == query["hash"]
            ]
        else:
            found = in_view(request, plane.store.children(f"{collection}/{name}/versions"))
        if query.get("$orderBy", "").lower().startswith("createdtime desc"):
            found.reverse()
        if "$top" in query:
            found = found[: _count(query["$top"])]
        return resource_list(found)

    async def get_version(request: Request) -> JSONResponse:
        return JSONResponse(resource_body(workspace_of(request).store.get(_version_id(request, kind))))

    async def put_version(request: Request) -> JSONResponse:
        plane, asset_id = workspace_of(request), _version_id(request, kind)
        body = await body_of(request)
        wanted = part(body, "properties")
        part(wanted, "properties")  # read when versions are looked for by their content
        present = plane.store.find(asset_id)
        if present is not None:
            for name in CONTENT[kind]:
                if present.properties.get(name) != wanted.get(name):
                    raise ConflictError(
                        f"{asset_id} exists already with another {name}; register a new version instead.", "UserError"
                    )
        properties = {**ALWAYS_PRESENT.get(kind, {}), **wanted, "provisioningState": "Succeeded"}
        if plane.store.find(container_id(request)) is None:
            plane.store.put(Resource(id=container_id(request), properties={"isArchived": False}))
        resource = plane.store.put(Resource(id=asset_id, properties=properties))
        return JSONResponse(resource_body(resource), status_code=200 if present else 201)

    async def delete_version(request: Request) -> Response:
        plane, asset_id = workspace_of(request), _version_id(request, kind)
        if plane.store.find(asset_id) is None:
            return Response(status_code=204)
        plane.store.remove(asset_id)
        return Response(status_code=200)

    async def start_pending_upload(request: Request) -> JSONResponse:
        plane = workspace_of(request)
        container = f"{kind}-{uuid.uuid4().hex}"
        await asyncio.to_thread(plane.blobs.make_container, ACCOUNT, container)
        uri = f"{plane.blobs.root}/{ACCOUNT}/{container}"
        storage_id = (
            f"{plane.workspace_id.split('/providers/')[0]}/providers/Microsoft.Storage/storageAccounts/{ACCOUNT}"
        )
        return JSONResponse(
            {
                "pendingUploadId": str(uuid.uuid4()),
                "pendingUploadType": "TemporaryBlobReference",
                "blobReferenceForConsumption": {
                    "blobUri": uri,
                    "storageAccountArmId": storage_id,
                    "credential": {
                        "credentialType": "SAS",
                        "sasUri": f"{uri}?{plane.blobs.sas(ACCOUNT, container)}",
                    },
                },
            }
        )

    version = f"{WORKSPACE}/{kind}/{{name}}/versions/{{version}}"
    return [
        Route(f"{WORKSPACE}/{kind}", list_containers, methods=["GET"]),
        Route(f"{WORKSPACE}/{kind}/{{name}}", get_container, methods=["GET"]),
        Route(f"{WORKSPACE}/{kind}/{{name}}", put_container, methods=["PUT"]),
        Route(f"{WORKSPACE}/{kind}/{{name}}/versions", list_versions, methods=["GET"]),
        Route(version, get_version, methods=["GET"]),
        Route(version, put_version, methods=["PUT"]),
        Route(version, delete_version, methods=["DELETE"]),
        Route(f"{version}/startPendingUpload", start_pending_upload, methods=["POST"]),
    ]


def _container_body(plane: Plane, container: Resource) -> dict[str, Any]:
    """Return a container as the API shows it: with its latest version, and the one that a client without one takes."""
    versions = [entry.name for entry in plane.store.children(f"{container.id}/versions")]
    latest = {"latestVersion": versions[-1]} if versions else {}
    highest = max((int(version) for version in versions if NUMBER.fullmatch(version)), default=0)
    body = resource_body(container)
    body["properties"] = {**container.properties, **latest, "nextVersion": str(highest + 1)}
    return body


def _hash_of(resource: Resource) -> object:
    return (resource.properties.get("properties") or {}).get("hash_sha256")


def _count(text: str) -> int:
    if not text.isdigit():
        raise InvalidRequestError(f"$top must be a number, not {text!r}.")
    return int(text)


ROUTES = [route for kind in CONTENT for route in _routes_of(kind)]
