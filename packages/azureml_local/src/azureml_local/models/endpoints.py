"""Online endpoints: their rules."""

from __future__ import annotations

import re
import uuid
from typing import Any

from azureml_local.exceptions import InvalidRequestError
from azureml_local.models.bodies import part
from azureml_local.models.resource_ids import last_name
from azureml_local.models.store import Resource, Store

# https://learn.microsoft.com/azure/machine-learning/how-to-manage-quotas#azure-machine-learning-online-endpoints-and-batch-endpoints
NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9-]{1,30}[a-zA-Z0-9]")
AUTH_MODES = {"key": "Key", "amltoken": "AMLToken", "aadtoken": "AADToken"}


def check_name(kind: str, name: str) -> None:
    """Refuse a name that Azure would refuse."""
    if not NAME.fullmatch(name):
        raise InvalidRequestError(
            f"The {kind} name '{name}' is invalid: 3 to 32 letters, digits and '-', "
            "beginning with a letter and ending with a letter or digit."
        )


def check_weights(what: str, weights: Any, known: set[str]) -> dict[str, int]:
    """Return traffic weights once they are numbers from 0 to 100, of known deployments, 0 or 100 in sum."""
    if not isinstance(weights, dict):
        raise InvalidRequestError(f"{what} must map deployment names to percentages.")
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int) or not 0 <= weight <= 100:
            raise InvalidRequestError(f"{what} of deployment '{name}' must be a whole number from 0 to 100.")
        if name not in known and weight > 0:
            raise InvalidRequestError(f"{what} names deployment '{name}', which the endpoint does not have.")
    if sum(weights.values()) not in (0, 100):
        raise InvalidRequestError(f"{what} must sum to 0 or 100, not {sum(weights.values())}.")
    return {name: weight for name, weight in weights.items() if name in known}


def put_endpoint(store: Store, resource_id: str, body: dict[str, Any], location: str) -> tuple[Resource, bool]:
    """Create or update an endpoint; says whether it is new."""
    check_name("endpoint", last_name(resource_id))
    wanted = part(body, "properties")
    mode = AUTH_MODES.get(str(wanted.get("authMode", "Key")).lower())
    if mode is None:
        raise InvalidRequestError(
            f"authMode '{wanted.get('authMode')}' is not one of {', '.join(AUTH_MODES.values())}."
        )
    present = store.find(resource_id)
    known = {entry.name for entry in store.children(f"{resource_id}/deployments")}
    if any(part(wanted, "mirrorTraffic").values()):
        raise InvalidRequestError("mirrorTraffic is not emulated by the local control plane.", "NotSupported")
    scoring_root = f"https://127.0.0.1:{store.port(resource_id)}"
    resource = Resource(
        id=present.id if present else resource_id,
        location=body.get("location") or location,
        tags=part(body, "tags"),
        identity=_identity(part(body, "identity"), present),
        kind="Managed",
        properties={
            "authMode": mode,
            "description": wanted.get("description"),
            "traffic": check_weights("traffic", wanted.get("traffic") or {}, known),
            "mirrorTraffic": {},
            "publicNetworkAccess": wanted.get("publicNetworkAccess") or "Enabled",
            "properties": part(wanted, "properties"),
            "provisioningState": "Updating" if present else "Creating",
            "scoringUri": f"{scoring_root}/score",
            "swaggerUri": f"{scoring_root}/swagger.json",
        },
    )
    store.keys(resource_id)
    return store.put(resource), present is None


def _identity(wanted: dict[str, Any], present: Resource | None) -> dict[str, Any]:
    kept = (present.identity or {}) if present else {}
    identity = dict(wanted or {"type": "SystemAssigned"})
    identity["principalId"] = kept.get("principalId") or str(uuid.uuid4())
    identity["tenantId"] = kept.get("tenantId") or "00000000-0000-0000-0000-000000000002"
    return identity
