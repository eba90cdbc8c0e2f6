"""The deleter against a real control plane, through its command line."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import ResourceNotFoundError

if TYPE_CHECKING:
    from tests.contract.conftest import TinyDeployment


@pytest.fixture
def deployed(tiny: TinyDeployment) -> TinyDeployment:
    """A tiny endpoint with one deployment, blue."""
    result = tiny.run(tiny.deployer())
    assert result.returncode == 0, result.stderr
    return tiny


@pytest.fixture
def blue_and_green(deployed: TinyDeployment) -> TinyDeployment:
    """A tiny endpoint with two deployments; the settings name green, which has 30 % of the traffic."""
    deployed.write("green", endpoint="traffic: {blue: 70, green: 30}\n")
    result = deployed.run(deployed.deployer())
    assert result.returncode == 0, result.stderr
    return deployed


def settings(tiny: TinyDeployment, **changes: str) -> Path:
    """Write the settings of a deployment that need not be there."""
    named = {"endpoint_name": tiny.endpoint_name, "deployment_name": "blue", **changes}
    path = tiny.folder / "settings.json"
    path.write_text(json.dumps({"version": 1.0, "deployment_settings": named}))
    return path


def delete(tiny: TinyDeployment, config: Path, whole: str, *flags: str) -> subprocess.CompletedProcess[str]:
    result = tiny.run(tiny.deleter(config, whole, *flags))
    assert result.returncode == 0, result.stderr
    return result


def gone(get: Callable[[], Any]) -> bool:
    try:
        get()
    except ResourceNotFoundError:
        return True
    return False


def deployments(client: Any, tiny: TinyDeployment) -> list[str]:
    return sorted(one.name for one in client.online_deployments.list(tiny.endpoint_name))


def test_true_deletes_the_endpoint_with_all_its_deployments(blue_and_green: TinyDeployment, client: Any) -> None:
    result = delete(blue_and_green, blue_and_green.settings, "True")
    assert result.stdout == ""
    assert result.stderr.endswith(f"endpoint {blue_and_green.endpoint_name}: deleted, and verified gone\n")
    assert gone(lambda: client.online_endpoints.get(blue_and_green.endpoint_name))


def test_false_deletes_the_deployment_alone(blue_and_green: TinyDeployment, client: Any) -> None:
    result = delete(blue_and_green, blue_and_green.settings, "0")
    assert result.stderr.endswith("deployment green: deleted, and verified gone\n")
    assert deployments(client, blue_and_green) == ["blue"]
    assert client.online_endpoints.get(blue_and_green.endpoint_name).traffic == {"blue": 100}


def test_the_last_deployment_can_go_too(deployed: TinyDeployment, client: Any) -> None:
    delete(deployed, deployed.settings, "false")
    assert deployments(client, deployed) == []
    assert client.online_endpoints.get(deployed.endpoint_name).traffic == {}


def test_dry_run_prints_what_would_go_and_deletes_nothing(blue_and_green: TinyDeployment, client: Any) -> None:
    name = blue_and_green.endpoint_name
    whole = delete(blue_and_green, blue_and_green.settings, "True", "--dry_run")
    assert whole.stdout.splitlines() == [
        f"endpoint {name}: deployment blue", f"endpoint {name}: deployment green", f"endpoint {name}",
    ]  # fmt: skip
    alone = delete(blue_and_green, blue_and_green.settings, "False", "--dry_run")
    assert alone.stdout.splitlines() == [f"endpoint {name}: deployment green (traffic 30 %)"]
    assert deployments(client, blue_and_green) == ["blue", "green"]
    assert client.online_endpoints.get(name).traffic == {"blue": 70, "green": 30}


@pytest.mark.parametrize("whole", ["True", "False"])
def test_what_is_absent_already_is_a_success_that_says_so(whole: str, tiny: TinyDeployment) -> None:
    result = delete(tiny, settings(tiny), whole)
    assert result.stderr.endswith("is not there already; nothing to delete\n")
    dry = delete(tiny, settings(tiny), whole, "--dry_run")
    assert dry.stdout == f"nothing: endpoint {tiny.endpoint_name} is not there\n"


def test_an_absent_deployment_of_an_endpoint_that_stands(deployed: TinyDeployment, client: Any) -> None:
    result = delete(deployed, settings(deployed, deployment_name="red"), "False")
    assert result.stderr.endswith("deployment red: is not there already; nothing to delete\n")
    assert deployments(client, deployed) == ["blue"]


@pytest.mark.parametrize("flags", [[], ["--dry_run"]])
def test_a_wrong_workspace_is_no_success(flags: list[str], tiny: TinyDeployment) -> None:
    result = tiny.run(tiny.deleter(settings(tiny, workspace_name="nowhere"), "True", *flags))
    assert result.returncode == 1
    assert result.stdout == ""
    assert "error: workspace nowhere: Azure answered 404: " in result.stderr


def test_a_refused_token(tiny: TinyDeployment) -> None:
    token = "not-a-token-of-this-cloud"
    result = tiny.run(tiny.deleter(settings(tiny, identity_access_token=token), "True"))
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert f"error: endpoint {tiny.endpoint_name}: Azure answered 401: " in line
    assert token not in line


def test_a_refused_identity(tiny: TinyDeployment) -> None:
    result = tiny.run(tiny.deleter(settings(tiny), "True"), MSI_SECRET="wrong")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert f"error: endpoint {tiny.endpoint_name}: no Azure identity: " in line


def test_a_deletion_that_is_under_way_is_waited_for(deployed: TinyDeployment, client: Any) -> None:
    given_up = deployed.run(deployed.deleter(deployed.settings, "True", "--timeout_sec", "0.001"))
    assert given_up.returncode == 1
    assert "deletion: not done after 0 s" in given_up.stderr.splitlines()[-1]
    delete(deployed, deployed.settings, "True")
    assert gone(lambda: client.online_endpoints.get(deployed.endpoint_name))
