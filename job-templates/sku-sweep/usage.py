#!/usr/bin/env python3
"""Ask Azure Monitor what a deployment used while it was profiled, and write device_usage.json.

python usage.py --settings_path deployment_settings.json --report_path report.json \\
  --model NAME --output device_usage.json
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NoReturn

from aml_tool_core import ToolError
from aml_tool_core.azure import cloud, patience, sdk_output
from aml_tool_core.azure import workspace as workspaces
from aml_tool_core.azure.credential import credential
from aml_tool_core.azure.failures import asking
from aml_tool_core.azure.monitor import minutes_touched, whole_minutes
from aml_tool_core.azure.workspace import Workspace
from aml_tool_core.documents import read_json
from aml_tool_core.main import finish
from aml_tool_core.outputs import write_json
from azure.mgmt.monitor import MonitorManagementClient
from azureml_local.models.vm_sizes import find_vm_size

# Those that are there at a moment, and those that count what has moved; the local plane alone has the latter.
LEVELS = (
    *("CpuUtilizationPercentage", "CpuMemoryUtilizationPercentage", "CpuCapacityMillicores"),
    *("CpuMemoryUtilizationMegabytes", "CpuMemoryCapacityMegabytes"),
)
MOVED = ("NetworkInputMegabytes", "NetworkOutputMegabytes", "DiskReadMegabytes", "DiskWriteMegabytes")
MINUTE = timedelta(minutes=1)
WAIT_SEC = 180.0
POLL_SEC = 5.0
LIMITS = "azureml_local.limits"


def device_usage(settings: Mapping[str, Any], report: Mapping[str, Any], model: str) -> Any:
    """Return the document. Raises ToolError."""
    size = find_vm_size(settings["sku"])
    if size is None:
        raise ToolError(f"{settings['sku']}: not among the known sizes, so its vCPUs and memory are not known")
    start = moment(report["started_at"])
    end = start + timedelta(seconds=report["result"]["duration_sec"])
    # Levels are of minutes that are full of load; what has moved is counted over all that the load touches.
    touched = minutes_touched(start, end)
    full = whole_minutes(start, end) or touched
    workspace = Workspace(settings["subscription_id"], settings["resource_group"], settings["workspace_name"])
    endpoint, deployment = settings["endpoint_name"], settings["deployment_name"]
    held_by = limits(workspace, endpoint, deployment)
    metrics = ask(workspace.deployment_resource_id(endpoint, deployment), full, touched)
    document = {
        "version": "1.0",
        "model": model,
        "instance_type": size.name,
        "instance_count": settings["instance_count"],
        "vcpus": size.vcpus,
        "memory_gib": size.memory_gib,
        "started_at": text(full[0]),
        "ended_at": text(full[-1] + MINUTE),
        "metrics": metrics,
    }
    return {**document, "held_by": held_by} if held_by else document


def ask(deployment: str, full: Sequence[datetime], touched: Sequence[datetime]) -> dict[str, Any]:
    """Return the metrics that the deployment has, waiting for the last minute's samples. Raises ToolError."""
    here = cloud.current()
    sdk_output.hush()
    deadline = time.monotonic() + WAIT_SEC
    monitor: Any = MonitorManagementClient(
        credential(deadline=deadline),
        deployment.split("/")[2],
        base_url=here.arm_url,
        credential_scopes=[here.scope],
        transport=patience.Transport(deadline),
        **patience.RETRIES,
    )
    with asking("Azure Monitor"), monitor as client:
        known = {entry.name.value for entry in client.metric_definitions.list(deployment)}

        def points(names: Sequence[str], aggregation: str, minutes: Sequence[datetime]) -> dict[str, Any]:
            wanted = [name for name in names if name in known]
            if not wanted:
                return {}
            answer = client.metrics.list(
                deployment,
                timespan=f"{text(minutes[0])}/{text(minutes[-1] + MINUTE)}",
                interval="PT1M",
                metricnames=",".join(wanted),
                aggregation=aggregation,
            )
            return {
                metric.name.value: (
                    metric.unit,
                    [point for series in metric.timeseries for point in series.data if has_value(point)],
                )
                for metric in answer.value
            }

        levels = settled(lambda: points(LEVELS, "Average,Maximum", full), len(full), deadline)
        moved = points(MOVED, "Total", touched)
    found: dict[str, Any] = {}
    for name, (unit, data) in levels.items():
        if data:
            average = sum(point.average for point in data) / len(data)
            found[name] = {"unit": word(unit), "average": average, "maximum": max(point.maximum for point in data)}
    for name, (unit, data) in moved.items():
        if data:
            found[name] = {"unit": word(unit), "total": math.fsum(point.total for point in data)}
    return found


def settled(look: Callable[[], dict[str, Any]], minutes: int, deadline: float) -> dict[str, Any]:
    """Look until every minute has its samples, which come late in Azure, or the waiting time is over."""
    while True:
        found = look()
        counts = [len(data) for name, (_, data) in found.items() if name == LEVELS[0]]
        if (counts and counts[0] >= minutes) or time.monotonic() > deadline:
            return found
        time.sleep(POLL_SEC)


def has_value(point: Any) -> bool:
    return point.average is not None or point.total is not None


def word(unit: Any) -> str:
    return str(getattr(unit, "value", unit))


def moment(written: str) -> datetime:
    # Python 3.10 reads no Z.
    return datetime.fromisoformat(written.replace("Z", "+00:00")).astimezone(timezone.utc)


def text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def limits(workspace: Workspace, endpoint: str, deployment: str) -> str | None:
    """Return what the local plane says of what it gives an instance; Azure says nothing of the kind."""
    deadline = time.monotonic() + WAIT_SEC
    client = workspaces.client(workspace, credential(deadline=deadline), deadline)
    with sdk_output.diverted(), asking(f"deployment {deployment} of endpoint {endpoint}"):
        found = client.online_deployments.get(deployment, endpoint)
    return (found.properties or {}).get(LIMITS)


def main() -> NoReturn:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings_path", type=Path, required=True, help="the deployer's deployment_settings.json")
    parser.add_argument("--report_path", type=Path, required=True, help="the profiler's report.json")
    parser.add_argument("--model", required=True, help="the model's name in tables")
    parser.add_argument("--output", type=Path, required=True, help="device_usage.json")
    given = parser.parse_args()

    def action() -> None:
        settings = read_json(given.settings_path, "deployment_settings")["deployment_settings"]
        report = read_json(given.report_path, "report")
        write_json(given.output, device_usage(settings, report, given.model), "device_usage")

    finish("usage", action)


if __name__ == "__main__":
    main()
