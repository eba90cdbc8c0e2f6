"""The deployer, in its image, on the local control plane."""

from __future__ import annotations

import json
import os
import ssl
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aml_tool_core import documents

if TYPE_CHECKING:
    from tests.by_image.conftest import Plane, TrackedContainer

ENDPOINT = "name: image-endpoint\nauth_mode: key\n"
DEPLOYMENT = """\
name: blue
endpoint_name: image-endpoint
model:
  name: adder
  version: 1
  path: <% MODEL_FOLDER_PATH %>
code_configuration:
  code: <% CODE_FOLDER_PATH %>
  scoring_script: score.py
environment:
  conda_file: <% ENVIRONMENT_FOLDER_PATH %>/conda.yml
  image: mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04:latest
instance_type: Standard_F2s_v2
instance_count: 1
"""
CONDA = """\
dependencies:
  - python=3.11
  - pip
  - pip:
      - azureml-inference-server-http
"""
SCORE = """\
import json
import os
import ssl
import os
from pathlib import Path


def init():
    global term
    folder = Path(os.environ["AZUREML_MODEL_DIR"]) / os.environ["MODEL_FOLDER_NAME"]
    term = json.loads((folder / "term.json").read_text())


def run(raw):
    return {"sum": json.loads(raw)["number"] + term, "threads": os.environ["INTRA_OP_NUM_THREADS"]}
"""
PARAMETERS = {
    "execution_provider": [["CPUExecutionProvider", {}]],
    "session_options": {
        "execution_mode": 0,
        "graph_optimization_level": 99,
        "inter_op_num_threads": 1,
        "intra_op_num_threads": 2,
        "extra_session_config": None,
    },
}


@pytest.fixture
def job(work: Path) -> Path:
    """The files of a small deployment, laid out as a job's inputs."""
    files = {
        "endpoint.yml": ENDPOINT,
        "deployment.yml": DEPLOYMENT,
        "model/term.json": "40",
        "environment/conda.yml": CONDA,
        "code/score.py": SCORE,
        "optimized_parameters.json": json.dumps(PARAMETERS),
    }
    for name, content in files.items():
        (work / name).parent.mkdir(exist_ok=True)
        (work / name).write_text(content)
    return work


@pytest.mark.parametrize("user", [None, "0:0"])
def test_deploys_a_model_that_then_scores(
    container: TrackedContainer, plane: Plane, client: Any, job: Path, user: str | None
) -> None:
    flags = {
        "endpoint_yaml_path": "endpoint.yml",
        "deployment_yaml_path": "deployment.yml",
        "model_folder_path": "model",
        "environment_folder_path": "environment",
        "code_folder_path": "code",
        "optimized_parameters_path": "optimized_parameters.json",
    }
    words = [word for flag, value in flags.items() for word in (f"--{flag}", value)]
    try:
        finished = container.run(
            "python", "-m", "aml_online_endpoints_deployer", *words,
            work=job, user=user, limit_sec=500, **plane.for_containers,
        )  # fmt: skip
        assert finished.exit_code == 0, finished.stderr
        settings = documents.read_json(job / "outputs" / "deployment_settings.json", "deployment_settings")
        assert settings["deployment_settings"]["deployment_name"] == "blue"
        assert _score({"number": 2}, client) == {"sum": 42, "threads": "2"}
    finally:
        client.online_endpoints.begin_delete(name="image-endpoint").result()


def test_a_service_that_cannot_be_reached_is_said_in_one_line(
    container: TrackedContainer, plane: Plane, job: Path
) -> None:
    finished = container.run(
        "python", "-m", "aml_online_endpoints_deployer", "--endpoint_yaml_path", "endpoint.yml",
        "--deployment_yaml_path", "deployment.yml", "--model_folder_path", "model",
        "--environment_folder_path", "environment", "--code_folder_path", "code",
        work=job, limit_sec=200, **{**plane.for_containers, "network": "none"},
    )  # fmt: skip
    assert finished.exit_code == 1
    assert "Traceback" not in finished.stderr
    assert finished.stderr.splitlines()[-1].startswith("aml_online_endpoints_deployer: error: ")


def _score(body: Any, client: Any) -> Any:
    endpoint = client.online_endpoints.get("image-endpoint")
    key = client.online_endpoints.get_keys("image-endpoint").primary_key
    request = urllib.request.Request(
        endpoint.scoring_uri,
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    trusted = ssl.create_default_context(cafile=os.environ["REQUESTS_CA_BUNDLE"])
    with urllib.request.urlopen(request, timeout=30, context=trusted) as answer:
        return json.load(answer)
