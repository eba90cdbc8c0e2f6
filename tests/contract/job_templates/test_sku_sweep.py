"""The sweep over machine sizes, with a model of no weight: deployed, loaded, asked and deleted by the real tools."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

SWEEP = Path(__file__).parents[3] / "job-templates" / "sku-sweep" / "sweep.py"
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


def test_sizes_are_measured_one_by_one_and_what_does_not_fit_is_told(plane: Any, client: Any, tmp_path: Path) -> None:
    example = tmp_path / "tiny-example"
    for name, text in FILES.items():
        (example / name).parent.mkdir(parents=True, exist_ok=True)
        (example / name).write_text(text)
    words = [sys.executable, str(SWEEP), str(example), "--azure", "--model", f"tiny={example / 'model'}"]
    words += ["--size", "Local_1vCPU_128MiB", "Local_1vCPU_512MiB", "--duration_sec", "3"]
    done = subprocess.run(
        [*words, "--work_folder", str(tmp_path / "work")], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not measured: tiny on Local_1vCPU_128MiB" in done.stdout
    assert "terminated by OOM" in done.stdout.partition("not measured")[2]
    (row,) = csv.DictReader((tmp_path / "work" / "devices.csv").open())
    assert (row["model"], row["size"], float(row["vcpus"])) == ("tiny", "Local_1vCPU_512MiB", 1)
    assert float(row["memory_limit_bytes"]) == 512 * 1024**2
    assert 150 * 1024**2 < float(row["memory_peak_bytes"]) < 400 * 1024**2
    assert float(row["requests_per_sec"]) > 0 and float(row["network_in_bytes"]) > 0
    assert float(row["core_hours_per_million_requests"]) > 0
    names = {endpoint.name for endpoint in client.online_endpoints.list()}
    assert "tiny-example-sizes" not in names
