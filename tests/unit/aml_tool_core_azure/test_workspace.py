"""The workspace is what is given, else that of the running job, else an error that says what to set."""

from __future__ import annotations

import subprocess
import sys
import textwrap

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
    assert str(refusal.value) == (
        "workspace: resource_group not given; give it, or set AZUREML_ARM_RESOURCEGROUP (an AzureML job has it, the "
        "local control plane's `env` command prints it)"
    )


def test_a_deployments_resource_id() -> None:
    assert Workspace("s", "g", "w").deployment_resource_id("e", "d") == (
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
        "/onlineEndpoints/e/deployments/d"
    )


def test_a_cloud_that_is_down_is_said_before_azure_ai_ml_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own: azure-ai-ml asks for the cloud when it is imported, and that only once."""
    monkeypatch.setenv("AZUREML_CURRENT_CLOUD", "LocalCloud")
    monkeypatch.setenv("ARM_CLOUD_METADATA_URL", "http://127.0.0.1:9/metadata/endpoints")
    monkeypatch.setenv("MSI_ENDPOINT", "http://127.0.0.1:9/token")
    script = textwrap.dedent("""
        from aml_tool_core import Tool, main
        from aml_tool_core.azure import credential, removal, workspace

        def run(job):
            removal.require_workspace(workspace.client(workspace.Workspace("s", "g", "w"), credential.credential()))

        main(Tool("aml_example", "1", "x", (), run))
    """)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    (line,) = ended.stderr.splitlines()
    assert line.startswith(
        "aml_example: error: http://127.0.0.1:9/metadata/endpoints: the cloud metadata cannot be read"
    )
    assert ended.returncode == 1
