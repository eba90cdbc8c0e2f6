"""The managed-identity endpoint, in the flavour of AzureML computes (MSI_ENDPOINT, MSI_SECRET)."""

from __future__ import annotations

import hmac

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from azureml_local import tokens
from azureml_local.cloud import IDENTITY_PATH
from azureml_local.responses.envelope import plane_of


async def get_token(request: Request) -> JSONResponse:
    """Issue a token for the resource that is asked for."""
    plane = plane_of(request)
    given = request.headers.get("secret", "")
    if not hmac.compare_digest(given.encode(), plane.secrets.identity_secret.encode()):
        return _refuse(401, "unauthorized", "The header 'secret' is missing or wrong.")
    resource = request.query_params.get("resource")
    if not resource:
        return _refuse(400, "invalid_request", "The query parameter 'resource' is missing.")
    token = tokens.issue(plane.secrets.signing_key, resource)
    return JSONResponse(
        {
            "access_token": token.value,
            "expires_on": str(token.expires_on),
            "resource": resource,
            "token_type": "Bearer",
            "client_id": request.query_params.get("clientid") or plane.settings.home_id,
        }
    )


def _refuse(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": message}}, status_code=status)


ROUTES = [Route(IDENTITY_PATH, get_token, methods=["GET"])]
