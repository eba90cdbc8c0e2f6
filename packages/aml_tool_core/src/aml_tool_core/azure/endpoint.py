"""What a profiler needs to know of an online endpoint: where to send requests, with what headers, to what machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aml_tool_core import logs
from aml_tool_core.azure import sdk_output
from aml_tool_core.azure.failures import asking

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

DEPLOYMENT_HEADER = "azureml-model-deployment"
MODEL_HASH_TAG = "model_sha256"


@dataclass(frozen=True)
class Machines:
    """What a deployment runs on, as the service tells it; None where it does not."""

    sku: str | None
    instance_count: int | None
    worker_count: int
    max_concurrent_requests_per_instance: int | None


@dataclass(frozen=True)
class EndpointTarget:
    """An online endpoint, and one deployment of it, as a target for requests."""

    scoring_uri: str
    headers: Mapping[str, str] = field(repr=False)  # Authorization is among them
    location: str | None
    endpoint_id: str | None
    deployment_name: str | None
    deployment_id: str | None
    machines: Machines | None  # None when no deployment was named and the endpoint has not exactly one
    model_sha256: str | None


def endpoint_target(client: MLClient, endpoint_name: str, deployment_name: str | None = None) -> EndpointTarget:
    """Ask the endpoint for its URI, its key or token (by its auth_mode) and its deployment's machines.

    Without a name the endpoint's only deployment is described, and requests go by the endpoint's traffic rule.
    Raises ToolError: NotFound where the endpoint or the deployment is not there.
    """
    with sdk_output.diverted():
        with asking(f"endpoint {endpoint_name}"):
            endpoint = client.online_endpoints.get(endpoint_name)
        with asking(f"endpoint {endpoint_name}: credentials"):
            secret = _secret(client.online_endpoints.get_keys(endpoint_name))
        deployment = _deployment(client, endpoint_name, deployment_name)
    headers = {"Authorization": f"Bearer {secret}"}
    if deployment_name is not None:
        headers[DEPLOYMENT_HEADER] = deployment_name
    tags = (deployment.tags or {}) if deployment is not None else {}
    return EndpointTarget(
        scoring_uri=str(endpoint.scoring_uri),
        headers=headers,
        location=endpoint.location,
        endpoint_id=endpoint.id,
        deployment_name=None if deployment is None else deployment.name,
        deployment_id=None if deployment is None else deployment.id,
        machines=None if deployment is None else machines(deployment),
        model_sha256=tags.get(MODEL_HASH_TAG),
    )


def machines(deployment: Any) -> Machines:
    """Read what a deployment runs on from the SDK's entity."""
    settings = deployment.request_settings
    concurrency = getattr(settings, "max_concurrent_requests_per_instance", None)
    return Machines(
        sku=deployment.instance_type or None,
        instance_count=None if deployment.instance_count is None else int(deployment.instance_count),
        worker_count=_worker_count(deployment.environment_variables or {}),
        max_concurrent_requests_per_instance=None if concurrency is None else int(concurrency),
    )


def _worker_count(variables: Mapping[str, Any]) -> int:
    """WORKER_COUNT is the scoring server's own variable; it starts one process without it."""
    text = str(variables.get("WORKER_COUNT", ""))
    return int(text) if text.isdecimal() and int(text) >= 1 else 1


def _deployment(client: MLClient, endpoint_name: str, deployment_name: str | None) -> Any | None:
    if deployment_name is not None:
        with asking(f"endpoint {endpoint_name}: deployment {deployment_name}"):
            return client.online_deployments.get(deployment_name, endpoint_name)
    with asking(f"endpoint {endpoint_name}: deployments"):
        found = list(client.online_deployments.list(endpoint_name))
    return found[0] if len(found) == 1 else None


def _secret(keys: Any) -> str:
    """Return the primary key (auth_mode key) or the token (aml_token, aad_token), hidden from logs."""
    secret = getattr(keys, "primary_key", None) or getattr(keys, "access_token", None)
    assert isinstance(secret, str), "azure-ai-ml returned neither a key nor a token"
    logs.hide(secret)
    logs.hide(getattr(keys, "secondary_key", None))
    return secret
