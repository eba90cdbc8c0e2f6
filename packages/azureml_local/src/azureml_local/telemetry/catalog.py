"""The metrics that Azure Monitor documents for online endpoints and deployments.

https://learn.microsoft.com/azure/machine-learning/monitor-azure-machine-learning-reference (supported metrics)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# How a metric comes from the recorded figures.
Kind = Literal["gauge", "requests", "latency"]


@dataclass(frozen=True)
class Metric:
    """One metric of a resource type."""

    name: str
    unit: str
    kind: Kind
    dimensions: tuple[str, ...] = ()
    # Of a latency: which percentile; None is the mean.
    quantile: float | None = None


INSTANCE = ("instanceId",)
REQUEST = ("deployment", "statusCode", "statusCodeClass", "modelStatusCode")
QUANTILES = {"P50": 0.5, "P90": 0.9, "P95": 0.95, "P99": 0.99}

_PERCENTILES = tuple(
    Metric(f"RequestLatency_{name}", "MilliSeconds", "latency", ("deployment",), quantile)
    for name, quantile in QUANTILES.items()
)
_RATE = Metric("RequestsPerMinute", "Count", "requests", REQUEST)

ENDPOINT = (
    Metric("RequestLatency", "MilliSeconds", "latency", ("deployment",)),
    *_PERCENTILES,
    _RATE,
    Metric("ConnectionsActive", "Count", "gauge"),
    Metric("NetworkBytes", "BytesPerSecond", "gauge"),
    Metric("NewConnectionsPerSecond", "CountPerSecond", "gauge"),
)
DEPLOYMENT = (
    Metric("CpuUtilizationPercentage", "Percent", "gauge", INSTANCE),
    Metric("CpuMemoryUtilizationPercentage", "Percent", "gauge", INSTANCE),
    Metric("DiskUtilization", "Percent", "gauge", ("instanceId", "disk")),
    Metric("DeploymentCapacity", "Count", "gauge"),
    # Known, and empty: no figures of GPUs are taken.
    Metric("GpuUtilizationPercentage", "Percent", "gauge", INSTANCE),
    Metric("GpuMemoryUtilizationPercentage", "Percent", "gauge", INSTANCE),
    Metric("GpuEnergyJoules", "Count", "gauge", INSTANCE),
    *_PERCENTILES,
    _RATE,
    # Azure has these of a workspace's computes, not of deployments; here each instance has them, because what holds an
    # instance to its size measures them too.
    *(
        Metric(name, "Count", "gauge", INSTANCE)
        for name in (
            "CpuCapacityMillicores",
            "CpuUtilizationMillicores",
            "CpuMemoryCapacityMegabytes",
            "CpuMemoryUtilizationMegabytes",
            "DiskReadMegabytes",
            "DiskWriteMegabytes",
            "NetworkInputMegabytes",
            "NetworkOutputMegabytes",
        )
    ),
)


def metrics_of(*, is_deployment: bool) -> dict[str, Metric]:
    """Return a resource type's metrics by their name in lower case."""
    return {metric.name.lower(): metric for metric in (DEPLOYMENT if is_deployment else ENDPOINT)}
