"""A deployment's resource usage over a run, from Azure Monitor."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from aml_tool_core.azure import cloud, patience, sdk_output
from aml_tool_core.azure.failures import asking
from aml_tool_core.errors import ToolError

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

_log = logging.getLogger("aml_tool_core.azure")

# Supported metrics of Microsoft.MachineLearningServices/workspaces/onlineEndpoints/deployments, in
# https://learn.microsoft.com/azure/machine-learning/monitor-azure-machine-learning-reference
METRICS = (
    "CpuUtilizationPercentage",
    "CpuMemoryUtilizationPercentage",
    "DiskUtilization",
    "GpuUtilizationPercentage",
    "GpuMemoryUtilizationPercentage",
    "GpuEnergyJoules",
)
# Every deployment has these, so they tell late samples from absent ones.
_ALWAYS_SAMPLED = ("CpuUtilizationPercentage", "CpuMemoryUtilizationPercentage")
_MINUTE = timedelta(minutes=1)
_POLL_SEC = 5.0


@dataclass(frozen=True)
class Sample:
    """One minute of a metric."""

    at: datetime  # the minute's start, UTC
    average: float
    maximum: float
    minimum: float


@dataclass(frozen=True)
class Metric:
    """A metric over the minutes of a run."""

    unit: str
    series: tuple[Sample, ...]

    @property
    def average(self) -> float:
        return sum(sample.average for sample in self.series) / len(self.series)

    @property
    def maximum(self) -> float:
        return max(sample.maximum for sample in self.series)

    @property
    def minimum(self) -> float:
        return min(sample.minimum for sample in self.series)

    def document(self) -> dict[str, Any]:
        """Return the metric as it stands in report.json under `resource_usage`."""
        return {
            "unit": self.unit,
            "average": self.average,
            "maximum": self.maximum,
            "minimum": self.minimum,
            "series": [
                {"time": _text(one.at), "average": one.average, "maximum": one.maximum, "minimum": one.minimum}
                for one in self.series
            ],
        }


@dataclass(frozen=True)
class ResourceUsage:
    """The metrics that have samples, and why others, or late minutes, are missing."""

    metrics: Mapping[str, Metric]
    reasons: tuple[str, ...] = ()
    whole_minutes: bool = True  # False where the minutes are only touched, so that other traffic is in the figures

    def document(self) -> dict[str, Any]:
        """Return report.json's `resource_usage`."""
        return {name: metric.document() for name, metric in self.metrics.items()}


def deployment_metrics(
    credential: TokenCredential,
    deployment_id: str,
    start: datetime,
    end: datetime,
    wait_sec: float = 180.0,
) -> ResourceUsage:
    """Return a deployment's metrics over the whole minutes between `start` and `end` (with time zone).

    A run too short for a whole minute gets the minutes that it lies in, and a reason that says how much of them it
    was. Samples come late: this waits up to `wait_sec` for the last minute's. What Azure does not give becomes a
    reason, never an error, because a finished measurement must not be lost for it.
    """
    minutes = whole_minutes(start, end)
    reasons: tuple[str, ...] = ()
    whole = bool(minutes)
    if not whole:
        minutes = minutes_touched(start, end)
        share = (end - start) / (len(minutes) * _MINUTE)
        reasons = (
            f"the run covers no whole minute, by which Azure Monitor samples: it fills {share:.0%} of the "
            f"{len(minutes)} minute(s) that the averages are of",
        )
    deadline = time.monotonic() + wait_sec
    told = False
    metrics: dict[str, Metric] = {}
    while True:
        try:
            metrics = _ask(credential, deployment_id, minutes, deadline)
        except ToolError as error:
            # What an earlier look has found is worth having, without the minutes that were late.
            gaps = reasons + _gaps(metrics, minutes, wait_sec) if metrics else ()
            return ResourceUsage(metrics, (*gaps, str(error)), whole)
        left_sec = deadline - time.monotonic()
        if minutes[-1] in _sampled(metrics) or left_sec <= 0:
            return ResourceUsage(metrics, reasons + _gaps(metrics, minutes, wait_sec), whole)
        if not told:
            _log.info("waiting up to %.0f s for Azure Monitor's last minute", left_sec)
            told = True
        time.sleep(min(_POLL_SEC, left_sec))


def whole_minutes(start: datetime, end: datetime) -> tuple[datetime, ...]:
    """Return the starts of the clock minutes that lie wholly between two times, in UTC."""
    first = start.astimezone(timezone.utc)
    floor = first.replace(second=0, microsecond=0)
    at = floor if floor == first else floor + _MINUTE
    found = []
    while at + _MINUTE <= end.astimezone(timezone.utc):
        found.append(at)
        at += _MINUTE
    return tuple(found)


def minutes_touched(start: datetime, end: datetime) -> tuple[datetime, ...]:
    """Return the starts of the clock minutes that lie at least partly between two times, in UTC."""
    at = start.astimezone(timezone.utc).replace(second=0, microsecond=0)
    found = [at]
    while at + _MINUTE < end.astimezone(timezone.utc):
        at += _MINUTE
        found.append(at)
    return tuple(found)


def _sampled(metrics: Mapping[str, Metric]) -> set[datetime]:
    """Return the minutes that every always-sampled metric has."""
    minutes = [{sample.at for sample in metrics[name].series} if name in metrics else set() for name in _ALWAYS_SAMPLED]
    return set.intersection(*minutes)


def _gaps(metrics: Mapping[str, Metric], minutes: Sequence[datetime], wait_sec: float) -> tuple[str, ...]:
    lacking = len(set(minutes) - _sampled(metrics))
    if not lacking:
        return ()
    return (f"Azure Monitor gave no CPU or memory figures for {lacking} of {len(minutes)} minutes in {wait_sec:g} s",)


def _ask(
    credential: TokenCredential, deployment_id: str, minutes: Sequence[datetime], deadline: float
) -> dict[str, Metric]:
    from azure.mgmt.monitor import MonitorManagementClient

    here = cloud.current()
    sdk_output.hush()
    subscription_id = deployment_id.split("/")[2]
    with (
        asking("Azure Monitor"),
        MonitorManagementClient(
            credential,
            subscription_id,
            base_url=here.arm_url,
            credential_scopes=[here.scope],
            transport=patience.Transport(deadline),
            **patience.RETRIES,
        ) as client,
    ):
        answer = client.metrics.list(
            deployment_id,
            timespan=f"{_text(minutes[0])}/{_text(minutes[-1] + _MINUTE)}",
            interval="PT1M",
            metricnames=",".join(METRICS),
            aggregation="Average,Maximum,Minimum",
        )
        wanted = set(minutes)
        found = {}
        for metric in answer.value:
            series = _samples(metric, wanted)
            if series:
                found[str(metric.name.value)] = Metric(str(getattr(metric.unit, "value", metric.unit)), series)
        return found


def _samples(metric: Any, wanted: set[datetime]) -> tuple[Sample, ...]:
    """Return the minutes that have values (Azure Monitor lists the others too, empty), oldest first."""
    points = [point for series in metric.timeseries or () for point in series.data or ()]
    return tuple(
        Sample(
            point.time_stamp.astimezone(timezone.utc), float(point.average), float(point.maximum), float(point.minimum)
        )
        for point in sorted(points, key=lambda point: point.time_stamp)
        if point.time_stamp.astimezone(timezone.utc) in wanted
        and None not in (point.average, point.maximum, point.minimum)
    )


def _text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
