"""The tuner on a real control plane, with the real deployer, profiler and deleter."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aml_tool_core.documents import read_json

if TYPE_CHECKING:
    from tests.contract.conftest import Cloud, TinyDeployment


def tune(tiny: TinyDeployment, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aml_tuner", "--config_path", "tuning.json", "--profiler_config_path", "load.json"]
    return tiny.run([*command, *tiny.deployer()[3:], *flags])


def configure(tiny: TinyDeployment, load: dict[str, Any], **config: Any) -> None:
    document = {"version": 1.0, "tuning_config": {"profiler": "aml_wrk_profiler", "strategy": "grid", **config}}
    (tiny.folder / "tuning.json").write_text(json.dumps(document))
    (tiny.folder / "load.json").write_text(json.dumps({"version": 1.0, "profiler_config": load}))


def standing(tiny: TinyDeployment, client: Any) -> list[str]:
    """The endpoints of a tuning that are still there."""
    return [one.name for one in client.online_endpoints.list() if one.name.startswith(tiny.endpoint_name[:15])]


def test_two_variants_are_deployed_measured_and_gone_and_az_ml_deploys_the_choice(
    tiny: TinyDeployment, client: Any, cloud: Cloud
) -> None:
    from azure.ai.ml import load_online_deployment, load_online_endpoint

    tiny.write()
    # No placeholders: `az ml` knows none.
    given = tiny.folder / "deployment.yml"
    text = given.read_text().replace("<% MODEL_FOLDER_PATH %>", "./model").replace("<% CODE_FOLDER_PATH %>", "code")
    given.write_text(text.replace("<% ENVIRONMENT_FOLDER_PATH %>", "environment"))
    load = {"duration_sec": 1, "connections": 1}
    configure(tiny, load, parameters={"worker_count": [1, 2]}, constraints={"error_percent": 0})
    done = tune(tiny)
    assert done.returncode == 0, done.stderr
    summary = read_json(tiny.folder / "outputs" / "summary.json", "tuning_summary")
    assert [one["variant"] for one in summary["trials"]] == [{"worker_count": 1}, {"worker_count": 2}]
    # What the service answered, not what was asked.
    assert [one["target"]["worker_count"] for one in summary["trials"]] == [1, 2]
    assert all(one["metrics"]["succeeded_per_sec"] > 0 and one["feasible"] for one in summary["trials"])
    assert summary["pareto_axes"] == ["latency_ms_99", "core_hour_per_million_requests"]
    assert standing(tiny, client) == []
    # Nothing is deployed a second time.
    again = tune(tiny)
    assert again.returncode == 0, again.stderr
    assert "2 trials were finished before and are not run again" in again.stderr
    assert read_json(tiny.folder / "outputs" / "summary.json")["trials"] == summary["trials"]
    # As `az ml online-deployment create --file outputs/deployment.yml` does it.
    client.online_endpoints.begin_create_or_update(load_online_endpoint(tiny.folder / "endpoint.yml")).result()
    chosen = load_online_deployment(tiny.folder / "outputs" / "deployment.yml")
    client.online_deployments.begin_create_or_update(chosen).result()
    made = client.online_deployments.get("blue", tiny.endpoint_name)
    assert made.request_settings.max_concurrent_requests_per_instance == 2, "as given"
    cloud.traffic(tiny.endpoint_name, {"blue": 100})
    answer = cloud.target(tiny.endpoint_name).score().json()
    best = next(one for one in summary["trials"] if one["id"] == summary["choice"]["id"])
    assert answer["variables"]["WORKER_COUNT"] == str(best["variant"]["worker_count"])
    assert answer["model"] == ["model.onnx"]


def test_a_search_of_a_candidates_load_and_the_command_that_deploys_it(tiny: TinyDeployment, client: Any) -> None:
    tiny.write()
    (tiny.folder / "model" / "cpu-cpu_BestCandidateModel_2_model.onnx").write_text("the second")
    (tiny.folder / "parameters").mkdir()
    for name, threads in (("optimized_parameters.json", 1), ("cpu-cpu_BestCandidateModel_2_inference_config.json", 3)):
        found = {"execution_provider": [["CPUExecutionProvider", {}]]}
        options = {"session_options": {"intra_op_num_threads": threads}}
        (tiny.folder / "parameters" / name).write_text(json.dumps({**found, **options}))
    # So slow a service that nothing runs out of CPU.
    score = tiny.folder / "code" / "score.py"
    score.write_text(score.read_text().replace("def run(raw):\n", "def run(raw):\n    time.sleep(0.05)\n"))
    search = {"constraints": {"latency_ms_50": 5000}, "max_runs": 4, "probe_sec": 1}
    load = {"duration_sec": 2, "connections": {"from": 1, "to": 2}, "search": search}
    parameters = {"candidate": [2], "worker_count": [2], "max_concurrent_requests_per_instance": [8]}
    configure(tiny, load, parameters=parameters)
    done = tune(tiny, "--optimized_parameters_path", "parameters")
    assert done.returncode == 0, done.stderr
    assert standing(tiny, client) == []
    summary = read_json(tiny.folder / "outputs" / "summary.json", "tuning_summary")
    (trial,) = summary["trials"]
    assert trial["unconfirmed"] is None and trial["answer"]["axis"] == "connections"
    assert trial["answer"]["value"] == 2, "the largest that the configuration allows holds"
    assert "good answers per second at 2 connections (the most that holds" in summary["choice"]["why"]
    profiled = tiny.folder / "outputs" / "trials" / trial["id"] / "profile" / "outputs"
    report = read_json(profiled / "report.json", "report")
    assert report["search"]["answer"]["confirmed"] and len(report["runs"]) > 1
    command = summary["choice"]["command"]
    assert command in done.stderr, "it is told, to be copied"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    deployed = tiny.run(["bash", "-c", command], PATH=path)
    assert deployed.returncode == 0, deployed.stderr
    made = client.online_deployments.get("blue", tiny.endpoint_name)
    assert made.tags["model_sha256"] == hashlib.sha256(b"the second").hexdigest()
    assert made.request_settings.max_concurrent_requests_per_instance == 8
    assert made.environment_variables["WORKER_COUNT"] == "2"
    assert made.environment_variables["INTRA_OP_NUM_THREADS"] == "3", "its own session's"
