"""A real control plane for the session, in a temporary home, and the unmodified SDKs pointed at it."""

from __future__ import annotations

import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

UP_LIMIT_SEC = 600


@dataclass(frozen=True)
class PlaneHandle:
    """A running control plane: where its home is and the variables that `env` prints."""

    home: Path
    variables: dict[str, str]

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `azureml-local ARGUMENTS` on this home."""
        done = subprocess.run(
            [sys.executable, "-m", "azureml_local", *arguments, "--home", str(self.home)],
            capture_output=True,
            text=True,
            timeout=UP_LIMIT_SEC,
            check=False,
        )
        if check and done.returncode != 0:
            pytest.fail(f"azureml-local {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done


def read_variables(printed: str) -> dict[str, str]:
    """Read the lines that `azureml-local env` prints."""
    return dict(re.findall(r"^export (\w+)='?(.*?)'?$", printed, re.MULTILINE))


@pytest.fixture(scope="session")
def plane() -> Iterator[PlaneHandle]:
    """Start a control plane, and stop it at the end of the session.

    AZUREML_LOCAL_ENV_CACHE names a folder of built environments that outlives the session.
    """
    home = Path(tempfile.mkdtemp(prefix="azureml_local-"))
    handle = PlaneHandle(home, {})
    patch = pytest.MonkeyPatch()
    try:
        handle.command("up")
        handle.variables.update(read_variables(handle.command("env").stdout))
        for name, value in handle.variables.items():
            patch.setenv(name, value)
        yield handle
    finally:
        patch.undo()
        handle.command("down", check=False)
        if os.environ.get("AZUREML_LOCAL_KEEP_HOME"):
            print(f"kept: {home}")
        else:
            shutil.rmtree(home)


@pytest.fixture(scope="session")
def credential(plane: PlaneHandle) -> Any:
    """The credential that AzureML computes use."""
    from azure.identity import ManagedIdentityCredential

    return ManagedIdentityCredential()


@pytest.fixture(scope="session")
def client(plane: PlaneHandle, credential: Any) -> Any:
    """The unmodified SDK's client of the workspace."""
    from azure.ai.ml import MLClient

    return MLClient(
        credential,
        plane.variables["AZUREML_ARM_SUBSCRIPTION"],
        plane.variables["AZUREML_ARM_RESOURCEGROUP"],
        plane.variables["AZUREML_ARM_WORKSPACE_NAME"],
    )


# What follows is about deployments; the fixtures above need none of it.

CONDA = """\
name: serving
channels: [conda-forge]
dependencies:
  - python=3.11
  - pip
  - pip:
      - azureml-inference-server-http
"""
SCORE = """\
import json
import os
import time


def init():
    global weights
    folder = os.path.join(os.environ["AZUREML_MODEL_DIR"], os.environ.get("MODEL_FOLDER_NAME", "weights"))
    with open(os.path.join(folder, "weights.json")) as stream:
        weights = json.load(stream)
    print("weights are", weights)


def run(raw):
    request = json.loads(raw)
    if request.get("fail"):
        raise ValueError("asked to fail")
    if request.get("exit"):
        os.kill(os.getppid(), 9)
    time.sleep(request.get("sleep_sec", 0))
    end = time.process_time() + request.get("burn_sec", 0)
    while time.process_time() < end:
        pass
    total = sum(weight * x for weight, x in zip(weights, request.get("x", [])))
    return {"sum": total, "greeting": os.environ.get("GREETING"), "parent": os.getppid()}
"""
CRASH = """\
def init():
    raise RuntimeError("no weights today")


def run(raw):
    return None
"""


@dataclass(frozen=True)
class Target:
    """An endpoint and how to call it."""

    uri: str
    key: str
    http: httpx.Client

    def score(self, body: Any = None, *, key: str | None = None, deployment: str | None = None) -> httpx.Response:
        """Post one request."""
        headers = {"Authorization": f"Bearer {self.key if key is None else key}", "Content-Type": "application/json"}
        if deployment is not None:
            headers["azureml-model-deployment"] = deployment
        return self.http.post(self.uri, content=json.dumps({"x": [1, 2, 3]} if body is None else body), headers=headers)


@dataclass(frozen=True)
class Cloud:
    """Deploying and scoring, in the words of the tests."""

    client: Any
    sources: Path
    http: httpx.Client

    def endpoint(self, name: str, auth_mode: str = "key") -> Any:
        """Create an endpoint."""
        from azure.ai.ml.entities import ManagedOnlineEndpoint

        wanted = ManagedOnlineEndpoint(name=name, auth_mode=auth_mode)
        return self.client.online_endpoints.begin_create_or_update(wanted).result()

    def deploy(self, endpoint: str, name: str, *, script: str = "score.py", conda: str = CONDA, **options: Any) -> Any:
        """Create or update a deployment and wait for it."""
        from azure.ai.ml.entities import (
            CodeConfiguration,
            Environment,
            ManagedOnlineDeployment,
            Model,
            OnlineRequestSettings,
        )

        conda_path = self.sources / f"conda-{abs(hash(conda))}.yml"
        conda_path.write_text(conda)
        settings = OnlineRequestSettings(**options.pop("settings", {}))
        deployment = ManagedOnlineDeployment(
            name=name,
            endpoint_name=endpoint,
            model=Model(name="weights", version="1", path=str(self.sources / "weights")),
            code_configuration=CodeConfiguration(code=str(self.sources / "code"), scoring_script=script),
            environment=Environment(conda_file=str(conda_path), image="mcr.microsoft.com/any:latest"),
            instance_type=options.pop("instance_type", "Standard_F2s_v2"),
            instance_count=options.pop("instance_count", 1),
            request_settings=settings,
            **options,
        )
        return self.client.online_deployments.begin_create_or_update(deployment).result()

    def traffic(self, endpoint: str, weights: dict[str, int]) -> Any:
        """Set the traffic weights."""
        present = self.client.online_endpoints.get(endpoint)
        present.traffic = weights
        return self.client.online_endpoints.begin_create_or_update(present).result()

    def target(self, endpoint: str) -> Target:
        """Return the endpoint's URI and key."""
        uri = self.client.online_endpoints.get(endpoint).scoring_uri
        return Target(uri, self.client.online_endpoints.get_keys(endpoint).primary_key, self.http)

    def delete(self, endpoint: str) -> None:
        """Delete an endpoint."""
        self.client.online_endpoints.begin_delete(endpoint).result()


@pytest.fixture(scope="session")
def cloud(plane: PlaneHandle, client: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """The plane with code and a model to deploy."""
    sources = tmp_path_factory.mktemp("sources")
    (sources / "code").mkdir()
    (sources / "weights").mkdir()
    (sources / "code" / "score.py").write_text(SCORE)
    (sources / "code" / "crash.py").write_text(CRASH)
    (sources / "weights" / "weights.json").write_text("[1, 10, 100]")
    context = ssl.create_default_context(cafile=plane.variables["REQUESTS_CA_BUNDLE"])
    # No connection is kept: a gateway reload must show to new connections, not to the pool's luck.
    limits = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(verify=context, trust_env=False, timeout=30, limits=limits) as http:
        yield Cloud(client, sources, http)


@pytest.fixture(scope="session")
def shared(cloud: Cloud) -> Iterator[Target]:
    """An endpoint with one deployment, `blue`, that gets all the traffic; tests leave it as it is."""
    cloud.endpoint("shared-ep")
    cloud.deploy(
        "shared-ep",
        "blue",
        environment_variables={"GREETING": "hello", "MODEL_FOLDER_NAME": "weights", "WORKER_COUNT": "2"},
        settings={"max_concurrent_requests_per_instance": 1, "request_timeout_ms": 2000},
    )
    cloud.traffic("shared-ep", {"blue": 100})
    yield cloud.target("shared-ep")
    cloud.delete("shared-ep")


@pytest.fixture(scope="session")
def arm(plane: PlaneHandle, credential: Any) -> Iterator[httpx.Client]:
    """A plain HTTP client of the REST API, with a token."""
    url = plane.variables["ARM_CLOUD_METADATA_URL"].split("/metadata")[0]
    context = ssl.create_default_context(cafile=plane.variables["REQUESTS_CA_BUNDLE"])
    headers = {"Authorization": f"Bearer {credential.get_token(f'{url}/.default').token}"}
    with httpx.Client(base_url=url, verify=context, trust_env=False, headers=headers) as client:
        yield client


@dataclass(frozen=True)
class TinyDeployment:
    """A folder with all that a deployment needs: endpoint.yml, deployment.yml, score.py, conda.yml, a model."""

    folder: Path
    endpoint_name: str

    @property
    def settings(self) -> Path:
        """Where the deployer leaves its output."""
        return self.folder / "outputs" / "deployment_settings.json"

    @property
    def note(self) -> Path:
        """Where the deployer leaves a note of what stands, when a run does not end well."""
        return self.folder / "outputs" / "deployment_settings.partial.json"

    def deployer(self, *flags: str) -> list[str]:
        """Return the deployer's command line."""
        paths = {"endpoint_yaml": "endpoint.yml", "deployment_yaml": "deployment.yml"}
        folders = {"model": "model", "code": "code", "environment": "environment"}
        command = [sys.executable, "-m", "aml_online_endpoints_deployer"]
        for name, value in {**paths, **{f"{name}_folder": value for name, value in folders.items()}}.items():
            command += [f"--{name}_path", value]
        return [*command, *flags]

    def deleter(self, config: Path, delete_endpoint: str, *flags: str) -> list[str]:
        """Return the deleter's command line."""
        tool = [sys.executable, "-m", "aml_online_endpoints_deleter"]
        return [*tool, "--config_path", str(config), "--delete_endpoint", delete_endpoint, *flags]

    def run(self, command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a tool in the folder."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=UP_LIMIT_SEC,
            check=False,
        )

    def write(self, deployment: str = "blue", endpoint: str = "", **variables: str) -> None:
        """Write the YAML files: `endpoint` is appended to the endpoint's, the variables are the deployment's."""
        lines = "".join(f"  {name}: '{value}'\n" for name, value in variables.items())
        (self.folder / "endpoint.yml").write_text(f"name: {self.endpoint_name}\nauth_mode: key\n{endpoint}")
        (self.folder / "deployment.yml").write_text(
            _TINY_DEPLOYMENT.format(deployment=deployment, endpoint=self.endpoint_name)
            + (f"environment_variables:\n{lines}" if lines else "")
        )


# What the variables ask of it, it does: crash, or take its time, before it is ready.
_TINY_SCORE = """\
import json, os, time

def init():
    time.sleep(float(os.environ.get("INIT_SEC", "0")))
    if os.environ.get("CRASH"):
        raise RuntimeError("no weights today")

def run(raw):
    folder = os.path.join(os.environ["AZUREML_MODEL_DIR"], os.environ["MODEL_FOLDER_NAME"])
    return {"variables": dict(os.environ), "model": os.listdir(folder)}
"""
_TINY_CONDA = """\
name: serving
channels: [conda-forge]
dependencies:
  - python=3.11
  - pip
  - pip:
      - azureml-inference-server-http
"""
_TINY_DEPLOYMENT = """\
name: {deployment}
endpoint_name: {endpoint}
model:
  name: {endpoint}-model
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
request_settings:
  max_concurrent_requests_per_instance: 2
"""


@pytest.fixture
def tiny(plane: PlaneHandle, client: Any, tmp_path: Path) -> Iterator[TinyDeployment]:
    """Make a tiny deployment's folder, for an endpoint of its own that is gone after the test."""
    from azure.core.exceptions import ResourceNotFoundError

    made = TinyDeployment(tmp_path, f"tiny-{tmp_path.name[-20:].strip('_').replace('_', '-')}")
    for name, text in {
        "code/score.py": _TINY_SCORE,
        "environment/conda.yml": _TINY_CONDA,
        "model/model.onnx": "w",
    }.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    made.write()
    yield made
    try:
        client.online_endpoints.begin_delete(made.endpoint_name).result()
    except ResourceNotFoundError:
        return  # the test has removed it itself
