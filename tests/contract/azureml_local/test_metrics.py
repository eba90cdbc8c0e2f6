"""Figures of a deployment under load, read with the unmodified MonitorManagementClient."""

from __future__ import annotations

import datetime as dt
import itertools
import time
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError


@pytest.fixture(scope="module")
def monitor(plane: Any, credential: Any) -> Any:
    from azure.mgmt.monitor import MonitorManagementClient

    arm = plane.variables["ARM_CLOUD_METADATA_URL"].split("/metadata")[0]
    return MonitorManagementClient(
        credential,
        plane.variables["AZUREML_ARM_SUBSCRIPTION"],
        base_url=arm,
        credential_scopes=[f"{arm}/.default"],
    )


@pytest.fixture(scope="module")
def loaded(cloud: Any) -> Any:
    """A deployment of two instances that one CPU's worth of work has gone through, and some refusals."""
    cloud.endpoint("metrics-ep")
    cloud.deploy("metrics-ep", "blue", instance_count=2)
    cloud.traffic("metrics-ep", {"blue": 100})
    target = cloud.target("metrics-ep")
    start = dt.datetime.now(dt.timezone.utc)
    deadline = time.monotonic() + 7
    sent = 0
    while time.monotonic() < deadline:
        assert target.score({"burn_sec": 0.05}).status_code == 200
        sent += 1
    assert target.score(key="wrong").status_code == 401
    assert target.score({"fail": True}).status_code == 424
    time.sleep(1.5)
    yield cloud.client.online_endpoints.get("metrics-ep").id, start, sent
    cloud.delete("metrics-ep")


def query(monitor: Any, resource_id: str, start: dt.datetime, names: str, **options: Any) -> dict[str, Any]:
    begin, end = start - dt.timedelta(minutes=1), dt.datetime.now(dt.timezone.utc) + dt.timedelta(minutes=1)
    answer = monitor.metrics.list(
        resource_id,
        timespan=f"{begin:%Y-%m-%dT%H:%M:%SZ}/{end:%Y-%m-%dT%H:%M:%SZ}",
        interval="PT1M",
        metricnames=names,
        **options,
    )
    return {metric.name.value: metric for metric in answer.value}


def values(metric: Any, aggregation: str, series: int = 0) -> list[float]:
    return [
        getattr(point, aggregation)
        for point in metric.timeseries[series].data
        if getattr(point, aggregation) is not None
    ]


def test_requests_per_minute_count_every_request(monitor: Any, loaded: Any) -> None:
    endpoint_id, start, sent = loaded
    metric = query(monitor, endpoint_id, start, "RequestsPerMinute", aggregation="Average,Total")["RequestsPerMinute"]
    assert sum(values(metric, "total")) == sent + 2
    metric = query(monitor, endpoint_id, start, "RequestsPerMinute", aggregation="Total", filter="statusCode eq '*'")[
        "RequestsPerMinute"
    ]
    by_status = {
        series.metadatavalues[0].value: sum(values(metric, "total", number))
        for number, series in enumerate(metric.timeseries)
    }
    assert by_status == {"200": sent, "401": 1, "424": 1}


def test_latency_and_its_percentiles(monitor: Any, loaded: Any) -> None:
    endpoint_id, start, _ = loaded
    names = "RequestLatency,RequestLatency_P50,RequestLatency_P99"
    for resource_id in (endpoint_id, f"{endpoint_id}/deployments/blue"):
        wanted = names if resource_id == endpoint_id else "RequestLatency_P50,RequestLatency_P99"
        found = query(monitor, resource_id, start, wanted, aggregation="Average")
        p50, p99 = (max(values(found[f"RequestLatency_{name}"], "average")) for name in ("P50", "P99"))
        assert 49 <= p50 <= p99 < 5000


def test_cpu_of_every_instance(monitor: Any, loaded: Any) -> None:
    endpoint_id, start, _ = loaded
    deployment_id = f"{endpoint_id}/deployments/blue"
    metric = query(
        monitor,
        deployment_id,
        start,
        "CpuUtilizationPercentage",
        aggregation="Average,Minimum,Maximum",
        filter="instanceId eq '*'",
    )["CpuUtilizationPercentage"]
    assert metric.unit == "Percent"
    assert len(metric.timeseries) == 2
    assert len({series.metadatavalues[0].value for series in metric.timeseries}) == 2
    # One at a time, the requests burnt CPU on one of the two instances of two vCPUs each: together less than 50 %.
    highest = [max(values(metric, "maximum", number)) for number in range(2)]
    assert max(highest) > 5
    assert all(0 <= value <= 110 for value in highest)
    memory = query(monitor, deployment_id, start, "CpuMemoryUtilizationPercentage", aggregation="Average")
    assert 0 < max(values(memory["CpuMemoryUtilizationPercentage"], "average")) < 20
    capacity = query(monitor, deployment_id, start, "DeploymentCapacity", aggregation="Maximum")
    assert max(values(capacity["DeploymentCapacity"], "maximum")) == 2


def test_minutes_without_samples_have_no_value(monitor: Any, loaded: Any) -> None:
    endpoint_id, start, _ = loaded
    metric = query(monitor, endpoint_id, start - dt.timedelta(minutes=30), "RequestsPerMinute")["RequestsPerMinute"]
    points = metric.timeseries[0].data
    assert points[0].average is None
    assert all(
        later.time_stamp - earlier.time_stamp == dt.timedelta(minutes=1)
        for earlier, later in itertools.pairwise(points)
    )


def test_wrong_queries_are_refused(monitor: Any, loaded: Any) -> None:
    endpoint_id, start, _ = loaded
    with pytest.raises(HttpResponseError, match="NoSuchMetric"):
        query(monitor, endpoint_id, start, "NoSuchMetric")
    with pytest.raises(HttpResponseError, match="no dimension"):
        query(monitor, endpoint_id, start, "ConnectionsActive", filter="instanceId eq '*'")


def test_definitions_are_listed(monitor: Any, loaded: Any) -> None:
    endpoint_id, _, _ = loaded
    names = {entry.name.value for entry in monitor.metric_definitions.list(endpoint_id)}
    assert {"RequestsPerMinute", "RequestLatency_P99"} <= names
