"""The sweep over machine sizes, with a model of no weight: deployed, loaded, asked and deleted by the real tools."""

from __future__ import annotations

import csv
import importlib.util
import re
import signal
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from aml_tool_core import ToolError
from aml_tool_core.azure.workspace import Workspace

SWEEP = Path(__file__).parents[3] / "job-templates" / "sku-sweep" / "sweep.py"
USAGE = SWEEP.with_name("usage.py")
DATA = Path(__file__).parents[2] / "data" / "valid"
SCORE = """\
def init():
    global held
    held = bytearray(150 << 20)


def run(body):
    return {"bytes": len(body)}
"""
FILES = {
    "endpoint.yml": "name: $ENDPOINT_NAME\nauth_mode: key\n",
    "deployment.yml": """\
name: $DEPLOYMENT_NAME
endpoint_name: $ENDPOINT_NAME
model:
  path: <% MODEL_FOLDER_PATH %>
code_configuration:
  code: <% CODE_FOLDER_PATH %>
  scoring_script: score.py
environment:
  conda_file: <% ENVIRONMENT_FOLDER_PATH %>/conda.yml
  image: mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04:latest
instance_type: $INFERENCE_SERVICE_COMPUTE_SIZE
instance_count: 1
""",
    "score/score.py": SCORE,
    "environment/conda.yml": """\
name: serving
channels: [conda-forge]
dependencies:
  - python=3.11
  - pip
  - pip:
      - azureml-inference-server-http
""",
    "payload.jsonl": '{"x": 1}\n{"x": 22}\n',
    "model/model.txt": "no weights\n",
}


LIMIT_SEC = 300


@pytest.fixture
def example(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny-example"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def command(example: Path, *arguments: str) -> list[str]:
    """Return the command line; the plane of the tests is all the Azure that it knows."""
    words = [sys.executable, str(SWEEP), str(example), "--azure", "--model", f"tiny={example / 'model'}"]
    return [*words, "--work_folder", str(example.parent / "work"), *arguments]


def standing(client: Any) -> list[str]:
    return [endpoint.name for endpoint in client.online_endpoints.list() if "-sizes-" in endpoint.name]


def test_sizes_are_measured_one_by_one_and_what_does_not_fit_is_told(plane: Any, client: Any, example: Path) -> None:
    sizes = ("--size", "Local_1vCPU_128MiB", "Local_1vCPU_512MiB", "--duration_sec", "3")
    done = subprocess.run(command(example, *sizes), capture_output=True, text=True, timeout=2 * LIMIT_SEC, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not measured: tiny on Local_1vCPU_128MiB" in done.stdout
    assert "terminated by OOM" in done.stdout.partition("not measured")[2]
    (row,) = csv.DictReader((example.parent / "work" / "devices.csv").open())
    assert (row["model"], row["size"], float(row["vcpus"])) == ("tiny", "Local_1vCPU_512MiB", 1)
    assert float(row["memory_limit_bytes"]) == 512 * 1024**2
    assert 150 * 1024**2 < float(row["memory_peak_bytes"]) < 400 * 1024**2
    assert float(row["requests_per_sec"]) > 0 and float(row["network_in_bytes"]) > 0
    assert float(row["core_hours_per_million_requests"]) > 0
    assert standing(client) == []


def test_usage_tells_of_a_deployment_that_is_gone_in_a_line(plane: Any, tmp_path: Path) -> None:
    settings = DATA / "deployment_settings" / "deployer_output.json"
    report = DATA / "report" / "open_loop_of_a_deployment.json"
    words = [sys.executable, str(USAGE), "--settings_path", str(settings), "--report_path", str(report)]
    done = subprocess.run(
        [*words, "--model", "tiny", "--output", str(tmp_path / "device_usage.json")],
        capture_output=True,
        text=True,
        timeout=LIMIT_SEC,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert re.fullmatch(r"usage: error: deployment \S+ of endpoint \S+: Azure answered 404: .*\n", done.stderr)
    assert not (tmp_path / "device_usage.json").exists()


def test_azure_monitor_is_asked_again_and_its_refusal_told(plane: Any) -> None:
    spec = importlib.util.spec_from_file_location("sku_sweep_usage", USAGE)
    assert spec is not None and spec.loader is not None
    usage = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(usage)
    names = ("AZUREML_ARM_SUBSCRIPTION", "AZUREML_ARM_RESOURCEGROUP", "AZUREML_ARM_WORKSPACE_NAME")
    deployment = Workspace(*(plane.variables[name] for name in names)).deployment_resource_id("an-ep", "blue")
    minutes = [datetime(2026, 1, 1, tzinfo=timezone.utc)]
    plane.command("fault", "add", "unavailable", "--path", "**/metricDefinitions", "--retry-after-sec", "0")
    plane.command("fault", "add", "forbidden", "--path", "**/metricDefinitions")
    try:
        with pytest.raises(ToolError, match=r"^Azure Monitor: Azure answered 403: "):
            usage.ask(deployment, minutes, minutes)
    finally:
        plane.command("fault", "clear")


def test_a_sweep_that_is_ended_leaves_nothing_and_says_so(plane: Any, client: Any, example: Path) -> None:
    words = command(example, "--size", "Local_1vCPU_512MiB", "--duration_sec", "600")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        log = example.parent / "work" / "tiny" / "Local_1vCPU_512MiB" / "profile" / "log.txt"
        deadline = time.monotonic() + LIMIT_SEC
        while not log.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        (name,) = standing(client)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=LIMIT_SEC)
    assert process.returncode == 130, said
    assert f"sweep: error: interrupted; endpoint {name}: what it had deployed is deleted" in said
    assert standing(client) == []
