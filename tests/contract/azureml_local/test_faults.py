"""The command `fault` against a plane that runs; and what only a real server does: drop connections, crash."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from tests.contract.conftest import Cloud, PlaneHandle


@pytest.fixture(autouse=True)
def no_faults(plane: PlaneHandle) -> Iterator[None]:
    yield
    plane.command("fault", "clear")


def test_faults_from_the_command_line(plane: PlaneHandle, arm: httpx.Client) -> None:
    plane.command("fault", "calls", "--forget")
    made = json.loads(
        plane.command("fault", "add", "throttled", "--path", "onlineEndpoints/nobodys", "--times", "always").stdout
    )
    path = "/subscriptions/s/resourceGroups/g/providers/p/workspaces/w/onlineEndpoints/nobodys"
    assert [arm.get(path).status_code for _ in range(2)] == [429, 429]
    (listed,) = map(json.loads, plane.command("fault", "list").stdout.splitlines())
    assert (listed["id"], listed["struck"], listed["status"]) == (made["id"], 2, 429)
    calls = [json.loads(line) for line in plane.command("fault", "calls").stdout.splitlines()]
    assert [call["fault"] for call in calls if call["path"].endswith("/nobodys")] == [made["id"]] * 2
    plane.command("fault", "clear", made["id"])
    assert plane.command("fault", "list").stdout == ""
    assert arm.get(path).status_code == 404


def test_errors_are_one_line(plane: PlaneHandle) -> None:
    done = plane.command("fault", "add", "nonsense", check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("azureml-local: error: /azureml_local/faults: There is no known fault 'nonsense'")
    assert "throttled" in plane.command("fault", "known").stdout


@pytest.mark.parametrize("drop", ["before", "after"])
def test_a_connection_is_dropped_without_an_answer(drop: str, plane: PlaneHandle, arm: httpx.Client) -> None:
    workspace = "/".join(
        f"{word}/{plane.variables[f'AZUREML_ARM_{name}']}"
        for word, name in (
            ("/subscriptions", "SUBSCRIPTION"),
            ("resourceGroups", "RESOURCEGROUP"),
            ("providers/Microsoft.MachineLearningServices/workspaces", "WORKSPACE_NAME"),
        )
    )
    model = f"{workspace}/models/dropped-{drop}/versions/1"
    arm.post("/azureml_local/faults", json={"method": "PUT", "drop": drop}).raise_for_status()
    with pytest.raises(httpx.RemoteProtocolError):
        arm.put(model, json={"properties": {"modelUri": "azureml://a"}})
    assert arm.get(model).status_code == (404 if drop == "before" else 200)


def test_a_container_is_struck_once(plane: PlaneHandle, cloud: Cloud) -> None:
    from azure.core.exceptions import HttpResponseError

    plane.command("fault", "add", "crash_in_init", "--path", "struck-ep/deployments/blue")
    cloud.endpoint("struck-ep")
    try:
        with pytest.raises(HttpResponseError) as failure:
            cloud.deploy("struck-ep", "blue")
        assert failure.value.error is not None and failure.value.error.code == "ResourceNotReady"
        log: Any = cloud.client.online_deployments.get_logs("blue", "struck-ep", lines=100)
        assert "RuntimeError: a fault that was asked for: init() raises" in log
        assert cloud.deploy("struck-ep", "blue").provisioning_state == "Succeeded"
    finally:
        cloud.delete("struck-ep")
