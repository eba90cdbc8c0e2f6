"""Cloud metadata, with which the SDK finds everything else; served without a token, as in Azure."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from azureml_local.cloud import CLOUD_NAME, METADATA_PATH, STORAGE_SUFFIX
from azureml_local.responses.envelope import plane_of


async def get_metadata(request: Request) -> JSONResponse:
    """Describe this cloud."""
    root = f"{plane_of(request).settings.arm_url}/"
    cloud = {
        "name": CLOUD_NAME,
        "portal": root,
        "resourceManager": root,
        "authentication": {
            "loginEndpoint": root,
            "audiences": [root],
            "tenant": "common",
            "identityProvider": "AAD",
        },
        "suffixes": {"storage": STORAGE_SUFFIX, "keyVaultDns": f"vault.{STORAGE_SUFFIX}"},
    }
    return JSONResponse([cloud])


ROUTES = [Route(METADATA_PATH, get_metadata, methods=["GET"])]
