"""The sweep template on the local control plane: its trials deploy, profile and delete a variant each."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.by_image.jobs.conftest import Submitter

REPOSITORY = Path(__file__).parents[3]
TUNING = REPOSITORY / "job-templates" / "tuning"
SCORE = "def init():\n    pass\n\n\ndef run(raw):\n    return {}\n"
CONDA = "dependencies: [python=3.11, pip, {pip: [azureml-inference-server-http]}]\n"
DEPLOYMENT = """\
name: blue
endpoint_name: swept
model:
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
PARAMETERS: dict[str, Any] = {
    "execution_provider": [["CPUExecutionProvider", {}]],
    "session_options": {"intra_op_num_threads": 2},
}


def test_a_sweep_deploys_profiles_and_deletes_every_variant(jobs: Submitter, tmp_path: Path) -> None:
    from azure.ai.ml import load_job

    folder = tmp_path / "job-templates"
    shutil.copytree(TUNING, folder / "tuning")
    # One load in the place of the template's search, which takes a minute and, on a busy machine, may find nothing.
    load = {"version": 1.0, "profiler_config": {"duration_sec": 2, "connections": 1}}
    made = "tuning/made/named-outputs"
    for name, text in {
        "swept/endpoint.yml": "name: swept\nauth_mode: key\n",
        "swept/deployment.yml": DEPLOYMENT,
        "swept/score/score.py": SCORE,
        "swept/environment/conda.yml": CONDA,
        "swept/payload.jsonl": "{}\n",
        "tuning/swept/search.json": json.dumps(load),
        f"{made}/optimized_model/model.onnx": "w",
        f"{made}/optimized_parameters/optimized_parameters.json": json.dumps(PARAMETERS),
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    values = {
        "EXAMPLE": "swept",
        "OPTIMIZER_DOWNLOAD_FOLDER": "made",
        "TUNER_IMAGE": "aml-tuner",
        "TUNER_JOB_NAME": "tuning-sweep",
        "TUNER_COMPUTE_NAME": "one-node",
    }
    text = re.sub(r"\$([A-Z_]+)", lambda found: values[found[1]], (folder / "tuning" / "sweep.yml").read_text())
    text = text.replace("values: [1, 2, 4, 8]", "values: [1]").replace("values: [1, 2, 4]", "values: [1]", 2)
    text = text.replace(
        "worker_count:\n    type: choice\n    values: [1]", "worker_count:\n    type: choice\n    values: [1, 2]"
    )
    (folder / "tuning" / "sweep.yml").write_text(text)
    sweep = jobs.ended(jobs.client.jobs.create_or_update(load_job(folder / "tuning" / "sweep.yml")))
    assert sweep.status == "Completed", jobs.reason(sweep)
    # Known by what the tuner logs of a variant that keeps the limits.
    assert sweep.properties["best_child_run_id"] in {f"{sweep.name}_{number}" for number in range(2)}
    for number in range(2):
        trial = jobs.client.jobs.get(f"{sweep.name}_{number}")
        files = jobs.files(trial)
        summary = json.loads(files["artifacts/outputs/summary.json"])
        (one,) = summary["trials"]
        assert one["variant"]["worker_count"] == one["target"]["worker_count"] == number + 1
        assert one["metrics"]["succeeded_per_sec"] > 0
    assert not [endpoint.name for endpoint in jobs.client.online_endpoints.list() if endpoint.name.startswith("swept")]
