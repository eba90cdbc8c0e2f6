"""Computes: clusters by name and size; all of them are this machine, and their node count bounds the jobs at a time."""

from __future__ import annotations

import re
import uuid
from typing import Any

from azureml_local.exceptions import InvalidRequestError, ResourceNotFoundError
from azureml_local.models.resource_ids import last_name
from azureml_local.models.store import Resource, Store
from azureml_local.models.vm_sizes import find_vm_size

# https://learn.microsoft.com/azure/machine-learning/how-to-create-attach-compute-cluster
NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{1,30}[A-Za-z0-9]")
SERVERLESS = "serverless"


def put_compute(store: Store, resource_id: str, body: dict[str, Any], location: str) -> tuple[Resource, bool]:
    """Check and create or update a cluster; says whether it is new."""
    name = last_name(resource_id)
    if not NAME.fullmatch(name):
        raise InvalidRequestError(
            f"The compute name '{name}' is invalid: 3 to 32 letters, digits and '-', beginning with a letter."
        )
    wanted = body.get("properties") or {}
    if str(wanted.get("computeType")).lower() != "amlcompute":
        raise InvalidRequestError("The compute's type must be amlcompute: nothing else is emulated.", "NotSupported")
    details = dict(wanted.get("properties") or {})
    size = find_vm_size(str(details.get("vmSize") or "Standard_DS3_v2"))
    if size is None:
        raise InvalidRequestError(f"The size '{details.get('vmSize')}' is not a known VM size.")
    scale = {"minNodeCount": 0, "maxNodeCount": 1, **(details.get("scaleSettings") or {})}
    if not isinstance(scale["maxNodeCount"], int) or scale["maxNodeCount"] < 1:
        raise InvalidRequestError("max_instances must be at least 1: with none, no job would ever run.")
    details |= {"vmSize": size.name, "scaleSettings": scale, "allocationState": "Steady"}
    present = store.find(resource_id)
    identity = dict(body.get("identity") or {"type": "None"})
    if "SystemAssigned" in str(identity.get("type")):
        kept = (present.identity or {}) if present else {}
        identity["principalId"] = kept.get("principalId") or str(uuid.uuid4())
        identity["tenantId"] = "00000000-0000-0000-0000-000000000002"
    resource = Resource(
        id=present.id if present else resource_id,
        location=body.get("location") or location,
        tags=body.get("tags") or {},
        identity=identity,
        properties={
            "computeType": "AmlCompute",
            "computeLocation": location,
            "description": wanted.get("description"),
            "properties": details,
            "provisioningState": "Succeeded",
        },
    )
    return store.put(resource), present is None


def capacity(store: Store, collection_id: str, name: str) -> int:
    """Return how many jobs a cluster runs at a time; raises ResourceNotFoundError with the remedy."""
    compute = store.find(f"{collection_id}/{name}")
    if compute is None:
        raise ResourceNotFoundError(
            f"The compute '{name}' was not found; create it first, as on Azure: "
            f"az ml compute create --name {name} --type amlcompute --size Standard_F4s_v2"
        )
    return int(compute.properties["properties"]["scaleSettings"]["maxNodeCount"])
