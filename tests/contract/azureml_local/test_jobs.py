"""Jobs where no container can run: computes, what is refused, and what a job tells when there is no Docker engine.

Jobs that really run are tested in tests/by_image/jobs.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

COMMAND_LIMIT_SEC = 600


def start(home: Path, **variables: str) -> Any:
    """Start a plane whose shell has these variables, and return the SDK's client of it."""
    from azure.ai.ml import MLClient
    from azure.identity import ManagedIdentityCredential

    words = [sys.executable, "-m", "azureml_local"]
    done = subprocess.run(
        [*words, "up", "--home", str(home)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=COMMAND_LIMIT_SEC,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = subprocess.run([*words, "env", "--home", str(home)], capture_output=True, text=True, check=True).stdout
    found = dict(re.findall(r"^export (\w+)='?(.*?)'?$", printed, re.MULTILINE))
    os.environ.update(found)  # the caller's monkeypatch puts all back
    names = ("AZUREML_ARM_SUBSCRIPTION", "AZUREML_ARM_RESOURCEGROUP", "AZUREML_ARM_WORKSPACE_NAME")
    return MLClient(ManagedIdentityCredential(), *(found[name] for name in names))


@pytest.fixture
def engineless(plane: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A client of a plane whose shell points at no engine, or has no client at all (`request.param`)."""
    home = Path(tempfile.mkdtemp(prefix="azureml_local-"))
    before = dict(os.environ)
    variables = {"DOCKER_HOST": f"unix://{home}/no-engine.sock"}
    if request.param == "no client":
        # All that the plane itself needs, and no docker.
        tools = home / "bin"
        tools.mkdir()
        for name in ("haproxy", "node", "python3", "sh", "env"):
            found = shutil.which(name)
            assert found is not None, name
            (tools / name).symlink_to(found)
        variables["PATH"] = str(tools)
    elif shutil.which("docker") is None:
        pytest.skip("no docker client on this machine: what it says without an engine cannot be seen")
    try:
        yield start(home, **variables)
    finally:
        os.environ.clear()
        os.environ.update(before)
        subprocess.run(
            [sys.executable, "-m", "azureml_local", "down", "--home", str(home)], check=False, capture_output=True
        )
        shutil.rmtree(home)


def a_command(compute: str | None = None, outputs: tuple[str, ...] = ()) -> Any:
    from azure.ai.ml import Output, command
    from azure.ai.ml.entities import Environment

    return command(
        command="true",
        environment=Environment(image="debian:bookworm-slim"),
        compute=compute,
        outputs={name: Output(type="uri_folder") for name in outputs},
    )


@pytest.mark.parametrize(
    ("engineless", "reason"),
    [
        ("no engine", "no Docker engine answers: .*no-engine.sock"),
        ("no client", "there is no docker client on the PATH of 'azureml-local up'; install one"),
    ],
    indirect=["engineless"],
)
def test_a_job_without_an_engine_fails_in_words(engineless: Any, reason: str, tmp_path: Path) -> None:
    from azure.ai.ml.exceptions import JobException

    # A named output, of which nothing was written yet, must not hide the reason.
    for outputs in ((), ("made",)):
        job = engineless.jobs.create_or_update(a_command(outputs=outputs))
        with pytest.raises(JobException, match=reason):
            engineless.jobs.stream(job.name)
        assert engineless.jobs.get(job.name).status == "Failed"
        # What the plane itself has to say is there to download.
        folder = tmp_path / job.name
        engineless.jobs.download(job.name, download_path=folder)
        assert re.search(reason, (folder / "artifacts" / "system_logs" / "lifecycle.log").read_text())


def test_a_compute_that_is_not_there_is_refused_with_the_remedy(client: Any) -> None:
    from azure.core.exceptions import ResourceNotFoundError

    with pytest.raises(ResourceNotFoundError, match="az ml compute create --name nowhere --type amlcompute"):
        client.jobs.create_or_update(a_command("nowhere"))


def test_the_life_of_a_compute(client: Any) -> None:
    from azure.ai.ml.entities import AmlCompute, IdentityConfiguration
    from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

    wanted = AmlCompute(
        name="a-cluster",
        size="Standard_F4s_v2",
        max_instances=3,
        identity=IdentityConfiguration(type="system_assigned"),
    )
    made = client.compute.begin_create_or_update(wanted).result()
    assert (made.size, made.max_instances) == ("Standard_F4s_v2", 3)
    principal = client.compute.get("a-cluster").identity.principal_id
    assert principal, "what the role is assigned to"
    wanted.max_instances = 1
    assert client.compute.begin_create_or_update(wanted).result().max_instances == 1
    assert client.compute.get("a-cluster").identity.principal_id == principal
    assert "a-cluster" in [compute.name for compute in client.compute.list()]
    with pytest.raises(HttpResponseError, match="not a known VM size"):
        client.compute.begin_create_or_update(AmlCompute(name="b-cluster", size="Standard_Unheard")).result()
    client.compute.begin_delete("a-cluster").result()
    with pytest.raises(ResourceNotFoundError):
        client.compute.get("a-cluster")


def test_what_does_not_run_here_is_refused_and_leaves_no_job(client: Any) -> None:
    from azure.core.exceptions import HttpResponseError

    job = a_command()
    job.resources = {"instance_count": 2}
    with pytest.raises(HttpResponseError, match="nothing tells the nodes apart"):
        client.jobs.create_or_update(job)
    assert list(client.jobs.list()) == []


def test_jobs_that_are_not_there(client: Any) -> None:
    from azure.core.exceptions import ResourceNotFoundError

    for call in (client.jobs.get, client.jobs.stream, client.jobs.begin_cancel):
        with pytest.raises(ResourceNotFoundError):
            call("no-such-job")


def test_a_data_asset_is_registered_and_read_back(client: Any, tmp_path: Path) -> None:
    from azure.ai.ml.entities import Data

    (tmp_path / "some.txt").write_text("content")
    path = str(tmp_path / "some.txt")
    made = client.data.create_or_update(Data(name="some-data", version="1", type="uri_file", path=path))
    assert client.data.get("some-data", "1").path == made.path
    assert made.path.endswith("some.txt")


def test_assets_count_their_own_versions_and_are_archived(client: Any, tmp_path: Path) -> None:
    from azure.ai.ml.entities import Environment, Model

    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("1")
    made = []
    for number in range(2):
        (tmp_path / "model" / "weights").write_text(str(number))
        made.append(client.models.create_or_update(Model(name="counted", path=str(tmp_path / "model"))).version)
    assert made == ["1", "2"]
    # Of an environment without a version the SDK tries the latest, and takes the next where the content differs.
    images = ("debian:bookworm-slim", "debian:bookworm-slim", "debian:trixie-slim")
    counted = [client.environments.create_or_update(Environment(name="counted", image=image)) for image in images]
    assert [environment.version for environment in counted] == ["1", "1", "2"]
    assert client.environments.get("counted", label="latest").version == "2"
    client.models.archive("counted")
    assert "counted" not in [model.name for model in client.models.list()]
    client.models.restore("counted")
    client.models.archive("counted", version="1")
    assert [model.version for model in client.models.list("counted")] == ["2"]


def test_run_history_needs_a_token_and_discovery_none(arm: Any, plane: Any) -> None:
    import httpx

    with httpx.Client(base_url=arm.base_url, verify=plane.variables["REQUESTS_CA_BUNDLE"], trust_env=False) as nobody:
        assert nobody.get("/discovery").json()["api"] == str(arm.base_url).rstrip("/")
        workspace = "/subscriptions/{AZUREML_ARM_SUBSCRIPTION}/resourceGroups/{AZUREML_ARM_RESOURCEGROUP}/providers/"
        workspace += "Microsoft.MachineLearningServices/workspaces/{AZUREML_ARM_WORKSPACE_NAME}"
        path = f"/history/v1.0{workspace.format(**plane.variables)}/runs/x"
        assert nobody.get(path).status_code == 401
        assert arm.get(path).status_code == 404
