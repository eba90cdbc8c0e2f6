"""What a deployment runs on is read from the SDK's own entity."""

from __future__ import annotations

import pytest
from aml_tool_core.azure.endpoint import Machines, machines
from azure.ai.ml.entities import ManagedOnlineDeployment, OnlineRequestSettings


def test_machines_of_a_deployment() -> None:
    deployment = ManagedOnlineDeployment(
        name="blue",
        instance_type="Standard_F2s_v2",
        instance_count=3,
        environment_variables={"WORKER_COUNT": "4"},
        request_settings=OnlineRequestSettings(max_concurrent_requests_per_instance=8),
    )
    assert machines(deployment) == Machines("Standard_F2s_v2", 3, 4, 8)


@pytest.mark.parametrize("count", [None, "", "0", "-1", "many"])
def test_without_a_usable_worker_count_the_server_starts_one(count: str | None) -> None:
    variables = {} if count is None else {"WORKER_COUNT": count}
    deployment = ManagedOnlineDeployment(name="blue", instance_type="s", environment_variables=variables)
    assert machines(deployment).worker_count == 1
