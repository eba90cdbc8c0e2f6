"""Each bad input ends the deployer with its exit code and one line that names file, place and remedy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

JOB = {
    "AZUREML_ARM_SUBSCRIPTION": "11111111-1111-1111-1111-111111111111",
    "AZUREML_ARM_RESOURCEGROUP": "my-rg",
    "AZUREML_ARM_WORKSPACE_NAME": "my-ws",
}
FILES = {
    "endpoint.yml": "name: my-endpoint\nauth_mode: key\n",
    "deployment.yml": (
        "name: blue\n"
        "endpoint_name: my-endpoint\n"
        "model: {name: my-model, version: 1, path: <% MODEL_FOLDER_PATH %>}\n"
        "code_configuration: {code: code, scoring_script: score.py}\n"
        "environment: {image: an-image, conda_file: conda.yml}\n"
        "instance_type: Standard_F2s_v2\n"
        "instance_count: 1\n"
    ),
    "conda.yml": "dependencies: [python=3.11]\n",
    "code/score.py": "def init(): pass\ndef run(data): return data\n",
    "model/model.onnx": "weights",
    "parameters.json": json.dumps({"execution_provider": [["CPUExecutionProvider", {}]]}),
}
FLAGS = {
    "--endpoint_yaml_path": "endpoint.yml",
    "--deployment_yaml_path": "deployment.yml",
    "--model_folder_path": "model",
    "--optimized_parameters_path": "parameters.json",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def deployer(
    folder: Path, flags: Sequence[str], environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AZUREML_", "ARM_", "MSI_"))}
    return subprocess.run(
        [sys.executable, "-m", "aml_online_endpoints_deployer", *flags],
        cwd=folder,
        env={**clean, **(JOB if environment is None else environment)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def flags(**changes: str | None) -> list[str]:
    wanted = {**FLAGS, **{f"--{name}": value for name, value in changes.items()}}
    return [part for name, value in wanted.items() if value is not None for part in (name, value)]


def assert_one_line(result: subprocess.CompletedProcess[str], code: int, says: str, folder: Path) -> None:
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("aml_online_endpoints_deployer: error: ")
    assert says in line
    assert not (folder / "outputs").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"traffic": "101"}, "--traffic: '101' is not a whole number from 0 to 100"),
        ({"traffic": "half"}, "--traffic: 'half' is not a whole number"),
        ({"expires_after": "soon"}, "--expires_after: 'soon' is not a time such as 90s, 30m, 2h or 7d"),
        ({"endpoint_yaml_path": None}, "required: --endpoint_yaml_path; see aml_online_endpoints_deployer --help"),
        ({"endpoint_yaml_path": "nowhere.yml"}, "--endpoint_yaml_path: nowhere.yml: no such file"),
        ({"deployment_yaml_path": "model"}, "--deployment_yaml_path: model: is a folder, a file is needed"),
        ({"model_folder_path": "nowhere"}, "--model_folder_path: nowhere: no such file or folder"),
        ({"model_folder_path": "endpoint.yml"}, "--model_folder_path: endpoint.yml: is a file, a folder is needed"),
        ({"model_folder_path": ""}, "--model_folder_path: the path is empty"),
        ({"model_folder_path": None}, "the placeholder <% MODEL_FOLDER_PATH %> needs the flag --model_folder_path"),
        ({"optimized_parameters_path": "nowhere.json"}, "--optimized_parameters_path: nowhere.json: no such file"),
        ({"optimized_parameters_path": "model"}, "model: holds neither optimized_parameters.json nor"),
        ({"timeout_sec": "soon"}, "--timeout_sec: 'soon' is not a number of seconds"),
        ({"timeout_sec": "-1"}, "--timeout_sec: '-1' is not a number of seconds"),
        ({"model_path": "model"}, "unrecognized arguments: --model_path model"),
    ],
)
def test_bad_flags(changes: dict[str, str | None], says: str, folder: Path) -> None:
    assert_one_line(deployer(folder, flags(**changes)), 2, says, folder)


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("parameters.json", "{", "[", "parameters.json: line 1, column "),
        ("parameters.json", '"execution_provider"', '"execution_providers"', "parameters.json: /: "),
        ("parameters.json", '[["CPUExecutionProvider", {}]]', "7", "parameters.json: /execution_provider: "),
        ("endpoint.yml", "key\n", "[key\n", "endpoint.yml: line 3, column 1: not YAML"),
        ("endpoint.yml", "my-endpoint", "$ENDPOINT_NAME", "endpoint.yml: line 1, column 7: $ENDPOINT_NAME was not"),
        ("endpoint.yml", "my-endpoint", "your-endpoint", "deployment.yml: line 2, column 16: /endpoint_name: "),
        ("endpoint.yml", "key\n", "key\ntypo: 1\n", "endpoint.yml: /typo: Unknown field"),
        ("deployment.yml", "MODEL_FOLDER", "MODELS_FOLDER", "line 3, column 43: unknown placeholder <% MODELS_"),
        ("deployment.yml", "name: blue\n", "", "deployment.yml: /name: is missing"),
        ("deployment.yml", "code: code", "code: cod", "deployment.yml: line 4, column 28: /code_configuration/code: "),
        ("deployment.yml", "_count: 1", "_count: one", "deployment.yml: /instance_count: Not a valid integer"),
        (
            "deployment.yml",
            "model: {",
            "model: 7 #{",
            "line 3, column 8: /model: a mapping, or the name of an asset is ",
        ),
        (
            "deployment.yml",
            "code_configuration: {",
            "code_configuration: [] #{",
            "/code_configuration: a mapping is need",
        ),
        ("code/score.py", "pass", "pas s", "score.py: line 1: not Python: "),
    ],
)
def test_bad_files(file: str, old: str, new: str, says: str, folder: Path) -> None:
    assert old in FILES[file]
    (folder / file).write_text(FILES[file].replace(old, new, 1))
    assert_one_line(deployer(folder, flags()), 2, says, folder)


def test_no_workspace(folder: Path) -> None:
    result = deployer(folder, flags(resource_group="my-rg"), environment={})
    says = "workspace: subscription_id, workspace_name not given; give them, or set AZUREML_ARM_SUBSCRIPTION, "
    assert_one_line(result, 2, says, folder)


def test_unreachable_azure(folder: Path) -> None:
    environment = {**JOB, "ARM_CLOUD_METADATA_URL": "https://127.0.0.1:9/metadata", "AZUREML_CURRENT_CLOUD": "Local"}
    says = "https://127.0.0.1:9/metadata: the cloud metadata cannot be read: [Errno 111] Connection refused; it is on "
    settings = folder / "outputs" / "deployment_settings.json"
    settings.parent.mkdir()
    settings.write_text("{}")
    result = deployer(folder, flags(), environment)
    assert result.returncode == 1
    *before, error = result.stderr.splitlines()
    assert any("the settings of an earlier run are outputs/deployment_settings.earlier." in line for line in before)
    assert says in error and "is the local control plane running?" in error
    assert not settings.exists()
    (kept,) = settings.parent.iterdir()
    assert kept.read_text() == "{}"


def test_unreachable_resource_manager(folder: Path) -> None:
    """The credential is a token of Azure's managed identity, which is asked first."""
    environment = {**JOB, "MSI_ENDPOINT": "http://127.0.0.1:9/MSI/auth", "MSI_SECRET": "none"}
    result = deployer(folder, flags(), environment)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("aml_online_endpoints_deployer: error: endpoint my-endpoint: ")
    assert not (folder / "outputs" / "deployment_settings.json").exists()


def test_help_needs_no_slow_import(folder: Path) -> None:
    script = (
        "import sys; from aml_online_endpoints_deployer.command import TOOL; from aml_tool_core.main import parser; "
        "parser(TOOL).format_help(); print([name for name in sys.modules if name.startswith('azure.ai')])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
