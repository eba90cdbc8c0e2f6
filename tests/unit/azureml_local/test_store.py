"""State: kept on disk, its rules free of HTTP."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from azureml_local.exceptions import ConflictError, InvalidRequestError, ResourceNotFoundError
from azureml_local.models.deployments import put_deployment
from azureml_local.models.durations import parse_duration_sec
from azureml_local.models.endpoints import put_endpoint
from azureml_local.models.resource_ids import deployment_id, endpoint_id, resource_type, workspace_id
from azureml_local.models.store import Resource, Store
from azureml_local.models.vm_sizes import find_vm_size, vm_sizes

WORKSPACE = workspace_id("sub", "rg", "ws")
ENDPOINT = endpoint_id(WORKSPACE, "my-ep")
DEPLOYMENT = deployment_id(WORKSPACE, "my-ep", "blue")
CODE, ENVIRONMENT = f"{WORKSPACE}/codes/c/versions/1", f"{WORKSPACE}/environments/e/versions/1"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "state.json")
    for asset in (CODE, ENVIRONMENT):
        made.put(Resource(id=asset, properties={}))
    return made


def deployment_body(**changes: Any) -> dict[str, Any]:
    properties = {
        "codeConfiguration": {"codeId": CODE, "scoringScript": "score.py"},
        "environmentId": ENVIRONMENT,
        "instanceType": "Standard_F4s_v2",
    }
    sku = {"name": "Default", "capacity": changes.pop("capacity", 1)}
    return {"properties": {**properties, **changes}, "sku": sku}


def test_state_survives_and_is_private(tmp_path: Path, store: Store) -> None:
    resource, created = put_endpoint(store, ENDPOINT, {"properties": {"authMode": "key"}}, "eastus")
    assert created and resource.properties["authMode"] == "Key"
    operation = store.start_operation("endpoint", ENDPOINT)
    again = Store(tmp_path / "state.json")
    assert again.get(ENDPOINT.upper()) == resource
    assert again.keys(ENDPOINT) == store.keys(ENDPOINT)
    assert again.port(ENDPOINT) == store.port(ENDPOINT)
    assert again.operation(operation.id).status == "InProgress"
    assert stat.S_IMODE((tmp_path / "state.json").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_children_are_direct_ones_only(store: Store) -> None:
    put_endpoint(store, ENDPOINT, {}, "eastus")
    put_deployment(store, DEPLOYMENT, deployment_body(), "eastus")
    assert [entry.name for entry in store.children(f"{WORKSPACE}/onlineEndpoints")] == ["my-ep"]
    assert [entry.name for entry in store.children(f"{ENDPOINT}/deployments")] == ["blue"]


def test_removing_takes_what_is_below_and_the_port_and_nothing_else(store: Store) -> None:
    neighbour = f"{ENDPOINT}2"
    for name in (ENDPOINT, neighbour):
        put_endpoint(store, name, {}, "eastus")
    keys = store.keys(ENDPOINT)
    put_deployment(store, DEPLOYMENT, deployment_body(), "eastus")
    store.remove(ENDPOINT)
    for gone in (ENDPOINT, DEPLOYMENT):
        with pytest.raises(ResourceNotFoundError):
            store.get(gone)
    assert store.get(neighbour).name == "my-ep2"
    assert store.keys(ENDPOINT) != keys


def test_one_operation_at_a_time_but_a_delete_overtakes(store: Store) -> None:
    put_endpoint(store, ENDPOINT, {}, "eastus")
    first = store.start_operation("endpoint", ENDPOINT)
    with pytest.raises(ConflictError):
        store.start_operation("endpoint", ENDPOINT)
    store.start_operation("delete-endpoint", ENDPOINT)
    with pytest.raises(ConflictError):
        store.start_operation("delete-endpoint", ENDPOINT)
    store.end_operation(first, {"code": "X", "message": "y"})
    assert store.operation(first.id).status == "Failed"


@pytest.mark.parametrize("name", ["ab", "1abc", "a_bc", "abc-", "a" * 33, "a b c"])
def test_endpoint_names_that_azure_refuses(store: Store, name: str) -> None:
    with pytest.raises(InvalidRequestError, match="name"):
        put_endpoint(store, endpoint_id(WORKSPACE, name), {}, "eastus")


@pytest.mark.parametrize(
    "traffic",
    [{"blue": 99}, {"blue": 101}, {"blue": -1, "green": 101}, {"blue": True}, {"blue": 100.0}, {"pink": 100}, []],
)
def test_traffic_that_azure_refuses(store: Store, traffic: Any) -> None:
    put_endpoint(store, ENDPOINT, {}, "eastus")
    put_deployment(store, DEPLOYMENT, deployment_body(), "eastus")
    if traffic == []:
        traffic = ["blue"]
    with pytest.raises(InvalidRequestError):
        put_endpoint(store, ENDPOINT, {"properties": {"traffic": traffic}}, "eastus")


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"properties": 5}, "properties"),
        ({"properties": {"mirrorTraffic": ["blue"]}}, "mirrorTraffic"),
        ({"properties": {"properties": 5}}, "properties"),
        ({"identity": "SystemAssigned"}, "identity"),
        ({"tags": 5}, "tags"),
    ],
)
def test_what_must_be_an_object_is_named(store: Store, body: Any, name: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"{name} must be an object"):
        put_endpoint(store, ENDPOINT, body, "eastus")
    assert store.find(ENDPOINT) is None


def test_mirror_traffic_is_refused_rather_than_ignored(store: Store) -> None:
    with pytest.raises(InvalidRequestError, match="mirrorTraffic"):
        put_endpoint(store, ENDPOINT, {"properties": {"mirrorTraffic": {"blue": 10}}}, "eastus")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"instanceType": "Standard_Nonsense"}, "Standard_Nonsense"),
        ({"capacity": 0}, "instance count"),
        ({"capacity": "2"}, "instance count"),
        ({"requestSettings": {"maxConcurrentRequestsPerInstance": 0}}, "maxConcurrentRequestsPerInstance"),
        ({"requestSettings": {"requestTimeout": "PT181S"}}, "requestTimeout"),
        ({"requestSettings": {"requestTimeout": "5000"}}, "ISO 8601"),
        ({"codeConfiguration": {"codeId": CODE, "scoringScript": "../score.py"}}, "scoringScript"),
        ({"codeConfiguration": None}, "codeConfiguration"),
        ({"environmentId": f"{WORKSPACE}/environments/none/versions/1"}, "does not exist"),
        ({"scaleSettings": {"scaleType": "TargetUtilization"}}, "scaleSettings"),
        ({"endpointComputeType": "Kubernetes"}, "Managed"),
        ({"modelMountPath": "/var/models"}, "modelMountPath"),
        *(
            ({name: 5}, f"{name} must be an object, not 5")
            for name in ("codeConfiguration", "requestSettings", "livenessProbe", "scaleSettings")
        ),
        ({"environmentVariables": ["A"]}, "environmentVariables must be an object"),
    ],
)
def test_deployments_that_are_refused(store: Store, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words):
        put_deployment(store, DEPLOYMENT, deployment_body(**changes), "eastus")
    assert store.find(DEPLOYMENT) is None


def test_defaults_of_a_deployment(store: Store) -> None:
    resource, created = put_deployment(store, DEPLOYMENT, deployment_body(), "eastus")
    assert created
    assert resource.properties["requestSettings"] == {
        "maxConcurrentRequestsPerInstance": 1,
        "requestTimeout": "PT5S",
        "maxQueueWait": "PT0.5S",
    }
    # The SDK fails without it.
    assert resource.properties["scaleSettings"] == {"scaleType": "Default"}


@pytest.mark.parametrize(
    ("text", "seconds"), [("PT5S", 5), ("PT0.5S", 0.5), ("PT1M30S", 90), ("PT1H", 3600), ("P1DT1S", 86401)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration_sec(text) == seconds


@pytest.mark.parametrize("text", ["", "P", "PT", "5", "PT5", "5S", "PT-5S"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        parse_duration_sec(text)


def test_resource_types() -> None:
    assert resource_type(DEPLOYMENT).endswith("/workspaces/onlineEndpoints/deployments")


def test_sizes_of_the_documentation() -> None:
    size = find_vm_size("standard_ds3_V2")
    assert size is not None and (size.name, size.vcpus, size.memory_gib, size.gpus) == ("Standard_DS3_v2", 4, 14, 0)
    assert len(vm_sizes()) > 200
    assert all(size.vcpus > 0 and size.memory_gib > 0 for size in vm_sizes().values())
