"""What MLflow's own client logs to a job's run, in process, and the best trial by it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from azureml_local import cloud
from azureml_local.application import arm_application
from azureml_local.exceptions import InvalidRequestError
from azureml_local.models import tracking
from azureml_local.models.jobs import put_job
from azureml_local.models.store import Resource, Store
from azureml_local.models.sweeps import parse_sweep
from azureml_local.plane import Plane
from starlette.testclient import TestClient

COMMAND: dict[str, Any] = {"jobType": "Command", "command": "true", "environmentId": "/e"}


@pytest.fixture
def variables(plane: Plane) -> dict[str, str]:
    """A job's own variables for MLflow."""
    put_job(plane.store, f"{plane.workspace_id}/jobs/j", {"properties": dict(COMMAND)}, {})
    return cloud.tracking_environment(plane.home, plane.settings, plane.workspace_id, "j")


@pytest.fixture
def runs(plane: Plane, variables: dict[str, str]) -> Iterator[TestClient]:
    """An HTTP client of the runs' address that the variables name, with the token that they bring."""
    scheme, _, address = variables["MLFLOW_TRACKING_URI"].partition("://")
    host, _, path = address.partition("/")
    assert (scheme, f"https://{host}") == ("azureml", plane.settings.arm_url)
    headers = {"Authorization": f"Bearer {variables['MLFLOW_TRACKING_TOKEN']}"}
    with TestClient(arm_application(plane), headers=headers) as client:
        client.base_url = client.base_url.join(f"/{path}/api/2.0/mlflow/runs/")
        yield client


def metric(key: str, value: Any, step: int = 0, timestamp: int = 1) -> dict[str, Any]:
    return {"key": key, "value": value, "step": step, "timestamp": timestamp}


def test_what_is_logged_is_told_and_outlives_a_restart(runs: TestClient, plane: Plane) -> None:
    batch = {"metrics": [metric("a", 1.5), metric("b", 2)], "params": [{"key": "p", "value": "x"}], "tags": []}
    assert runs.post("log-batch", json={"run_id": "j", **batch}).json() == {}
    assert runs.post("log-metric", json={"run_id": "j", **metric("a", 3, timestamp=2)}).status_code == 200
    assert runs.post("log-parameter", json={"run_id": "j", "key": "q", "value": "y"}).status_code == 200
    assert runs.post("set-tag", json={"run_id": "j", "key": "t", "value": "z"}).status_code == 200
    run = runs.get("get", params={"run_id": "j"}).json()["run"]
    assert run["info"]["status"] == "SCHEDULED"
    assert {point["key"]: point["value"] for point in run["data"]["metrics"]} == {"a": 3, "b": 2}
    assert {entry["key"]: entry["value"] for entry in run["data"]["params"]} == {"p": "x", "q": "y"}
    assert run["data"]["tags"] == [{"key": "t", "value": "z"}]
    assert runs.post("update", json={"run_id": "j", "status": "FINISHED"}).json()["run_info"]["status"] == "SCHEDULED"
    again = Store(plane.home.state_path).get(f"{plane.workspace_id}/jobs/j")
    assert tracking.logged(again) == run["data"]


@pytest.mark.parametrize("entry", [{"value": 1}, {"key": "a"}, {"key": "a", "value": "much"}])
def test_what_is_no_metric_is_refused_and_nothing_of_its_batch_kept(runs: TestClient, entry: dict[str, Any]) -> None:
    answer = runs.post("log-batch", json={"run_id": "j", "metrics": [metric("good", 1), entry]})
    assert answer.status_code == 400
    assert "not a metric" in answer.json()["error"]["message"]
    assert runs.get("get", params={"run_id": "j"}).json()["run"]["data"]["metrics"] == []


def test_unknown_runs_and_missing_tokens(runs: TestClient) -> None:
    assert runs.post("log-batch", json={"run_id": "nobody"}).status_code == 404
    assert runs.get("get", params={"run_id": "j"}, headers={"Authorization": ""}).status_code == 401


def test_an_earlier_step_does_not_replace_a_later_one() -> None:
    job = Resource("/w/jobs/j", dict(COMMAND))
    tracking.log_metrics(job, [metric("loss", 0.5, step=2), metric("loss", 0.9, step=1, timestamp=9)])
    assert [point["value"] for point in tracking.logged(job)["metrics"]] == [0.5]


def trial(name: str, value: float | None, status: str = "Completed") -> Resource:
    made = Resource(f"/w/jobs/{name}", {**COMMAND, "status": status})
    if value is not None:
        tracking.log_metrics(made, [metric("score", value)])
    return made


@pytest.mark.parametrize(("is_maximized", "expected"), [(True, ("c", 7.0)), (False, ("b", -1.0))])
def test_the_best_trial_has_completed_and_has_a_number(is_maximized: bool, expected: tuple[str, float]) -> None:
    trials = [
        trial("a", 3), trial("b", -1), trial("c", 7), trial("none", None), trial("not", math.nan),
        trial("failed", 99, "Failed"), trial("canceled", -99, "Canceled"),
    ]  # fmt: skip
    best = tracking.best_trial(trials, tracking.Objective("score", is_maximized))
    assert best is not None
    assert (best[0].name, best[1]) == expected
    assert tracking.best_trial(trials, tracking.Objective("other", is_maximized)) is None


def test_a_sweeps_objective() -> None:
    sweep: dict[str, Any] = {
        "trial": {"command": "x", "environmentId": "/e"},
        "searchSpace": {"x": ["choice", [[1]]]},
        "samplingAlgorithm": {"samplingAlgorithmType": "Grid"},
    }
    assert parse_sweep(sweep).objective is None
    asked = {"goal": "Minimize", "primaryMetric": "latency_ms_99"}
    assert parse_sweep({**sweep, "objective": asked}).objective == tracking.Objective("latency_ms_99", False)
    for wrong in ({"goal": "enlarge", "primaryMetric": "x"}, {"goal": "maximize"}):
        with pytest.raises(InvalidRequestError, match="objective"):
            parse_sweep({**sweep, "objective": wrong})
