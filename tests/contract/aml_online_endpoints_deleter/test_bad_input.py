"""Each bad input ends the deleter with its exit code and one line that names file, place and remedy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

SETTINGS: dict[str, Any] = {
    "subscription_id": "11111111-1111-1111-1111-111111111111",
    "resource_group": "my-rg",
    "workspace_name": "my-ws",
    "endpoint_name": "my-endpoint",
    "deployment_name": "blue",
}


def deleter(folder: Path, *flags: str, environment: Mapping[str, str] = {}) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AZUREML_", "ARM_", "MSI_"))}
    return subprocess.run(
        [sys.executable, "-m", "aml_online_endpoints_deleter", *flags],
        cwd=folder,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def assert_one_line(result: subprocess.CompletedProcess[str], code: int, says: str) -> None:
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("aml_online_endpoints_deleter: error: ")
    assert says in line


def write(folder: Path, settings: Mapping[str, Any]) -> str:
    path = folder / "settings.json"
    path.write_text(json.dumps({"version": "1.0", "deployment_settings": settings}))
    return path.name


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ([], "--config_path: is missing; it names what is to be deleted (or sweep what the deployer has left, with "),
        (["--delete_endpoint", "True"], "--config_path: is missing"),
        (["--config_path", "settings.json"], "--delete_endpoint: is missing; True: the endpoint with all in it"),
        (["--config_path", "settings.json", "--expired"], "--expired: sweeps what the deployer has left; leave it or"),
        (["--older_than", "2"], "--older_than: '2' is not a time such as 90s, 30m, 2h or 7d"),
        (["--older_than", "0h"], "--older_than: '0h' is not a time"),
        (["--tag", "job"], "--tag: 'job' is not a tag; write it like job=my-job"),
        (["--config_path", "nowhere.json", "--delete_endpoint", "True"], "nowhere.json: no such file"),
        (["--config_path", ".", "--delete_endpoint", "True"], "is a folder, a file is needed"),
        (["--config_path", "settings.json", "--delete_endpoint", "yes"], "'yes' is not a boolean; give True or False"),
        (["--config_path", "settings.json", "--delete_endpoint", ""], "'' is not a boolean"),
        (["--config_path", "settings.json", "--delete_endpoint", "True", "--timeout_sec", "0"], "'0' is not a number"),
    ],
)
def test_bad_flags(flags: list[str], says: str, tmp_path: Path) -> None:
    write(tmp_path, SETTINGS)
    assert_one_line(deleter(tmp_path, *flags), 2, says)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "settings.json: line 1, column 1: not JSON"),
        ("{", "settings.json: line 1, column 2: not JSON"),
        ("[]", "settings.json: /: [] is not of type 'object'"),
        ('{"version": "1.0"}', "settings.json: /: 'deployment_settings' is a required property"),
        ('{"version": "1.0", "deployment_settings": 7}', "settings.json: /deployment_settings: 7 is not of type"),
        (
            '{"version": "1.0", "deployment_settings": {"endpoint": "e"}}',
            "settings.json: /deployment_settings: unknown key 'endpoint'; the keys here are ",
        ),
        (
            '{"version": "1.0", "deployment_settings": {"endpoint_name": 7}}',
            "settings.json: /deployment_settings/endpoint_name: 7 is not of type 'string'",
        ),
    ],
)
def test_bad_files(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(text)
    assert_one_line(deleter(tmp_path, "--config_path", "settings.json", "--delete_endpoint", "True"), 2, says)


@pytest.mark.parametrize(
    ("whole", "missing"), [("True", "endpoint_name"), ("False", "endpoint_name"), ("False", "deployment_name")]
)
def test_the_name_of_what_is_to_go_must_be_there(whole: str, missing: str, tmp_path: Path) -> None:
    config = write(tmp_path, {key: value for key, value in SETTINGS.items() if key != missing})
    says = f"settings.json: /deployment_settings/{missing}: is missing; it names what is to be deleted"
    assert_one_line(deleter(tmp_path, "--config_path", config, "--delete_endpoint", whole), 2, says)


def test_no_workspace(tmp_path: Path) -> None:
    config = write(tmp_path, {key: SETTINGS[key] for key in ("endpoint_name", "deployment_name")})
    says = "workspace: subscription_id, resource_group, workspace_name not given"
    assert_one_line(deleter(tmp_path, "--config_path", config, "--delete_endpoint", "True"), 2, says)


def test_unreachable_azure(tmp_path: Path) -> None:
    config = write(tmp_path, SETTINGS)
    environment = {"ARM_CLOUD_METADATA_URL": "https://127.0.0.1:9/metadata"}
    result = deleter(tmp_path, "--config_path", config, "--delete_endpoint", "True", environment=environment)
    assert_one_line(
        result, 1, "cannot be read: [Errno 111] Connection refused; it is on this machine: is the local control plane"
    )


@pytest.mark.parametrize("flag", [[], ["--dry_run"]])
def test_unreachable_resource_manager(flag: list[str], tmp_path: Path) -> None:
    config = write(tmp_path, {**SETTINGS, "identity_access_token": "opaque-token"})
    environment = {"HTTPS_PROXY": "http://127.0.0.1:9"}
    result = deleter(tmp_path, "--config_path", config, "--delete_endpoint", "True", *flag, environment=environment)
    assert_one_line(result, 1, "endpoint my-endpoint: Azure cannot be reached: ")


def test_an_expired_token_says_so(tmp_path: Path) -> None:
    expired = "e30.eyJleHAiOiAxMDAwMDAwMDAwfQ.signature"  # {"exp": 1000000000}
    config = write(tmp_path, {**SETTINGS, "identity_access_token": expired})
    environment = {"HTTPS_PROXY": "http://127.0.0.1:9"}
    result = deleter(tmp_path, "--config_path", config, "--delete_endpoint", "True", environment=environment)
    assert_one_line(result, 1, "identity_access_token: expired at 2001-09-09T01:46:40Z; get a new one")
    assert expired not in result.stderr
