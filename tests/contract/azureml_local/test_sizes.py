"""Deployments are held to their size, and what goes beyond it is told in the service's words."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError

LIMIT_SEC = 120
GREEDY = """\
import json
import os


def init():
    global held
    held = [bytearray(int(os.environ.get("INIT_MIB", "0")) << 20)]


def run(raw):
    held.append(bytearray(json.loads(raw).get("mib", 0) << 20))
    return {"cpus": len(os.sched_getaffinity(0)), "parent": os.getppid()}
"""
SIZE = "Local_1vCPU_256MiB"


@pytest.fixture(scope="module")
def sized(plane: Any, cloud: Any) -> Iterator[Any]:
    """An endpoint with a deployment of one vCPU and 256 MiB."""
    (cloud.sources / "code" / "greedy.py").write_text(GREEDY)
    cloud.endpoint("sized-ep")
    cloud.deploy(
        "sized-ep", "blue", script="greedy.py", instance_type=SIZE, settings={"max_concurrent_requests_per_instance": 2}
    )
    cloud.traffic("sized-ep", {"blue": 100})
    yield cloud.target("sized-ep")
    cloud.delete("sized-ep")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_SEC
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.2)


def test_a_deployment_says_what_holds_it(cloud: Any, sized: Any) -> None:
    properties = cloud.client.online_deployments.get("blue", "sized-ep").properties
    assert properties["azureml_local.limits"].startswith("1 vCPU, 256 MiB (")
    assert f"{SIZE}: each instance gets 1 vCPU, 256 MiB" in logs(cloud, "blue")
    assert sized.score({}).json()["cpus"] == 1


def test_a_size_larger_than_the_machine_gets_what_there_is(cloud: Any, sized: Any) -> None:
    cloud.deploy("sized-ep", "large", script="greedy.py", instance_type="Standard_NC64as_T4_v3")
    assert "Standard_NC64as_T4_v3 has 64 vCPUs, this machine " in logs(cloud, "large")
    assert sized.score({}, deployment="large").status_code == 200
    cloud.client.online_deployments.begin_delete("large", "sized-ep").result()


def test_a_model_that_does_not_fit_fails_the_deployment(cloud: Any, sized: Any) -> None:
    with pytest.raises(HttpResponseError) as raised:
        cloud.deploy(
            "sized-ep", "big", script="greedy.py", instance_type=SIZE, environment_variables={"INIT_MIB": "600"}
        )
    error: Any = raised.value.error
    assert error.code == "OutOfMemory"
    assert "terminated by OOM" in error.message and "256 MiB" in error.message and "instance_type" in error.message
    assert "OutOfMemory: The container was terminated by OOM" in logs(cloud, "big")
    cloud.client.online_deployments.begin_delete("big", "sized-ep").result()


def test_a_request_that_does_not_fit_is_told_and_the_instance_comes_back(cloud: Any, sized: Any) -> None:
    parent = sized.score({"mib": 10}).json()["parent"]
    assert "OutOfMemory" not in logs(cloud, "blue")
    status = sized.score({"mib": 900}).status_code
    if "cgroup" in cloud.client.online_deployments.get("blue", "sized-ep").properties["azureml_local.limits"]:
        # The kernel ends the server while it works at it: no answer of the script's.
        assert status in (408, 502, 503)
    wait_for(lambda: "OutOfMemory: The container was terminated by OOM" in logs(cloud, "blue"))

    def is_back() -> bool:
        # Its parent may have put another worker in the place of the one that went, until it goes itself.
        found = sized.score({})
        return found.status_code == 200 and bool(found.json()["parent"] != parent)

    wait_for(is_back)


def test_each_instance_has_its_figures(plane: Any, cloud: Any, credential: Any, sized: Any) -> None:
    from azure.mgmt.monitor import MonitorManagementClient

    names = (
        "CpuCapacityMillicores",
        "CpuMemoryCapacityMegabytes",
        "CpuMemoryUtilizationMegabytes",
        "DiskReadMegabytes",
        "DiskWriteMegabytes",
        "NetworkInputMegabytes",
        "NetworkOutputMegabytes",
    )
    arm = plane.variables["ARM_CLOUD_METADATA_URL"].split("/metadata")[0]
    monitor: Any = MonitorManagementClient(
        credential, plane.variables["AZUREML_ARM_SUBSCRIPTION"], base_url=arm, credential_scopes=[f"{arm}/.default"]
    )
    deployment_id = f"{cloud.client.online_endpoints.get('sized-ep').id}/deployments/blue"
    listed = {entry.name.value for entry in monitor.metric_definitions.list(deployment_id)}
    assert set(names) <= listed
    body = {"padding": "x" * 100_000}
    start = dt.datetime.now(dt.timezone.utc) - dt.timedelta(minutes=5)
    for _ in range(20):
        assert sized.score(body).status_code == 200

    def totals() -> dict[str, float]:
        answer = monitor.metrics.list(
            deployment_id,
            timespan=f"{start:%Y-%m-%dT%H:%M:%SZ}/{dt.datetime.now(dt.timezone.utc):%Y-%m-%dT%H:%M:%SZ}",
            interval="PT1M",
            metricnames=",".join(names),
            aggregation="Total,Maximum",
            filter="instanceId eq '*'",
        )
        found = {}
        for metric in answer.value:
            points = [point for series in metric.timeseries for point in series.data if point.total is not None]
            moved = metric.name.value.endswith(("putMegabytes", "ReadMegabytes", "WriteMegabytes"))
            found[metric.name.value] = (
                sum(point.total for point in points) if moved else max((point.maximum for point in points), default=0)
            )
        return found

    sent_megabytes = 20 * len(json.dumps(body)) / 1e6
    wait_for(lambda: totals()["NetworkInputMegabytes"] >= 0.9 * sent_megabytes)
    figures = totals()
    assert figures["CpuCapacityMillicores"] == 1000
    assert figures["CpuMemoryCapacityMegabytes"] == pytest.approx(256 * 1.048576)
    assert 10 < figures["CpuMemoryUtilizationMegabytes"] < 300
    assert figures["NetworkOutputMegabytes"] > 0
    assert figures["DiskReadMegabytes"] >= 0 and figures["DiskWriteMegabytes"] >= 0


def test_while_an_update_fails_the_limits_are_those_of_what_serves_on(cloud: Any, sized: Any) -> None:
    with pytest.raises(HttpResponseError):
        cloud.deploy(
            "sized-ep",
            "blue",
            script="greedy.py",
            instance_type="Local_1vCPU_128MiB",
            environment_variables={"INIT_MIB": "600"},
        )
    properties = cloud.client.online_deployments.get("blue", "sized-ep").properties
    assert properties["azureml_local.limits"].startswith("1 vCPU, 256 MiB (")
    assert sized.score({}).status_code == 200


def logs(cloud: Any, deployment: str) -> str:
    return str(cloud.client.online_deployments.get_logs(deployment, "sized-ep", lines=1000))
