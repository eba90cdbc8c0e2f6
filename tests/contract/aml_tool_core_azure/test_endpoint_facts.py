"""What the profilers ask of an endpoint, against a real control plane."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
import requests
from aml_tool_core import logs
from aml_tool_core.azure import arm, monitor, workspace
from aml_tool_core.azure.credential import credential
from aml_tool_core.azure.endpoint import Machines, endpoint_target
from aml_tool_core.azure.failures import NotFound
from aml_tool_core.azure.workspace import Workspace

if TYPE_CHECKING:
    from tests.contract.conftest import PlaneHandle, TinyDeployment


@pytest.fixture
def here(plane: PlaneHandle) -> Workspace:
    return workspace.resolve()


@pytest.fixture
def quiet_client(here: Workspace) -> Any:
    """The client as the tools make it."""
    return workspace.client(here, credential())


@pytest.fixture
def deployed(tiny: TinyDeployment) -> TinyDeployment:
    tiny.write(WORKER_COUNT="2")
    result = tiny.run(tiny.deployer())
    assert result.returncode == 0, result.stderr
    return tiny


def test_a_deployment_is_described_and_answers(
    deployed: TinyDeployment, here: Workspace, quiet_client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    target = endpoint_target(quiet_client, deployed.endpoint_name, "blue")
    assert target.machines == Machines("Standard_F2s_v2", 1, 2, 2)
    assert target.deployment_id == here.deployment_resource_id(deployed.endpoint_name, "blue")
    assert target.headers["azureml-model-deployment"] == "blue"
    answer = requests.post(target.scoring_uri, json={}, headers=dict(target.headers), timeout=30)
    assert answer.status_code == 200, answer.text

    key = target.headers["Authorization"].removeprefix("Bearer ")
    assert key not in repr(target)
    assert logs.redacted(f"the key is {key}") == "the key is ***"

    only = endpoint_target(quiet_client, deployed.endpoint_name)
    assert only.deployment_name == "blue"
    assert "azureml-model-deployment" not in only.headers

    with pytest.raises(NotFound, match="deployment green: Azure answered 404"):
        endpoint_target(quiet_client, deployed.endpoint_name, "green")
    assert capsys.readouterr() == ("", "")

    # From the minute that is running: its end is waited for.
    start = datetime.now(timezone.utc).replace(second=0, microsecond=0)
    usage = monitor.deployment_metrics(credential(), target.deployment_id, start, start + timedelta(minutes=1), 150.0)
    assert usage.reasons == ()
    processor = usage.document()["CpuUtilizationPercentage"]
    assert processor["unit"] == "Percent"
    assert len(processor["series"]) == 1
    assert 0 <= processor["minimum"] <= processor["average"] <= processor["maximum"]
    assert usage.document()["CpuMemoryUtilizationPercentage"]["average"] > 0


@pytest.mark.parametrize("mode", ["key", "aml_token", "aad_token"])
def test_every_auth_mode_has_its_secret(mode: str, tiny: TinyDeployment, quiet_client: Any) -> None:
    from azure.ai.ml.entities import ManagedOnlineEndpoint

    endpoint = ManagedOnlineEndpoint(name=tiny.endpoint_name, auth_mode=mode)
    quiet_client.online_endpoints.begin_create_or_update(endpoint).result()
    target = endpoint_target(quiet_client, tiny.endpoint_name)
    assert len(target.headers["Authorization"]) > len("Bearer ")
    assert target.machines is None


def test_an_endpoint_that_is_not_there(quiet_client: Any) -> None:
    with pytest.raises(NotFound, match="endpoint nowhere: Azure answered 404"):
        endpoint_target(quiet_client, "nowhere", "blue")


def test_virtual_processors_of_a_size(here: Workspace, plane: PlaneHandle) -> None:
    location = str(workspace.client(here, credential()).workspaces.get(here.workspace_name).location)
    assert arm.vcpus(here, credential(), location, "standard_f8s_v2") == 8
    assert arm.vcpus(here, credential(), location, "Standard_Nonsense") is None
