"""Who the tools are to Azure: a given token, a compute's managed identity, or a developer's login."""

from __future__ import annotations

import base64
import binascii
import json
import os
import time
from typing import TYPE_CHECKING, Any

from azure.core.credentials import AccessToken, AccessTokenInfo

from aml_tool_core import logs
from aml_tool_core.azure import cloud
from aml_tool_core.errors import ToolError

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

# AzureML sets it on computes with a user-assigned identity; no SDK reads it.
CLIENT_ID_VARIABLE = "DEFAULT_IDENTITY_CLIENT_ID"
_MANAGED_IDENTITY_VARIABLE = "MSI_ENDPOINT"
_SERVICE_PRINCIPAL_VARIABLE = "AZURE_TENANT_ID"  # a service principal and a workload identity come with it
_OPAQUE_TOKEN_LIFE_SEC = 3600
_NEW_TOKEN = (
    "get a new one (az account get-access-token), or give the compute's identity a role and leave the token out"
)


def credential(identity_access_token: str | None = None, deadline: float | None = None) -> TokenCredential:
    """Return the credential for a given token, else the compute's managed identity, else the developer's login.

    It waits for the token service no longer than until `deadline`, a time of `time.monotonic()`, and never for a single
    wait beyond all measure. When it is asked for a token it raises ToolError where the given one has expired.
    """
    if identity_access_token is not None:
        logs.hide(identity_access_token)
        return _StaticCredential(identity_access_token)
    from azure.identity import DefaultAzureCredential, ManagedIdentityCredential

    from aml_tool_core.azure import patience

    client_id = os.environ.get(CLIENT_ID_VARIABLE) or None
    if _MANAGED_IDENTITY_VARIABLE in os.environ and _SERVICE_PRINCIPAL_VARIABLE not in os.environ:
        # A compute: to go on looking for az, azd and pwsh when its identity is refused would only blur the error.
        return ManagedIdentityCredential(client_id=client_id, transport=patience.Transport(deadline))
    return DefaultAzureCredential(
        authority=cloud.current().authority,
        managed_identity_client_id=client_id,
        transport=patience.Transport(deadline),
    )


class _StaticCredential:
    """A token that was handed in: it is used as it is, for every scope, until it expires."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._expires_on = _expiry(token)

    def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        self._check()
        return AccessToken(self._token, self._expires_on)

    def get_token_info(self, *_scopes: str, **_options: Any) -> AccessTokenInfo:
        self._check()
        return AccessTokenInfo(self._token, self._expires_on)

    def _check(self) -> None:
        if self._expires_on <= time.time():
            when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._expires_on))
            raise ToolError(f"identity_access_token: expired at {when}; {_NEW_TOKEN}")


def _expiry(token: str) -> int:
    """Return when a JSON web token expires (its `exp`, RFC 7519 section 4.1.4), seconds; an hour from now if opaque."""
    parts = token.split(".")
    opaque = int(time.time()) + _OPAQUE_TOKEN_LIFE_SEC
    if len(parts) != 3:
        return opaque
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return int(claims["exp"])
    except (binascii.Error, ValueError, KeyError, TypeError, OverflowError):
        return opaque
