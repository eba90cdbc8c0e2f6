"""The YAML is checked against itself, the disk and AzureML's own schema before anything is asked of Azure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aml_online_endpoints_deployer import definition
from aml_online_endpoints_deployer.definition import Definition
from aml_tool_core import InputError

ENDPOINT = "name: my-endpoint\nauth_mode: key\ntraffic:\n  blue: 90\n  green: 10\n"
DEPLOYMENT = """\
name: blue
endpoint_name: my-endpoint
model:
  name: my-model
  version: 1
  path: <% MODEL_FOLDER_PATH %>
code_configuration:
  code: <% CODE_FOLDER_PATH %>
  scoring_script: score.py
environment:
  conda_file: ./conda.yml
  image: mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04:latest
instance_type: Standard_F2s_v2
instance_count: 1
"""


NAMED = "name: my-endpoint\nauth_mode: key\n"


@pytest.fixture(autouse=True)
def no_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARM_CLOUD_METADATA_URL", raising=False)
    monkeypatch.delenv("AZUREML_CURRENT_CLOUD", raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.onnx").write_bytes(b"weights")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "score.py").write_text("def init(): pass\ndef run(data): return data\n")
    (tmp_path / "conda.yml").write_text("dependencies: [python=3.11]\n")
    (tmp_path / "endpoint.yml").write_text(ENDPOINT)
    (tmp_path / "deployment.yml").write_text(DEPLOYMENT)
    return tmp_path


def read(folder: Path) -> Definition:
    folders = {"MODEL_FOLDER_PATH": folder / "model", "CODE_FOLDER_PATH": folder / "code"}
    return definition.read(
        folder / "endpoint.yml", folder / "deployment.yml", {**folders, "ENVIRONMENT_FOLDER_PATH": None}
    )


def test_paths_are_filled_in_or_relative_to_the_yaml(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    deployment: Any = read(folder).deployment
    assert deployment.model.path == str(folder / "model")
    assert read(folder).local_model == folder / "model"
    assert deployment.code_configuration.code == str(folder / "code")
    assert deployment.environment.conda_file == {"dependencies": ["python=3.11"]}


def test_the_yamls_folder_need_not_be_writable(folder: Path) -> None:
    before = sorted(folder.iterdir())
    folder.chmod(0o555)
    try:
        read(folder)
    finally:
        folder.chmod(0o755)
    assert sorted(folder.iterdir()) == before


def test_traffic_is_kept_for_when_the_deployment_stands(folder: Path) -> None:
    found = read(folder)
    assert found.traffic == {"blue": 90, "green": 10}
    assert found.endpoint.traffic == {}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("name: blue\n", "", "deployment.yml: /name: is missing; add it"),
        ("name: blue\n", "name: 3\n", "deployment.yml: line 1, column 7: /name: is not text"),
        ("name: blue\n", "name: ''\n", "deployment.yml: line 1, column 7: /name: is not text"),
        ("endpoint_name: my-endpoint\n", "", "/endpoint_name: is missing; add it, e.g. `endpoint_name: my-endpoint`"),
        ("endpoint_name: my-endpoint", "endpoint_name: other", "line 2, column 16: /endpoint_name: 'other', but "),
        ("./conda.yml", "nowhere.yml", "line 11, column 15: /environment/conda_file: "),
        ("score.py", "nowhere.py", "/code_configuration/scoring_script: "),
        ("<% MODEL_FOLDER_PATH %>", "./nowhere", "line 6, column 9: /model/path: "),
        ("<% MODEL_FOLDER_PATH %>", "./empty", "the folder is empty"),
        ("<% CODE_FOLDER_PATH %>", "./broken", "score.py: line 2: not Python: "),
        ("instance_count: 1", "instance_count: many", "/instance_count: Not a valid integer"),
        ("instance_count", "instance_number", "/instance_number: Unknown field"),
        ("instance_type: Standard_F2s_v2\n", "", "/instance_type: Missing data for required field"),
        ("./conda.yml", "binary.yml", "binary.yml: byte 0: not UTF-8 text"),
        ("./conda.yml", "empty.yml", "empty.yml: is not a mapping"),
        ("./conda.yml", "code", "code: cannot be read: Is a directory"),
        ("./conda.yml", "x" * 300, "line 11, column 15: /environment/conda_file: "),
        ("<% MODEL_FOLDER_PATH %>", "x" * 300, "cannot be read: File name too long"),
        ("score.py", "x" * 300, "/code_configuration/scoring_script: "),
        ("  conda_file: ./conda.yml\n", "  build: {path: nowhere}\n", "line 11, column 17: /environment/build/path: "),
    ],
)
def test_each_fault_of_the_deployment_names_its_place(old: str, new: str, says: str, folder: Path) -> None:
    (folder / "empty").mkdir()
    (folder / "broken").mkdir()
    (folder / "binary.yml").write_bytes(b"\xff\xfe\x00")
    (folder / "empty.yml").write_text("")
    (folder / "broken" / "score.py").write_text("def init(): pass\ndef run(:\n")
    assert old in DEPLOYMENT
    (folder / "deployment.yml").write_text(DEPLOYMENT.replace(old, new, 1))
    with pytest.raises(InputError) as refusal:
        read(folder)
    assert says in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("auth_mode: key\n", "endpoint.yml: /name: is missing"),
        ("name: my-endpoint\nauth_mode: password\n", "endpoint.yml: /auth_mode: "),
        ("name: my-endpoint\nautomode: key\n", "endpoint.yml: /automode: Unknown field"),
        (f"{NAMED}traffic: {{blue: 90}}\n", "endpoint.yml: line 3, column 10: /traffic: the shares add up to 90"),
        (f"{NAMED}traffic: {{blue: '90'}}\n", "the shares add up to 90"),
        (f"{NAMED}traffic:\n  blue: -5\n  green: 105\n", "line 4, column 9: /traffic/blue: -5 is not a whole number"),
        (f"{NAMED}traffic: {{blue: 33.3, green: 66.7}}\n", "/traffic/blue: 33.3 is not a whole number from 0 to 100"),
        (f"{NAMED}traffic: {{blue: true, green: 99}}\n", "/traffic/blue: True is not a whole number"),
        (f"{NAMED}traffic: {{blue: half}}\n", "/traffic/blue/value: Not a valid integer"),
        (f"{NAMED}mirror_traffic: {{green: 12.5}}\n", "/mirror_traffic/green: 12.5 is not a whole number"),
    ],
)
def test_each_fault_of_the_endpoint_names_its_place(text: str, says: str, folder: Path) -> None:
    (folder / "endpoint.yml").write_text(text)
    with pytest.raises(InputError) as refusal:
        read(folder)
    assert says in str(refusal.value)


@pytest.mark.parametrize("shares", ["{blue: 0}", "{}", "{blue: 100.0}", "{blue: '60', green: 40}"])
def test_shares_that_azure_takes(shares: str, folder: Path) -> None:
    (folder / "endpoint.yml").write_text(f"{NAMED}traffic: {shares}\nmirror_traffic: {{green: 10}}\n")
    assert sum(read(folder).traffic.values()) in (0, 100)


def test_registered_assets_are_not_looked_for_on_disk(folder: Path) -> None:
    text = DEPLOYMENT.replace("model:\n  name: my-model\n  version: 1\n  path: <% MODEL_FOLDER_PATH %>\n",
                              "model: azureml:my-model:3\n")  # fmt: skip
    (folder / "deployment.yml").write_text(text)
    assert read(folder).deployment.model == "my-model:3"


def test_kubernetes_deployments_are_taken(folder: Path) -> None:
    (folder / "deployment.yml").write_text(DEPLOYMENT + "type: kubernetes\n")
    (folder / "endpoint.yml").write_text("name: my-endpoint\nauth_mode: key\ncompute: azureml:my-cluster\n")
    wanted = read(folder)
    assert type(wanted.deployment).__name__ == "KubernetesOnlineDeployment"
    assert type(wanted.endpoint).__name__ == "KubernetesOnlineEndpoint"


@pytest.mark.parametrize(
    "model", ["azureml:my-model:1", "{name: m, version: 1, path: azureml://jobs/a-job/outputs/model}"]
)
def test_a_model_in_azure_is_not_on_this_machine(model: str, folder: Path) -> None:
    filled = DEPLOYMENT.replace("  name: my-model\n  version: 1\n  path: <% MODEL_FOLDER_PATH %>\n", "")
    (folder / "deployment.yml").write_text(filled.replace("model:\n", f"model: {model}\n"))
    assert read(folder).local_model is None
