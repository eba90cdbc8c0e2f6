"""Through the unmodified SDKs and HTTP clients, against a real control plane."""

from __future__ import annotations

import concurrent.futures
import datetime as dt
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

CONDA = """\
name: serving
channels: [conda-forge]
dependencies:
  - python=3.11
  - pip
  - pip:
      - azureml-inference-server-http
"""
SCORE = '''\
import json, os, time

def init():
    global weights, folder
    folder = os.path.join(os.environ["AZUREML_MODEL_DIR"], os.environ.get("MODEL_FOLDER_NAME", "weights"))
    weights = json.load(open(os.path.join(folder, "weights.json")))
    print("weights are", weights, "greeting is", os.environ.get("GREETING"))

def run(raw):
    request = json.loads(raw)
    if request.get("fail"):
        raise ValueError("asked to fail")
    time.sleep(request.get("sleep_sec", 0))
    return {"sum": sum(w * x for w, x in zip(weights, request.get("x", []))), "greeting": os.environ.get("GREETING"),
            "pid": os.getpid(), "headers": None}
'''


@dataclass(frozen=True)
class Sources:
    """Folders that a deployment is made from."""

    code: Path
    model: Path
    conda: Path


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    root = tmp_path_factory.mktemp("sources")
    code, model = root / "code", root / "weights"
    code.mkdir()
    model.mkdir()
    (code / "score.py").write_text(SCORE)
    (code / "crash.py").write_text("def init():\n    raise RuntimeError('no weights today')\ndef run(raw):\n    return 1\n")
    (model / "weights.json").write_text("[1, 10, 100]")
    (root / "conda.yml").write_text(CONDA)
    return Sources(code, model, root / "conda.yml")


Deploy = Callable[..., Any]


@pytest.fixture(scope="session")
def deploy(client: Any, sources: Sources) -> Deploy:
    from azure.ai.ml.entities import (
        CodeConfiguration,
        Environment,
        ManagedOnlineDeployment,
        Model,
        OnlineRequestSettings,
    )

    def create(endpoint: str, name: str, script: str = "score.py", conda: Path | None = None, **options: Any) -> Any:
        settings = OnlineRequestSettings(**options.pop("settings", {"max_concurrent_requests_per_instance": 1}))
        deployment = ManagedOnlineDeployment(
            name=name,
            endpoint_name=endpoint,
            model=Model(name="weights", version="1", path=str(sources.model)),
            code_configuration=CodeConfiguration(code=str(sources.code), scoring_script=script),
            environment=Environment(conda_file=str(conda or sources.conda), image="mcr.microsoft.com/any:latest"),
            instance_type=options.pop("instance_type", "Standard_F2s_v2"),
            instance_count=options.pop("instance_count", 1),
            environment_variables=options.pop("environment_variables", {}),
            request_settings=settings,
            **options,
        )
        return client.online_deployments.begin_create_or_update(deployment).result()

    return create


def make_endpoint(client: Any, name: str, auth_mode: str = "key") -> Any:
    from azure.ai.ml.entities import ManagedOnlineEndpoint

    return client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name=name, auth_mode=auth_mode)).result()


def set_traffic(client: Any, name: str, traffic: dict[str, int]) -> Any:
    endpoint = client.online_endpoints.get(name)
    endpoint.traffic = traffic
    return client.online_endpoints.begin_create_or_update(endpoint).result()


@dataclass
class Target:
    """An endpoint and how to call it."""

    name: str
    uri: str
    key: str
    http: httpx.Client

    def score(self, body: Any = None, key: str | None = None, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.post(
            self.uri,
            content=json.dumps(body if body is not None else {"x": [1, 2, 3]}),
            headers={"Authorization": f"Bearer {key or self.key}", "Content-Type": "application/json", **named},
        )


def target_of(client: Any, plane: Any, name: str) -> Target:
    endpoint = client.online_endpoints.get(name)
    key = client.online_endpoints.get_keys(name).primary_key
    import ssl

    context = ssl.create_default_context(cafile=plane.variables["REQUESTS_CA_BUNDLE"])
    return Target(name, endpoint.scoring_uri, key, httpx.Client(verify=context, trust_env=False, timeout=30))


@pytest.fixture(scope="session")
def target(client: Any, plane: Any, deploy: Deploy) -> Iterator[Target]:
    make_endpoint(client, "shared-ep")
    deploy(
        "shared-ep",
        "blue",
        environment_variables={"GREETING": "hello", "MODEL_FOLDER_NAME": "weights", "WORKER_COUNT": "1"},
    )
    set_traffic(client, "shared-ep", {"blue": 100})
    yield target_of(client, plane, "shared-ep")
    client.online_endpoints.begin_delete("shared-ep").result()


def test_scores_with_the_model_and_the_variables(target: Target) -> None:
    answer = target.score({"x": [1, 2, 3]})
    assert answer.status_code == 200, answer.text
    assert answer.json()["sum"] == 321
    assert answer.json()["greeting"] == "hello"
    assert answer.headers["azureml-model-deployment"] == "blue"
    assert answer.headers["x-request-id"]
