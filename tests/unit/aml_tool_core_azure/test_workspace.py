"""The workspace is what is given, else that of the running job, else an error that says what to set."""

from __future__ import annotations

import pytest
from aml_tool_core import InputError
from aml_tool_core.azure.workspace import Workspace, resolve

VARIABLES = ("AZUREML_ARM_SUBSCRIPTION", "AZUREML_ARM_RESOURCEGROUP", "AZUREML_ARM_WORKSPACE_NAME")


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


def test_given_values_win_one_by_one_over_the_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.setenv(variable, "of-the-job")
    assert resolve(workspace_name="given") == Workspace("of-the-job", "of-the-job", "given")


def test_what_lacks_is_named_with_its_variable() -> None:
    with pytest.raises(InputError) as refusal:
        resolve(subscription_id="s", workspace_name="w")
    assert str(refusal.value) == "workspace: resource_group not given; give it, or set AZUREML_ARM_RESOURCEGROUP"


def test_a_deployments_resource_id() -> None:
    assert Workspace("s", "g", "w").deployment_resource_id("e", "d") == (
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
        "/onlineEndpoints/e/deployments/d"
    )
