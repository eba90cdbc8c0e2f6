"""Online endpoints."""

from __future__ import annotations

import datetime as dt

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from azureml_local import tokens
from azureml_local.exceptions import InvalidRequestError
from azureml_local.models.endpoints import put_endpoint as put_endpoint_resource
from azureml_local.models.store import EndpointKeys, Resource, make_key
from azureml_local.responses.envelope import accepted, body_of, resource_body, resource_list, workspace_of
from azureml_local.responses.paths import ENDPOINT, WORKSPACE

# The clients ask for a new token once this much of its time is over.
REFRESH_AFTER = 0.9


def _endpoint(request: Request) -> Resource:
    plane = workspace_of(request)
    return plane.store.get(plane.endpoint_id(request.path_params["endpoint"]))


async def list_endpoints(request: Request) -> JSONResponse:
    """List the endpoints."""
    return resource_list(workspace_of(request).endpoints())


async def get_endpoint(request: Request) -> JSONResponse:
    """Describe an endpoint."""
    return JSONResponse(resource_body(_endpoint(request)))


async def put_endpoint(request: Request) -> Response:
    """Create or update an endpoint."""
    plane = workspace_of(request)
    resource_id = plane.endpoint_id(request.path_params["endpoint"])
    body = await body_of(request)
    plane.store.check_idle(resource_id)
    resource, created = put_endpoint_resource(plane.store, resource_id, body, plane.settings.location)
    return accepted(plane, plane.apply_endpoint(resource), resource, created=created)


async def delete_endpoint(request: Request) -> Response:
    """Delete an endpoint with its deployments."""
    plane = workspace_of(request)
    resource = plane.store.find(plane.endpoint_id(request.path_params["endpoint"]))
    if resource is None:
        return Response(status_code=204)
    return accepted(plane, plane.delete_endpoint(resource))


async def list_keys(request: Request) -> JSONResponse:
    """Hand out the keys."""
    endpoint = _endpoint(request)
    if endpoint.properties["authMode"] != "Key":
        raise InvalidRequestError(f"The endpoint's auth mode is {endpoint.properties['authMode']}: it has no keys.")
    keys = workspace_of(request).store.keys(endpoint.id)
    return JSONResponse({"primaryKey": keys.primary, "secondaryKey": keys.secondary})


async def regenerate_keys(request: Request) -> Response:
    """Replace one key."""
    plane, endpoint = workspace_of(request), _endpoint(request)
    body = await body_of(request)
    kind = str(body.get("keyType", "")).lower()
    keys, new = plane.store.keys(endpoint.id), body.get("keyValue")
    # The SDK's begin_regenerate_keys sends the present key along, and means a new one all the same.
    if not new or new in (keys.primary, keys.secondary):
        new = make_key()
    if not isinstance(new, str) or not new.isascii() or not new.isprintable() or " " in new:
        raise InvalidRequestError("keyValue must be printable ASCII without spaces.")
    plane.store.check_idle(endpoint.id)
    if kind == "primary":
        plane.store.set_keys(endpoint.id, EndpointKeys(new, keys.secondary))
    elif kind == "secondary":
        plane.store.set_keys(endpoint.id, EndpointKeys(keys.primary, new))
    else:
        raise InvalidRequestError(f"keyType must be Primary or Secondary, not {body.get('keyType')!r}.")
    return accepted(plane, plane.apply_endpoint(endpoint))


async def get_token(request: Request) -> JSONResponse:
    """Issue a token for an endpoint whose auth mode is aml_token."""
    plane, endpoint = workspace_of(request), _endpoint(request)
    if endpoint.properties["authMode"] != "AMLToken":
        raise InvalidRequestError(f"The endpoint's auth mode is {endpoint.properties['authMode']}, not AMLToken.")
    token = tokens.issue(plane.secrets.signing_key, tokens.scoring_audience(endpoint.id))
    now = int(dt.datetime.now(dt.timezone.utc).timestamp())
    return JSONResponse(
        {
            "accessToken": token.value,
            "expiryTimeUtc": token.expires_on,
            "refreshAfterTimeUtc": now + int((token.expires_on - now) * REFRESH_AFTER),
            "tokenType": "Bearer",
        }
    )


ROUTES = [
    Route(f"{WORKSPACE}/onlineEndpoints", list_endpoints, methods=["GET"]),
    Route(ENDPOINT, get_endpoint, methods=["GET"]),
    Route(ENDPOINT, put_endpoint, methods=["PUT"]),
    Route(ENDPOINT, delete_endpoint, methods=["DELETE"]),
    Route(f"{ENDPOINT}/listKeys", list_keys, methods=["POST"]),
    Route(f"{ENDPOINT}/regenerateKeys", regenerate_keys, methods=["POST"]),
    Route(f"{ENDPOINT}/token", get_token, methods=["POST"]),
]
