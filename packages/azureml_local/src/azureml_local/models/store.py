"""Everything that exists: resources, operations, keys and ports, on disk after every change."""

from __future__ import annotations

import datetime as dt
import json
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from azureml_local.exceptions import ConflictError, ResourceNotFoundError
from azureml_local.files import write_json
from azureml_local.home import free_port
from azureml_local.models.resource_ids import last_name, resource_type

STATE_VERSION = 1
OPERATION_KEPT = dt.timedelta(hours=1)


def now_text() -> str:
    """Return the present time as Azure writes it."""
    return dt.datetime.now(dt.timezone.utc).isoformat().replace("+00:00", "Z")


@dataclass
class Resource:
    """One resource as the API shows it, and what only the plane knows about it."""

    id: str
    properties: dict[str, Any]
    location: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    identity: dict[str, Any] | None = None
    sku: dict[str, Any] | None = None
    kind: str | None = None
    created_at: str = field(default_factory=now_text)
    modified_at: str = field(default_factory=now_text)
    # Never shown by the API.
    internal: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return last_name(self.id)

    @property
    def type(self) -> str:
        return resource_type(self.id)

    @property
    def provisioning_state(self) -> str:
        return str(self.properties.get("provisioningState", "Succeeded"))


@dataclass
class Operation:
    """A long-running operation."""

    id: str
    # What is done: "endpoint", "deployment", "delete-endpoint" or "delete-deployment".
    verb: str
    resource_id: str
    status: str = "InProgress"
    error: dict[str, str] | None = None
    started_at: str = field(default_factory=now_text)
    ended_at: str | None = None


@dataclass(frozen=True)
class EndpointKeys:
    """An endpoint's two keys."""

    primary: str
    secondary: str


def make_key() -> str:
    """Return a new endpoint key."""
    return secrets.token_urlsafe(36)


class Store:
    """The state; every change is written to disk before its verb returns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._resources: dict[str, Resource] = {}
        self._operations: dict[str, Operation] = {}
        self._keys: dict[str, EndpointKeys] = {}
        self._ports: dict[str, int] = {}
        if path.exists():
            document = json.loads(path.read_text())
            self._resources = {key: Resource(**entry) for key, entry in document["resources"].items()}
            self._operations = {key: Operation(**entry) for key, entry in document["operations"].items()}
            self._keys = {key: EndpointKeys(**entry) for key, entry in document["keys"].items()}
            self._ports = dict(document["ports"])

    def save(self) -> None:
        """Write the state to disk."""
        self._forget_old_operations()
        document = {
            "version": STATE_VERSION,
            "resources": {key: asdict(entry) for key, entry in self._resources.items()},
            "operations": {key: asdict(entry) for key, entry in self._operations.items()},
            "keys": {key: asdict(entry) for key, entry in self._keys.items()},
            "ports": self._ports,
        }
        write_json(self._path, document)

    def find(self, resource_id: str) -> Resource | None:
        """Return a resource, or None."""
        return self._resources.get(resource_id.lower())

    def get(self, resource_id: str) -> Resource:
        """Return a resource; raises ResourceNotFoundError."""
        found = self.find(resource_id)
        if found is None:
            kind = resource_type(resource_id)
            raise ResourceNotFoundError(f"The Resource '{kind}/{last_name(resource_id)}' was not found.")
        return found

    def put(self, resource: Resource) -> Resource:
        """Add or replace a resource."""
        present = self.find(resource.id)
        if present is not None:
            resource.created_at = present.created_at
        resource.modified_at = now_text()
        self._resources[resource.id.lower()] = resource
        self.save()
        return resource

    def children(self, collection_id: str) -> list[Resource]:
        """Return the direct members of a collection such as ``.../onlineEndpoints``, oldest first."""
        prefix = collection_id.lower().rstrip("/") + "/"
        members = (
            entry for key, entry in self._resources.items() if key.startswith(prefix) and "/" not in key[len(prefix) :]
        )
        return sorted(members, key=lambda entry: entry.created_at)

    def remove(self, resource_id: str) -> None:
        """Remove a resource with all below it, its keys and its port."""
        key = resource_id.lower()
        for table in (self._resources, self._keys, self._ports):
            for name in [name for name in table if name == key or name.startswith(f"{key}/")]:
                del table[name]
        self.save()

    def keys(self, endpoint: str) -> EndpointKeys:
        """Return an endpoint's keys, making them on first use."""
        key = endpoint.lower()
        if key not in self._keys:
            self.set_keys(endpoint, EndpointKeys(make_key(), make_key()))
        return self._keys[key]

    def set_keys(self, endpoint: str, keys: EndpointKeys) -> None:
        """Replace an endpoint's keys."""
        self._keys[endpoint.lower()] = keys
        self.save()

    def port(self, endpoint: str) -> int:
        """Return an endpoint's gateway port, choosing one on first use."""
        key = endpoint.lower()
        if key not in self._ports:
            taken = set(self._ports.values())
            port = free_port()
            while port in taken:
                port = free_port()
            self._ports[key] = port
            self.save()
        return self._ports[key]

    def check_idle(self, resource_id: str, *, overtaking: bool = False) -> None:
        """Raise ConflictError while an operation works on the resource.

        `overtaking`: a delete may overtake what is being made, but not another delete.
        """
        for operation in self.operations_in_progress():
            same = operation.resource_id.lower() == resource_id.lower()
            if same and not (overtaking and not operation.verb.startswith("delete-")):
                raise ConflictError(
                    f"{last_name(resource_id)}: an operation is already in progress; wait until it has ended."
                )

    def start_operation(self, verb: str, resource_id: str) -> Operation:
        """Begin an operation; raises ConflictError while another works on the same resource."""
        self.check_idle(resource_id, overtaking=verb.startswith("delete-"))
        prefix = "odidp" if "deployment" in verb else "oeidp"
        operation = Operation(id=f"{prefix}:{secrets.token_hex(16)}", verb=verb, resource_id=resource_id)
        self._operations[operation.id] = operation
        self.save()
        return operation

    def end_operation(
        self, operation: Operation, error: dict[str, str] | None = None, *, canceled: bool = False
    ) -> None:
        """Write an operation's outcome down."""
        operation.status = ("Canceled" if canceled else "Failed") if error else "Succeeded"
        operation.error = error
        operation.ended_at = now_text()
        self.save()

    def operation(self, operation_id: str) -> Operation:
        """Return an operation; raises ResourceNotFoundError."""
        found = self._operations.get(operation_id)
        if found is None:
            raise ResourceNotFoundError(f"The operation '{operation_id}' was not found.")
        return found

    def operations_in_progress(self) -> Iterator[Operation]:
        """Iterate over the operations that have not ended."""
        return (entry for entry in list(self._operations.values()) if entry.status == "InProgress")

    def _forget_old_operations(self) -> None:
        oldest = (dt.datetime.now(dt.timezone.utc) - OPERATION_KEPT).isoformat().replace("+00:00", "Z")
        ended = [key for key, entry in self._operations.items() if entry.ended_at and entry.ended_at < oldest]
        for key in ended:
            del self._operations[key]
