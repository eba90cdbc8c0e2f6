"""The chain on the digits example, through the tools' command lines, on a real local control plane.

Optimize, deploy, profile, delete, connected by files alone; what the gateway refuses is counted in the reports.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from aml_tool_core.documents import read_json

REPOSITORY = Path(__file__).parents[2]
OLIVE_PYTHON = Path(os.environ.get("OLIVE_PYTHON", REPOSITORY / ".venv/olive/bin/python")).absolute()


def load_chain() -> ModuleType:
    spec = importlib.util.spec_from_file_location("chain", REPOSITORY / "job-templates/chain.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["chain"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


chain = load_chain()


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with chain.local_control_plane(tmp_path_factory.mktemp("plane")) as variables:
        yield variables


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory, plane: dict[str, str]) -> Any:
    """Digits, optimized and deployed."""
    run = chain.Chain(REPOSITORY / "job-templates/digits", tmp_path_factory.mktemp("digits"), OLIVE_PYTHON, plane)
    chain.make_model(run)
    chain.optimize(run)
    chain.deploy(run)
    return run


@pytest.fixture(scope="module")
def client(plane: dict[str, str]) -> Iterator[Any]:
    """The unmodified SDK's client, pointed at the plane by environment variables only."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in plane.items():
            patch.setenv(name, value)
        from azure.ai.ml import MLClient
        from azure.identity import DefaultAzureCredential

        yield MLClient(
            DefaultAzureCredential(),
            plane["AZUREML_ARM_SUBSCRIPTION"],
            plane["AZUREML_ARM_RESOURCEGROUP"],
            plane["AZUREML_ARM_WORKSPACE_NAME"],
        )


def profile(
    run: Any, folder: Path, target: dict[str, Any], load: dict[str, Any], tool: str = "aml_wrk_profiler"
) -> Any:
    """Profile a target under a load and return the report, valid against its schema."""
    for name, content in (("target", {"deployment_settings": target}), ("config", {"profiler_config": load})):
        (folder / f"{name}.json").write_text(json.dumps({"version": "1.0", **content}))
    words = [sys.executable, "-m", tool, "--config_path", "config.json", "--scoring_target_path", "target.json"]
    words += ["--payload_path", str(run.example / "payload.jsonl")]
    done = subprocess.run(
        words, cwd=folder, env={**os.environ, **run.environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return read_json(folder / "outputs/report.json", "report")


@pytest.fixture(scope="module")
def settings(digits: Any) -> dict[str, Any]:
    document = read_json(digits.settings("optimized"), "deployment_settings")
    found: dict[str, Any] = document["deployment_settings"]
    return found


def test_optimizer_writes_what_the_chain_needs(digits: Any) -> None:
    parameters = read_json(digits.optimized_parameters / "optimized_parameters.json", "optimized_parameters")
    accuracy = parameters["metrics"]["accuracy-accuracy_score"]
    latency = parameters["metrics"]["latency-avg"]
    assert accuracy["input_model_value"] > 0.9
    assert accuracy["value"] >= accuracy["input_model_value"] - 0.01, "the goal of optimizer.json"
    assert latency["value"] < 0.8 * latency["input_model_value"], "the goal of optimizer.json"
    assert (digits.optimized_model / "model.onnx").is_file()


def test_settings_say_what_the_service_answered(digits: Any, settings: dict[str, Any], client: Any) -> None:
    deployment = client.online_deployments.get(settings["deployment_name"], settings["endpoint_name"])
    assert deployment.provisioning_state == "Succeeded"
    assert settings["sku"] == deployment.instance_type == "Standard_F2s_v2"
    assert settings["instance_count"] == deployment.instance_count
    assert (
        settings["max_concurrent_requests_per_instance"]
        == deployment.request_settings.max_concurrent_requests_per_instance
    )


def test_deployed_process_really_has_the_optimized_session_options(
    digits: Any, settings: dict[str, Any], client: Any
) -> None:
    parameters = read_json(digits.optimized_parameters / "optimized_parameters.json")
    log = client.online_deployments.get_logs(settings["deployment_name"], settings["endpoint_name"], lines=1000)
    said = [line.partition("session options in use: ")[2] for line in log.splitlines() if "session options" in line]
    assert said, log
    in_use = json.loads(said[-1])
    wanted = parameters["session_options"]
    for name in ("inter_op_num_threads", "intra_op_num_threads"):
        assert in_use[name] == wanted[name]
    assert in_use["providers"][0] == parameters["execution_provider"][0][0]
    assert in_use["execution_mode"].endswith("ORT_PARALLEL" if wanted["execution_mode"] else "ORT_SEQUENTIAL")
    assert in_use["graph_optimization_level"].endswith("ORT_ENABLE_ALL") == (wanted["graph_optimization_level"] == 99)


@pytest.mark.parametrize("profiler", chain.PROFILERS)
def test_profilers_measure_the_deployment(digits: Any, profiler: str) -> None:
    chain.profile(digits, profiler)
    report = read_json(digits.report(profiler), "report")
    result = report["result"]
    assert result["requests"]["succeeded"] == result["requests"]["completed"] > 0
    assert result["latency_ms"]["percentiles"]["99"]["value"] >= result["latency_ms"]["percentiles"]["50"]["value"] > 0
    assert report["cost"]["core_hour_per_million_requests"] == pytest.approx(
        2 * 1e6 / (result["succeeded_per_sec"] * 3600), rel=0.01
    ), "Standard_F2s_v2 has two vCPUs"
    assert report["resource_usage"]["CpuUtilizationPercentage"]["maximum"] > 0
    assert digits.report(profiler).with_suffix(".html").is_file()


def test_the_exported_model_is_deployed_beside_it_and_compared(digits: Any, client: Any) -> None:
    chain.deploy(digits, "exported")
    log = client.online_deployments.get_logs("exported", digits.endpoint, lines=1000)  # before requests fill it
    assert "session options in use" in log
    chain.profile(digits, chain.COMPARED, "exported")
    chain.compare(digits)
    base = read_json(digits.report(chain.COMPARED, "exported"), "report")
    assert base["target"]["deployment_name"] == "exported"
    assert "latency" in (digits.folder("compare") / "log.txt").read_text()


def test_a_wrong_key_is_counted_as_401(digits: Any, settings: dict[str, Any], client: Any, tmp_path: Path) -> None:
    uri = client.online_endpoints.get(settings["endpoint_name"]).scoring_uri
    target = {"scoring_uri": uri, "scoring_headers": {"Authorization": "Bearer not-the-key"}}
    report = profile(digits, tmp_path, target, {"duration_sec": 1, "connections": 1})
    assert set(report["result"]["errors"]["status"]) == {"401"}
    assert report["result"]["requests"]["succeeded"] == 0
    assert not report["verdict"]["valid"]
    assert "not-the-key" not in json.dumps(report)


def test_an_unknown_deployment_is_counted_as_404(
    digits: Any, settings: dict[str, Any], client: Any, tmp_path: Path
) -> None:
    endpoint = settings["endpoint_name"]
    target = {
        "scoring_uri": client.online_endpoints.get(endpoint).scoring_uri,
        "scoring_headers": {
            "Authorization": f"Bearer {client.online_endpoints.get_keys(endpoint).primary_key}",
            "azureml-model-deployment": "absent",
        },
    }
    report = profile(digits, tmp_path, target, {"duration_sec": 1, "connections": 1})
    assert set(report["result"]["errors"]["status"]) == {"404"}


def test_concurrency_beyond_the_limit_is_counted_as_429(digits: Any, settings: dict[str, Any], tmp_path: Path) -> None:
    report = profile(digits, tmp_path, settings, {"duration_sec": 2, "connections": 64})
    result = report["result"]
    assert set(result["errors"]["status"]) == {"429"}
    assert result["requests"]["succeeded"] > 0, "what fits the limit is still served"
    assert result["requests"]["completed"] == result["requests"]["succeeded"] + result["errors"]["status"]["429"]


def test_deleter_removes_what_was_deployed_and_says_so_when_it_is_gone(
    digits: Any, settings: dict[str, Any], client: Any
) -> None:
    from azure.core.exceptions import ResourceNotFoundError

    chain.delete(digits)
    with pytest.raises(ResourceNotFoundError):
        client.online_endpoints.get(settings["endpoint_name"])
    chain.delete(digits)
    assert "already" in (digits.folder("delete") / "log.txt").read_text()
