"""The deployer against a real control plane, through its command line."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import requests
from aml_tool_core.azure import marks
from aml_tool_core.documents import read_json
from azure.core.exceptions import ResourceNotFoundError

if TYPE_CHECKING:
    from tests.contract.conftest import PlaneHandle, TinyDeployment

LIMIT_SEC = 60.0


def parameters(folder: Path) -> Path:
    path = folder / "optimized_parameters.json"
    options = {
        "execution_mode": 1,
        "graph_optimization_level": 99,
        "inter_op_num_threads": 1,
        "intra_op_num_threads": 2,
    }
    path.write_text(
        json.dumps(
            {
                "version": "1.0",
                "accelerator": "cpu-cpu",
                "rank": 1,
                "model_file": "model.onnx",
                "model_sha256": hashlib.sha256(b"w").hexdigest(),
                "execution_provider": [["CPUExecutionProvider", {}]],
                "session_options": {**options, "extra_session_config": None},
                "io_bind": False,
                "metrics": {},
            }
        )
    )
    return path


def deploy(tiny: TinyDeployment, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    result = tiny.run(tiny.deployer(*flags), **environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    return result


def fails(tiny: TinyDeployment, code: int, *flags: str, **environment: str) -> tuple[str, list[str]]:
    """Run the deployer, expecting an exit code; return its error line and the lines before."""
    result = tiny.run(tiny.deployer(*flags), **environment)
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    *before, line = result.stderr.splitlines()
    assert line.startswith("aml_online_endpoints_deployer: error: ")
    assert not tiny.settings.exists()
    return line, before


def stands(client: Any, tiny: TinyDeployment, deployment: str | None = None) -> bool:
    try:
        if deployment is None:
            client.online_endpoints.get(tiny.endpoint_name)
        else:
            client.online_deployments.get(deployment, tiny.endpoint_name)
    except ResourceNotFoundError:
        return False
    return True


def wait_for(what: Callable[[], bool]) -> None:
    limit = time.monotonic() + LIMIT_SEC
    while not what():
        assert time.monotonic() < limit, "it did not come to that in time"
        time.sleep(0.1)


def started(tiny: TinyDeployment, *flags: str) -> subprocess.Popen[str]:
    """Start the deployer, and return when Azure has taken the deployment."""
    process = subprocess.Popen(
        tiny.deployer(*flags), cwd=tiny.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "creation: accepted" in line:
            return process
    pytest.fail(f"the deployer ended early: {process.wait()}")


def test_deploys_and_tells_what_the_service_answered(tiny: TinyDeployment, plane: PlaneHandle, client: Any) -> None:
    tiny.write(WORKER_COUNT="2", INTER_OP_NUM_THREADS="5")
    result = deploy(tiny, "--optimized_parameters_path", str(parameters(tiny.folder)))

    settings = read_json(tiny.settings, "deployment_settings")
    assert settings == {
        "version": "1.0",
        "deployment_settings": {
            "subscription_id": plane.variables["AZUREML_ARM_SUBSCRIPTION"],
            "resource_group": plane.variables["AZUREML_ARM_RESOURCEGROUP"],
            "workspace_name": plane.variables["AZUREML_ARM_WORKSPACE_NAME"],
            "endpoint_name": tiny.endpoint_name,
            "deployment_name": "blue",
            "sku": "Standard_F2s_v2",
            "location": client.workspaces.get(client.workspace_name).location,
            "instance_count": 1,
            "worker_count": 2,
            "max_concurrent_requests_per_instance": 2,
        },
    }
    assert not tiny.note.exists()

    endpoint = client.online_endpoints.get(tiny.endpoint_name)
    assert endpoint.traffic == {"blue": 100}
    key = client.online_endpoints.get_keys(tiny.endpoint_name).primary_key
    assert key not in result.stderr
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    answer = requests.post(endpoint.scoring_uri, data="{}", headers=headers, timeout=30).json()
    assert answer["model"] == ["model.onnx"]
    expected = {
        "INTER_OP_NUM_THREADS": "5",  # the YAML's own wins
        "INTRA_OP_NUM_THREADS": "2",
        "EXECUTION_MODE": "ExecutionMode.ORT_PARALLEL",
        "GRAPH_OPTIMIZATION_LEVEL": "99",
        "EXECUTION_PROVIDER": "CPUExecutionProvider",
        "MODEL_FOLDER_NAME": "model",
    }
    assert {name: answer["variables"].get(name) for name in expected} == expected

    tags = client.online_deployments.get("blue", tiny.endpoint_name).tags
    assert tags["model_sha256"] == hashlib.sha256(b"w").hexdigest()
    assert tags[marks.TOOL] == endpoint.tags[marks.TOOL] == marks.DEPLOYER


def test_again_with_the_same_input_is_the_same_result(tiny: TinyDeployment, client: Any) -> None:
    deploy(tiny)
    first = tiny.settings.read_text()
    versions = list(client.models.list(f"{tiny.endpoint_name}-model"))
    deploy(tiny)
    assert tiny.settings.read_text() == first
    assert list(client.models.list(f"{tiny.endpoint_name}-model")) == versions
    assert client.online_endpoints.get(tiny.endpoint_name).traffic == {"blue": 100}
    tags = client.online_deployments.get("blue", tiny.endpoint_name).tags
    assert tags["model_sha256"] == hashlib.sha256(b"w").hexdigest()  # without optimized parameters too


def test_a_second_deployment_gets_the_traffic_that_is_asked_for(tiny: TinyDeployment, client: Any) -> None:
    deploy(tiny)
    tiny.write("green")
    deploy(tiny)
    assert client.online_endpoints.get(tiny.endpoint_name).traffic == {"blue": 100, "green": 0}
    tiny.write("green", endpoint="traffic: {blue: 80, green: 20}\n")
    deploy(tiny)
    assert client.online_endpoints.get(tiny.endpoint_name).traffic == {"blue": 80, "green": 20}


def test_traffic_for_a_deployment_that_will_not_be_there(tiny: TinyDeployment, client: Any) -> None:
    tiny.write(endpoint="traffic: {blue: 80, gren: 20}\n")
    line, _ = fails(tiny, 2)
    assert "endpoint.yml: /traffic: gren: the endpoint will have no such deployment, only blue" in line
    assert not stands(client, tiny)


def test_a_crash_shows_the_containers_log_and_leaves_nothing(tiny: TinyDeployment, client: Any) -> None:
    tiny.write(CRASH="1")
    line, before = fails(tiny, 1)
    assert f"endpoint {tiny.endpoint_name}: deployment blue: creation: failed: ResourceNotReady: " in line
    assert any("RuntimeError: no weights today" in one for one in before)
    assert not stands(client, tiny)
    assert not tiny.note.exists()


def test_a_crash_leaves_what_was_there_before(tiny: TinyDeployment, client: Any) -> None:
    deploy(tiny)
    tiny.settings.unlink()
    tiny.write("green", CRASH="1")
    fails(tiny, 1)
    assert not stands(client, tiny, "green")
    assert client.online_deployments.get("blue", tiny.endpoint_name).provisioning_state == "Succeeded"
    assert client.online_endpoints.get(tiny.endpoint_name).traffic == {"blue": 100}


def test_a_failed_update_does_not_remove_the_deployment(tiny: TinyDeployment, client: Any) -> None:
    deploy(tiny)
    tiny.settings.unlink()
    tiny.write(CRASH="1")
    line, _ = fails(tiny, 1)
    assert "deployment blue: update: failed" in line
    assert stands(client, tiny, "blue")


def test_kept_failures_stand_and_the_note_removes_them(tiny: TinyDeployment, client: Any) -> None:
    tiny.write(CRASH="1")
    _, before = fails(tiny, 1, "--keep_failed")
    assert stands(client, tiny, "blue")
    remedy = (
        "aml_online_endpoints_deleter --config_path outputs/deployment_settings.partial.json --delete_endpoint True"
    )
    assert any(remedy in one for one in before)
    assert tiny.run(tiny.deleter(tiny.note, "True")).returncode == 0
    assert not stands(client, tiny)


def test_what_takes_too_long_is_given_up_and_removed(tiny: TinyDeployment, client: Any) -> None:
    tiny.write(INIT_SEC="60")
    line, _ = fails(tiny, 1, "--timeout_sec", "6")
    assert "deployment blue: creation: not done after " in line
    assert not stands(client, tiny)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_it_removes_what_it_made(
    signum: signal.Signals, code: int, tiny: TinyDeployment, client: Any
) -> None:
    tiny.write(INIT_SEC="60")
    process = started(tiny)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signum)
    _, errors = process.communicate(timeout=LIMIT_SEC)
    assert process.returncode == code, errors
    assert errors.splitlines()[-1].startswith(f"aml_online_endpoints_deployer: error: interrupted by {signum.name}")
    assert not [child for child in children if child.is_running()]
    assert not (tiny.folder / "outputs").exists()
    wait_for(lambda: not stands(client, tiny))


def test_killed_it_leaves_the_note_for_the_deleter(tiny: TinyDeployment, client: Any) -> None:
    tiny.write(INIT_SEC="20")
    process = started(tiny)
    process.kill()
    process.communicate(timeout=LIMIT_SEC)
    assert [path.name for path in (tiny.folder / "outputs").iterdir()] == [tiny.note.name]
    read_json(tiny.note, "deployment_settings")
    assert stands(client, tiny)
    result = tiny.run(tiny.deleter(tiny.note, "True"))
    assert result.returncode == 0, result.stderr
    assert not stands(client, tiny)


def test_killed_and_run_again_it_succeeds(tiny: TinyDeployment, client: Any) -> None:
    tiny.write(INIT_SEC="8")
    process = started(tiny)
    process.kill()
    process.communicate(timeout=LIMIT_SEC)
    result = deploy(tiny)
    assert "by another operation; waiting for it to end" in result.stderr
    assert not tiny.note.exists()
    assert client.online_endpoints.get(tiny.endpoint_name).traffic == {"blue": 100}


def test_another_model_under_the_same_version_is_refused(tiny: TinyDeployment, client: Any) -> None:
    deploy(tiny)
    tiny.settings.unlink()
    (tiny.folder / "model" / "model.onnx").write_text("another")
    line, _ = fails(tiny, 1)
    assert "deployment blue: update: " in line
    assert "version" in line
    assert client.online_deployments.get("blue", tiny.endpoint_name).provisioning_state == "Succeeded"


def test_a_refused_identity(tiny: TinyDeployment) -> None:
    line, before = fails(tiny, 1, MSI_SECRET="wrong")
    assert "no Azure identity: " in line
    assert before == [] or all("INFO" in one for one in before)


def test_a_workspace_that_is_not_there(tiny: TinyDeployment) -> None:
    line, _ = fails(tiny, 1, "--workspace_name", "nowhere")
    assert "error: workspace nowhere: Azure answered 404: " in line
    assert not tiny.note.exists()
