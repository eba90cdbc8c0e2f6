"""The whole chain on digits by the SDK's job calls alone: the templates, in the images, on a real control plane."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aml_tool_core import documents

if TYPE_CHECKING:
    from tests.by_image.conftest import Plane

TEMPLATES = Path(__file__).resolve().parents[3] / "job-templates"
PLACEHOLDER = re.compile(r"\$[A-Z][A-Z0-9_]*")
COMPUTE = "one-node"
IMAGES = {
    "OPTIMIZER_IMAGE": "aml-olive-optimizer",
    "DEPLOYER_IMAGE": "aml-online-endpoints-deployer",
    "PROFILER_IMAGE": "aml-wrk-profiler",
    "DELETER_IMAGE": "aml-online-endpoints-deleter",
}
PAIR_LIMIT_SEC = 1500


@dataclass
class Walk:
    """The walk through the templates: each is filled in, submitted, waited for and downloaded."""

    client: Any
    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    def fill(self, name: str) -> Path:
        """Fill a template in with envsubst, as its users do."""
        path = self.folder / name
        text = (TEMPLATES / name).read_text()
        names = sorted(set(PLACEHOLDER.findall(text)))
        assert not [word for word in names if word[1:] not in self.variables], names
        done = subprocess.run(
            ["envsubst", " ".join(names)], input=text, env=self.variables, capture_output=True, text=True, check=True
        )
        path.write_text(done.stdout)
        return path

    def run(self, name: str, download: str) -> Path:
        """Run a template's job to its end, which must be a good one; returns the downloaded folder."""
        from azure.ai.ml import load_job

        job = self.client.jobs.create_or_update(load_job(self.fill(name)))
        self.client.jobs.stream(job.name)
        assert self.client.jobs.get(job.name).status == "Completed"
        folder = self.folder / download
        self.client.jobs.download(job.name, download_path=folder, all=True)
        return folder


@pytest.fixture(scope="module")
def walk(client: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    """The templates beside the example, whose model a job has trained."""
    from azure.ai.ml import Output, command
    from azure.ai.ml.entities import Environment
    from azure.core.exceptions import ResourceNotFoundError

    folder = tmp_path_factory.mktemp("walk")
    shutil.copytree(TEMPLATES / "digits", folder / "digits", ignore=shutil.ignore_patterns("__pycache__", "model"))
    train = command(
        command="python train.py --output ${{outputs.model}}",
        code=str(folder / "digits"),
        environment=Environment(image=IMAGES["OPTIMIZER_IMAGE"]),
        outputs={"model": Output(type="uri_folder")},
        compute=COMPUTE,
    )
    job = client.jobs.create_or_update(train)
    client.jobs.stream(job.name)
    client.jobs.download(job.name, download_path=folder / "trained", output_name="model")
    shutil.copytree(folder / "trained" / "named-outputs" / "model", folder / "digits" / "model")
    made = Walk(client, folder, {**IMAGES, "ENDPOINT_NAME": "walk-endpoint", "DEPLOYMENT_NAME": "optimized"})
    made.variables["INFERENCE_SERVICE_COMPUTE_SIZE"] = "Standard_F2s_v2"
    for step in ("OPTIMIZER", "DEPLOYER", "PROFILER", "DELETER"):
        made.variables[f"{step}_COMPUTE_NAME"] = COMPUTE
        made.variables[f"{step}_JOB_NAME"] = f"walk-{step.lower()}"
        made.variables[f"{step}_DOWNLOAD_FOLDER"] = step.lower()
    yield made
    try:
        client.online_endpoints.begin_delete("walk-endpoint").result()
    except ResourceNotFoundError:
        return  # as it should be: the walk's last step has deleted it


def test_the_four_steps(walk: Walk) -> None:
    from azure.core.exceptions import ResourceNotFoundError

    optimized = walk.run("aml_olive_optimizer.yml", "optimizer") / "named-outputs"
    best = documents.read_json(optimized / "optimized_parameters" / "optimized_parameters.json", "optimized_parameters")
    assert best["session_options"] and (optimized / "optimized_model" / "model.onnx").is_file()

    for name in ("digits/endpoint.yml", "digits/deployment.yml"):
        walk.fill(name)
    deployed = walk.run("aml_online_endpoints_deployer.yml", "deployer") / "artifacts" / "outputs"
    settings = documents.read_json(deployed / "deployment_settings.json", "deployment_settings")
    assert settings["deployment_settings"]["endpoint_name"] == "walk-endpoint"

    report = documents.read_json(
        walk.run("aml_wrk_profiler.yml", "profiler") / "artifacts" / "outputs" / "report.json", "report"
    )
    assert report["result"]["requests"]["succeeded"] > 0
    assert report["resource_usage"]["CpuUtilizationPercentage"]["maximum"] > 0

    # And a sweep over the connections, on the same endpoint. With the sweep, the SDK downloads its best trial.
    walk.variables["PROFILER_JOB_NAME"] = "walk-sweep"
    fetched = walk.run("sweep.yml", "sweep") / "artifacts" / "outputs" / "report.json"
    trials = {}
    for number, connections in enumerate((1, 2, 4)):
        name = f"walk-sweep_{number}"
        folder = walk.folder / name
        walk.client.jobs.download(name, download_path=folder, all=True)
        trials[name] = documents.read_json(folder / "artifacts" / "outputs" / "report.json", "report")
        assert trials[name]["load"]["connections"] == connections
        assert trials[name]["result"]["requests"]["completed"] > 0
    best = max(trials, key=lambda name: float(trials[name]["result"]["succeeded_per_sec"]))
    assert walk.client.jobs.get("walk-sweep").properties["best_child_run_id"] == best
    assert documents.read_json(fetched) == trials[best]

    walk.run("aml_online_endpoints_deleter.yml", "deleter")
    with pytest.raises(ResourceNotFoundError):
        walk.client.online_endpoints.get("walk-endpoint")


def test_the_pipeline_for_a_pair(walk: Walk, plane: Plane, tmp_path: Path) -> None:
    """By the CI examples' own script: the pipeline job for one SKU and concurrency."""
    words = [sys.executable, str(TEMPLATES / "ci" / "run_pair.py"), "Standard_F4s_v2:2"]
    words += ["--model", str(walk.folder / "digits" / "model"), "--download", str(tmp_path / "made")]
    variables = {**os.environ, **plane.variables, **IMAGES, "PIPELINE_COMPUTE_NAME": "two-nodes"}
    done = subprocess.run(words, env=variables, capture_output=True, text=True, timeout=PAIR_LIMIT_SEC, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    made = tmp_path / "made" / "named-outputs"
    report = documents.read_json(made / "report" / "report.json", "report")
    assert report["load"]["connections"] == 2
    assert report["sla"]["criteria"]
    settings = json.loads((made / "deployment_settings" / "deployment_settings.json").read_text())
    assert settings["deployment_settings"]["sku"] == "Standard_F4s_v2"
    assert list(walk.client.online_endpoints.list()) == []
    # The gate at the pipeline's end and the one at the CI's judge alike.
    gate = [sys.executable, str(TEMPLATES / "components" / "sla_gate" / "sla_gate.py"), str(tmp_path / "made")]
    judged = subprocess.run(gate, capture_output=True, text=True, check=False)
    assert judged.returncode in (0, 3), judged.stderr
    pipeline = re.search(r"submitted (\S+)", done.stdout)
    assert pipeline is not None
    status = walk.client.jobs.get(pipeline[1]).status
    assert status == ("Completed" if judged.returncode == 0 else "Failed"), done.stdout + done.stderr
    children = {
        child.name.rpartition("_")[2]: child.status for child in walk.client.jobs.list(parent_job_name=pipeline[1])
    }
    assert [children[name] for name in ("optimize", "deploy", "profile", "delete")] == ["Completed"] * 4
