"""The main figures on AzureML's Metrics tab: logged by MLflow's client to MLflow's own server."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError

import pytest
from aml_tool_core.profiling import tracking
from aml_tool_core.profiling.tracking_client import https_uri
from mlflow.tracking import MlflowClient

if TYPE_CHECKING:
    from tests.contract.profilers.conftest import Case, Server

Serve = Callable[..., "Server"]
Aim = Callable[["Case", "Server"], "Case"]

START_LIMIT_SEC = 120.0
WORKSPACE = "subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
one = pytest.mark.parametrize("case", ["aml_labench_profiler"], indirect=True)


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start MLflow's tracking server and return its URI."""
    folder = tmp_path_factory.mktemp("mlflow")
    port = free_port()
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        # Its tracking API alone, by the server that needs nothing of MLflow's gateway and its dependencies.
        "--gunicorn-opts", "--log-level warning",
        "--backend-store-uri", f"sqlite:///{folder}/store.sqlite", "--artifacts-destination", str(folder),
    ]  # fmt: skip
    env = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(folder)}
    env |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with open(folder / "log", "w+b") as log, subprocess.Popen(command, env=env, stdout=log, stderr=log) as server:
        try:
            wait_for(f"http://127.0.0.1:{port}/health", server, folder / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(20)


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_SEC
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise AssertionError(f"MLflow's server does not answer: {log.read_text()}")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_the_figures_on_the_server_are_those_of_the_report(
    case: Case, serve: Serve, aim: Aim, mlflow_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    client = MlflowClient(mlflow_server)
    run_id = client.create_run("0").info.run_id
    case.env |= {"MLFLOW_TRACKING_URI": mlflow_server, "MLFLOW_RUN_ID": run_id}
    case.config["profiler_config"]["sla"] = {"latency_ms_50": 0}
    outcome = aim(case, serve("--delay_ms", "5", "--status", "429", "--status_every", "10")).run()
    assert outcome.code == 3, "an SLA that is missed is on the tab too"
    assert f"the main figures are logged to MLflow run {run_id}" in outcome.stderr
    logged = client.get_run(run_id).data.metrics
    report = outcome.report
    result = report["result"]
    assert logged == pytest.approx(tracking.figures(report))
    for name, one in result["latency_ms"]["percentiles"].items():
        assert logged[f"latency_ms_{name}"] == one["value"]
    assert ("service_time_ms_99" in logged) == ("service_time_ms" in result)
    assert logged["requests_sent"] == result["requests"]["sent"]
    assert logged["requests_per_sec"] == pytest.approx(result["requests_per_sec"])
    assert logged["refused_percent"] == pytest.approx(10, abs=1)
    assert logged["error_percent"] == 0
    assert (logged["valid"], logged["sla_met"]) == (float(report["verdict"]["valid"]), 0)


@one
def test_a_workspaces_own_uri_and_token_are_used(case: Case, serve: Serve, aim: Aim, certificate: str) -> None:
    workspace = serve("--certificate", certificate, "--key", "t0ken-of-the-job")
    case.env |= {
        "MLFLOW_TRACKING_URI": f"azureml://127.0.0.1:{workspace.port}/mlflow/v1.0/{WORKSPACE}",
        "MLFLOW_RUN_ID": "run-1",
        "MLFLOW_TRACKING_TOKEN": "t0ken-of-the-job",
        "REQUESTS_CA_BUNDLE": certificate,
    }
    outcome = aim(case, serve("--delay_ms", "5")).run()
    assert outcome.code == 0, outcome.stderr
    assert "logged to MLflow run run-1" in outcome.stderr
    received = workspace.stop()
    assert f"POST /mlflow/v2.0/{WORKSPACE}/api/2.0/mlflow/runs/log-batch HTTP/1.1" in received["lines"]
    assert '"key": "latency_ms_99.9"' in "".join(received["bodies"])


@one
@pytest.mark.parametrize("trouble", ["unreachable", "unknown run", "no workspace"])
def test_a_server_that_takes_nothing_is_one_warning_and_no_failure(
    case: Case, serve: Serve, aim: Aim, mlflow_server: str, trouble: str
) -> None:
    uri = {
        "unreachable": f"http://127.0.0.1:{free_port()}",
        "unknown run": mlflow_server,
        "no workspace": "azureml://x",
    }
    case.env |= {"MLFLOW_TRACKING_URI": uri[trouble], "MLFLOW_RUN_ID": "nobody"}
    outcome = aim(case, serve("--delay_ms", "5")).run()
    assert outcome.code == 0, outcome.stderr
    assert outcome.report["result"]["requests"]["sent"]
    (warning,) = [line for line in outcome.stderr.splitlines() if " WARNING " in line]
    assert "the figures are not on the Metrics tab, but in the report: MLflow: " in warning
    assert "Traceback" not in outcome.stderr


@pytest.mark.parametrize("case", ["aml_labench_profiler"], indirect=True)
def test_a_server_that_never_answers_costs_a_bounded_time(
    case: Case, serve: Serve, aim: Aim, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    report = aim(case, serve("--delay_ms", "5")).run().report
    monkeypatch.setattr(tracking, "_LIMIT_SEC", 3.0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", serve("--silent").uri)
    monkeypatch.setenv("MLFLOW_RUN_ID", "run-1")
    began = time.monotonic()
    tracking.publish(report)
    assert 3 <= time.monotonic() - began < 12
    assert "MLflow did not answer within 3 s" in caplog.text


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"])
def test_outside_a_job_nothing_is_logged(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    caplog.set_level("INFO")
    tracking.publish({})
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("given", "used"),
    [
        (f"azureml://eastus.api.azureml.ms/mlflow/v1.0/{WORKSPACE}?x=1", f"https://eastus.api.azureml.ms/mlflow/v2.0/{WORKSPACE}"),
        (f"azureml://eastus.api.azureml.ms/mlflow/v2.0/{WORKSPACE}/", f"https://eastus.api.azureml.ms/mlflow/v2.0/{WORKSPACE}"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
    ],
)  # fmt: skip
def test_the_workspaces_address(given: str, used: str) -> None:
    assert https_uri(given) == used
