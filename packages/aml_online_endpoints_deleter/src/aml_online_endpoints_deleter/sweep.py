"""What the deployer has left: found by its marks, and by them alone.

An endpoint goes as a whole only where everything in it is the deployer's and is meant; else its deployments that are go
alone. What carries no mark of the deployer is never touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from aml_tool_core.azure import marks, removal
from aml_tool_core.azure.failures import NotFound, asking
from aml_tool_core.azure.removal import Outcome

if TYPE_CHECKING:
    from azure.ai.ml import MLClient


@dataclass(frozen=True)
class Wanted:
    """What is meant: all that is given must hold."""

    older_than: timedelta | None
    expired: bool
    tags: Mapping[str, str]

    def holds(self, entity: Any, now: datetime) -> bool:
        """Tell whether an endpoint or a deployment is meant; one without a mark of its time is not old."""
        if not marks.of_product(entity):
            return False
        deployed_at, expires_at = marks.deployed_at(entity), marks.expires_at(entity)
        if self.older_than is not None and (deployed_at is None or now - deployed_at < self.older_than):
            return False
        if self.expired and (expires_at is None or now < expires_at):
            return False
        return all(marks.has(entity, name, value) for name, value in self.tags.items())

    @property
    def words(self) -> str:
        """What is meant, for people."""
        said = [] if self.older_than is None else [f"is older than {self.older_than}"]
        said += ["has expired"] if self.expired else []
        said += [f"has the tag {name}={value}" for name, value in self.tags.items()]
        return " and ".join(said)


@dataclass(frozen=True)
class Orphan:
    """An endpoint, or a deployment of one, that is to go."""

    endpoint_name: str
    deployment_name: str | None
    marks: str  # when and by whom it was deployed, for people


def find(client: MLClient, wanted: Wanted, now: datetime) -> list[Orphan]:
    """Return what is to go: the deployments of each endpoint, then, where all of it goes, the endpoint."""
    with asking("endpoints of the workspace"):
        endpoints = list(client.online_endpoints.list())
    orphans = []
    for endpoint in endpoints:
        name = str(endpoint.name)
        try:
            with asking(f"endpoint {name}: deployments"):
                deployments = list(client.online_deployments.list(name))
        except NotFound:
            continue  # it has gone meanwhile
        meant = [one for one in deployments if wanted.holds(one, now)]
        orphans += [Orphan(name, str(one.name), _told(one)) for one in meant]
        if wanted.holds(endpoint, now) and len(meant) == len(deployments):
            orphans.append(Orphan(name, None, _told(endpoint)))
    return orphans


def tops(orphans: Iterable[Orphan]) -> list[Orphan]:
    """Return what has to be deleted for all of them to go: a deployment goes with its endpoint."""
    whole = {orphan.endpoint_name for orphan in orphans if orphan.deployment_name is None}
    return [orphan for orphan in orphans if orphan.deployment_name is None or orphan.endpoint_name not in whole]


def remove(client: MLClient, orphan: Orphan, wanted: Wanted, now: datetime, deadline: float) -> Outcome:
    """Delete it if it is still meant, and return when it is verified gone. Raises ToolError.

    Since it was listed, other deletions may have taken their minutes: somebody may have deployed to it again.
    """
    endpoint = removal.find_endpoint(client, orphan.endpoint_name)
    if endpoint is None:
        return Outcome.ABSENT
    with asking(f"endpoint {orphan.endpoint_name}: deployments"):
        deployments = list(client.online_deployments.list(orphan.endpoint_name))
    if orphan.deployment_name is None:
        if not all(wanted.holds(one, now) for one in (endpoint, *deployments)):
            return Outcome.LEFT
        return removal.remove_endpoint(client, orphan.endpoint_name, deadline)
    found = [one for one in deployments if one.name == orphan.deployment_name]
    if not found:
        return Outcome.ABSENT
    if not wanted.holds(found[0], now):
        return Outcome.LEFT
    return removal.remove_deployment(client, orphan.endpoint_name, orphan.deployment_name, deadline)


def _told(entity: Any) -> str:
    tags = marks.tags(entity)
    told = [f"deployed {tags.get(marks.DEPLOYED_AT, 'at an unknown time')}"]
    told += [f"expires {tags[marks.EXPIRES_AT]}"] if marks.EXPIRES_AT in tags else []
    told += [f"job {tags[marks.JOB]}"] if marks.JOB in tags else []
    return ", ".join(told)
