"""Online deployments: their rules, and the specification that the runtime carries out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from azureml_local.exceptions import InvalidRequestError
from azureml_local.models.bodies import part
from azureml_local.models.durations import parse_duration_sec
from azureml_local.models.endpoints import check_name
from azureml_local.models.resource_ids import last_name
from azureml_local.models.store import Resource, Store
from azureml_local.models.vm_sizes import VmSize, find_vm_size

# Defaults and limits of request_settings:
# https://learn.microsoft.com/azure/machine-learning/reference-yaml-deployment-managed-online#requestsettings
DEFAULT_REQUEST_SETTINGS = {
    "maxConcurrentRequestsPerInstance": 1,
    "requestTimeout": "PT5S",
    "maxQueueWait": "PT0.5S",
}
LONGEST_REQUEST_TIMEOUT_SEC = 180.0
DEFAULT_PROBE = {
    "initialDelay": "PT10S",
    "period": "PT10S",
    "timeout": "PT2S",
    "successThreshold": 1,
    "failureThreshold": 30,
}
MOST_INSTANCES = 32


@dataclass(frozen=True)
class Probe:
    """A readiness or liveness probe."""

    initial_delay_sec: float
    period_sec: float
    timeout_sec: float
    success_threshold: int
    failure_threshold: int


@dataclass(frozen=True)
class DeploymentSpec:
    """What a deployment asks for, checked."""

    id: str
    endpoint_name: str
    name: str
    code_id: str
    scoring_script: str
    environment_id: str
    model_id: str | None
    environment_variables: tuple[tuple[str, str], ...]
    size: VmSize
    instance_count: int
    max_concurrent_requests_per_instance: int
    request_timeout_sec: float
    max_queue_wait_sec: float
    readiness: Probe
    liveness: Probe


def put_deployment(store: Store, resource_id: str, body: dict[str, Any], location: str) -> tuple[Resource, bool]:
    """Check and create or update a deployment; says whether it is new."""
    check_name("deployment", last_name(resource_id))
    wanted = part(body, "properties")
    present = store.find(resource_id)
    properties = {
        **{key: value for key, value in wanted.items() if value is not None},
        "environmentVariables": part(wanted, "environmentVariables"),
        "requestSettings": _with_defaults(DEFAULT_REQUEST_SETTINGS, part(wanted, "requestSettings")),
        "livenessProbe": _with_defaults(DEFAULT_PROBE, part(wanted, "livenessProbe")),
        "readinessProbe": _with_defaults(DEFAULT_PROBE, part(wanted, "readinessProbe")),
        "scaleSettings": part(wanted, "scaleSettings") or {"scaleType": "Default"},
        "endpointComputeType": wanted.get("endpointComputeType") or "Managed",
        "provisioningState": "Updating" if present else "Creating",
    }
    resource = Resource(
        id=present.id if present else resource_id,
        location=body.get("location") or location,
        tags=part(body, "tags"),
        kind="Managed",
        sku=_with_defaults({"name": "Default", "capacity": 1}, part(body, "sku")),
        properties=properties,
        internal=dict(present.internal) if present else {},
    )
    spec = parse_spec(resource.id, properties, resource.sku or {})
    for asset in (spec.code_id, spec.environment_id, *([spec.model_id] if spec.model_id else [])):
        if store.find(asset) is None:
            raise InvalidRequestError(f"The deployment names {asset}, which does not exist in this workspace.")
    return store.put(resource), present is None


def parse_spec(resource_id: str, properties: dict[str, Any], sku: dict[str, Any]) -> DeploymentSpec:
    """Turn a deployment's properties into a specification; raises InvalidRequestError."""
    if str(properties.get("endpointComputeType", "Managed")).lower() != "managed":
        raise InvalidRequestError("endpointComputeType must be Managed: nothing else is emulated.", "NotSupported")
    if (properties.get("scaleSettings") or {}).get("scaleType", "Default") != "Default":
        raise InvalidRequestError("A managed online deployment takes no scaleSettings but scaleType Default.")
    instance_type = properties.get("instanceType") or "Standard_F4s_v2"
    size = find_vm_size(str(instance_type))
    if size is None:
        raise InvalidRequestError(
            f"The instance type '{instance_type}' is not a known VM size, nor one of this plane's own "
            "(Local_0.5vCPU_256MiB: 0.05 vCPU and 64 MiB at least)."
        )
    if properties.get("modelMountPath"):
        raise InvalidRequestError("modelMountPath is not emulated: read AZUREML_MODEL_DIR instead.", "NotSupported")
    code = part(properties, "codeConfiguration")
    script = str(code.get("scoringScript") or "")
    if not code.get("codeId") or not script or PurePosixPath(script).is_absolute() or ".." in script.split("/"):
        raise InvalidRequestError("codeConfiguration needs a codeId and a scoringScript inside the code folder.")
    if not properties.get("environmentId"):
        raise InvalidRequestError("environmentId is missing.")
    settings = properties["requestSettings"]
    timeout_sec = parse_duration_sec(str(settings["requestTimeout"]))
    if not 0 < timeout_sec <= LONGEST_REQUEST_TIMEOUT_SEC:
        raise InvalidRequestError(f"requestTimeout must be above 0 and at most {LONGEST_REQUEST_TIMEOUT_SEC:g} s.")
    variables = properties.get("environmentVariables") or {}
    model = properties.get("model")
    return DeploymentSpec(
        id=resource_id,
        endpoint_name=resource_id.split("/")[-3],
        name=last_name(resource_id),
        code_id=str(code["codeId"]),
        scoring_script=script,
        environment_id=str(properties["environmentId"]),
        model_id=str(model) if model else None,
        environment_variables=tuple(sorted((str(name), str(value)) for name, value in variables.items())),
        size=size,
        instance_count=_whole_number("sku.capacity (instance count)", sku.get("capacity"), 1, MOST_INSTANCES),
        max_concurrent_requests_per_instance=_whole_number(
            "maxConcurrentRequestsPerInstance", settings["maxConcurrentRequestsPerInstance"], 1, 10_000
        ),
        request_timeout_sec=timeout_sec,
        max_queue_wait_sec=parse_duration_sec(str(settings["maxQueueWait"])),
        readiness=_parse_probe("readinessProbe", properties["readinessProbe"]),
        liveness=_parse_probe("livenessProbe", properties["livenessProbe"]),
    )


def _parse_probe(name: str, probe: dict[str, Any]) -> Probe:
    return Probe(
        initial_delay_sec=parse_duration_sec(str(probe["initialDelay"])),
        period_sec=max(0.1, parse_duration_sec(str(probe["period"]))),
        timeout_sec=max(0.1, parse_duration_sec(str(probe["timeout"]))),
        success_threshold=_whole_number(f"{name}.successThreshold", probe["successThreshold"], 1, 1000),
        failure_threshold=_whole_number(f"{name}.failureThreshold", probe["failureThreshold"], 1, 1000),
    )


def _whole_number(name: str, value: Any, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidRequestError(f"{name} must be a whole number from {least} to {most}, not {value!r}.")
    return value


def _with_defaults(defaults: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    return {**defaults, **{key: value for key, value in wanted.items() if value is not None}}
