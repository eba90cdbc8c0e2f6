#!/usr/bin/env python3
"""Does a size get what it names? Throughput of 1 vCPU against 2, and reported CPU against the kernel's.

Each request burns 20 ms of CPU time, so a core serves 50 a second at most. For each size, a whole clock minute is
looked at: requests answered, CPU time by the kernel's own account of the instance's processes (/proc/PID/stat), and
Azure Monitor's figure for the same minute. For an otherwise idle machine of two CPUs or more; takes up to seven
minutes, and with --window_sec 20, by which only the last size gets a whole minute, up to four. On a machine that others
use too, root can put all that takes part ahead of them: --ahead.

    python tests/bench/sizes/run.py [--ahead] [--window_sec 20]
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

SIZES = ("Local_0.5vCPU_1GiB", "Local_1vCPU_1GiB", "Local_2vCPU_1GiB")
WORKERS = 2
# More than the workers, so that none of them waits for a client's next request.
CLIENTS = 2 * WORKERS
BURN_SEC = 0.02
ENDPOINT = "sizes-bench"
MINUTE_SEC = 60
LAUNCHER = "azureml_local/runtime/launcher.py"
SCORE = """\
import json, time

def init():
    pass

def run(raw):
    end = time.process_time() + json.loads(raw)["burn_sec"]
    while time.process_time() < end:
        pass
    return "burnt"
"""
CONDA = "dependencies:\n  - python=3.11\n  - pip\n  - pip:\n      - azureml-inference-server-http\n"


@dataclass(frozen=True)
class Outcome:
    """One size over one whole minute, or over a shorter window, of which Azure Monitor has no figure."""

    size: str
    limits: str
    requests_per_sec: float
    kernel_cores: float
    kernel_percent: float
    reported_percent: float | None


@contextmanager
def control_plane() -> Iterator[tuple[dict[str, str], Path]]:
    """Start a plane in a folder of its own; yields the variables that point the SDKs at it, and the folder."""
    with tempfile.TemporaryDirectory(prefix="azureml_local-", ignore_cleanup_errors=True) as home:

        def command(verb: str) -> str:
            words = [sys.executable, "-m", "azureml_local", verb, "--home", home]
            return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout

        command("up")
        try:
            variables = dict(re.findall(r"^export (\w+)='?(.*?)'?$", command("env"), re.MULTILINE))
            yield variables, Path(home)
        finally:
            command("down")


def sdk(variables: dict[str, str]) -> tuple[Any, Any]:
    """Return the clients of the workspace and of its metrics."""
    from azure.ai.ml import MLClient
    from azure.identity import ManagedIdentityCredential
    from azure.mgmt.monitor import MonitorManagementClient

    os.environ.update(variables)
    names = ("AZUREML_ARM_SUBSCRIPTION", "AZUREML_ARM_RESOURCEGROUP", "AZUREML_ARM_WORKSPACE_NAME")
    subscription, group, workspace = (variables[name] for name in names)
    arm = variables["ARM_CLOUD_METADATA_URL"].split("/metadata")[0]
    credential = ManagedIdentityCredential()
    monitor = MonitorManagementClient(credential, subscription, base_url=arm, credential_scopes=[f"{arm}/.default"])
    return MLClient(credential, subscription, group, workspace), monitor


def deploy(client: Any, folder: Path, size: str) -> None:
    from azure.ai.ml.entities import CodeConfiguration, Environment, ManagedOnlineDeployment, OnlineRequestSettings

    deployment = ManagedOnlineDeployment(
        name="blue",
        endpoint_name=ENDPOINT,
        code_configuration=CodeConfiguration(code=str(folder / "code"), scoring_script="score.py"),
        environment=Environment(conda_file=str(folder / "conda.yml"), image="mcr.microsoft.com/any:latest"),
        instance_type=size,
        instance_count=1,
        environment_variables={"WORKER_COUNT": str(WORKERS)},
        request_settings=OnlineRequestSettings(max_concurrent_requests_per_instance=CLIENTS),
    )
    client.online_deployments.begin_create_or_update(deployment).result()


class Load:
    """Clients that send their next request when the last is answered."""

    def __init__(self, uri: str, key: str, bundle: str) -> None:
        self.answered = 0
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._place = urlsplit(uri)
        self._headers = {"Authorization": f"Bearer {key}", "azureml-model-deployment": "blue"}
        self._context = ssl.create_default_context(cafile=bundle)
        self._clients = [threading.Thread(target=self._send) for _ in range(CLIENTS)]

    def _send(self) -> None:
        connection = http.client.HTTPSConnection(self._place.netloc, context=self._context, timeout=60)
        body = json.dumps({"burn_sec": BURN_SEC})
        while not self._stopped.is_set():
            connection.request("POST", self._place.path, body, self._headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise RuntimeError(f"the deployment answered {answer.status}")
            with self._lock:
                self.answered += 1

    def __enter__(self) -> Load:
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for client in self._clients:
            client.join()


def instance_cpu_sec(home_id: str) -> float:
    """Return the CPU time of the scoring server's processes, those of this plane alone."""
    total = 0.0
    for process in psutil.process_iter():
        try:
            if LAUNCHER in " ".join(process.cmdline()) and process.environ().get("AZUREML_LOCAL_OWNER") == home_id:
                times = process.cpu_times()
                total += times.user + times.system
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def measure(
    client: Any, monitor: Any, folder: Path, size: str, bundle: str, home_id: str, window_sec: float | None
) -> Outcome:
    """Deploy, load over a whole clock minute or a shorter window, ask."""
    deploy(client, folder, size)
    endpoint = client.online_endpoints.get(ENDPOINT)
    deployment = client.online_deployments.get("blue", ENDPOINT)
    with Load(endpoint.scoring_uri, client.online_endpoints.get_keys(ENDPOINT).primary_key, bundle) as load:
        time.sleep(3)
        if window_sec is None:
            time.sleep(MINUTE_SEC - time.time() % MINUTE_SEC)
        began, cpu, answered = time.time(), instance_cpu_sec(home_id), load.answered
        time.sleep(MINUTE_SEC - time.time() % MINUTE_SEC if window_sec is None else window_sec)
        took, cpu, answered = time.time() - began, instance_cpu_sec(home_id) - cpu, load.answered - answered
        time.sleep(3)
    reported = asked(monitor, f"{endpoint.id}/deployments/blue", began) if window_sec is None else None
    client.online_deployments.begin_delete("blue", ENDPOINT).result()
    limits = str((deployment.properties or {}).get("azureml_local.limits"))
    cores = float(limits.split()[0])  # "2 vCPU, 4 GiB (cgroup v2)"
    return Outcome(size, limits, answered / took, cpu / took, 100 * cpu / took / cores, reported)


def asked(monitor: Any, deployment_id: str, began: float) -> float:
    """Return Azure Monitor's CPU figure of the minute."""
    start = datetime.fromtimestamp(round(began) // MINUTE_SEC * MINUTE_SEC, timezone.utc)
    answer = monitor.metrics.list(
        deployment_id,
        timespan=f"{start:%Y-%m-%dT%H:%M:%SZ}/{start + timedelta(minutes=1):%Y-%m-%dT%H:%M:%SZ}",
        interval="PT1M",
        metricnames="CpuUtilizationPercentage",
        aggregation="Average",
    )
    return float(answer.value[0].timeseries[0].data[0].average)


def put_ahead(home: Path) -> None:
    """Let the instances' groups weigh as much as the clients and the gateway; the limits within hold as before."""
    for folder in json.loads((home / "run" / "cgroups.json").read_text()):
        for name, weight in (("cpu.shares", 32_768), ("cpu.weight", 3_000)):
            path = Path(folder) / name
            if path.exists():
                path.write_text(str(weight))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ahead", action="store_true", help="take precedence over whatever else runs (root)")
    parser.add_argument("--window_sec", type=float, help="of all sizes but the last, without Azure Monitor's figure")
    given = parser.parse_args()
    ahead = given.ahead
    if ahead:
        # What it starts inherits it; the instances are in groups of their own, which weigh as a whole.
        os.nice(-15)
    with tempfile.TemporaryDirectory() as made, control_plane() as (variables, home):
        if ahead:
            put_ahead(home)
        home_id = json.loads((home / "settings.json").read_text())["home_id"]
        folder = Path(made)
        (folder / "code").mkdir()
        (folder / "code" / "score.py").write_text(SCORE)
        (folder / "conda.yml").write_text(CONDA)
        client, monitor = sdk(variables)
        from azure.ai.ml.entities import ManagedOnlineEndpoint

        client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name=ENDPOINT, auth_mode="key")).result()
        outcomes = []
        for size in SIZES:
            window_sec = None if size == SIZES[-1] else given.window_sec
            bundle = variables["REQUESTS_CA_BUNDLE"]
            outcomes.append(measure(client, monitor, folder, size, bundle, home_id, window_sec))
            print(outcomes[-1], file=sys.stderr)
    head = f"{'size':<20} {'requests/s':>10} {'cores used':>10} {'CPU % kernel':>12} {'reported':>9} {'off by':>8}"
    print(f"\n{head}  limits")
    for one in outcomes:
        reported, off = "-", "-"
        if one.reported_percent is not None:
            reported, off = f"{one.reported_percent:.2f}", f"{one.reported_percent / one.kernel_percent - 1:+.2%}"
        print(
            f"{one.size:<20} {one.requests_per_sec:>10.1f} {one.kernel_cores:>10.3f} {one.kernel_percent:>12.2f} "
            f"{reported:>9} {off:>8}  {one.limits}"
        )
    half, one_cpu, two_cpus = (outcome.requests_per_sec for outcome in outcomes)
    print(f"\n1 vCPU serves {one_cpu / half:.2f} times what half a vCPU does (2 would be even)")
    print(f"2 vCPUs serve {two_cpus / one_cpu:.2f} times what 1 vCPU does (2 would be even; {os.cpu_count()} CPUs)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
