"""The tools as processes that start at once, and the faults of a real control plane."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from aml_tool_core.azure import marks

if TYPE_CHECKING:
    from tests.contract.conftest import Cloud, PlaneHandle, TinyDeployment

LONG = "long"
ANOTHERS = {marks.TOOL: marks.DEPLOYER, marks.RUN: "another"}  # the marks of another run


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", f"{LONG}: of the faults, takes its time; AML_FAULTS=all selects it")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long ones out, unless they are asked for."""
    if os.environ.get("AML_FAULTS") == "all":
        return
    left_out = [item for item in items if item.get_closest_marker(LONG)]
    items[:] = [item for item in items if not item.get_closest_marker(LONG)]
    config.hook.pytest_deselected(items=left_out)


WARM = Path(__file__).with_name("warm.py")
LIMIT_SEC = 120.0
PROGRAM = {"deployer": "aml_online_endpoints_deployer", "deleter": "aml_online_endpoints_deleter"}


@dataclass(frozen=True)
class Ended:
    """How a run of a tool ended."""

    code: int
    out: str
    log: str

    @property
    def line(self) -> str:
        """The last line of stderr."""
        lines = self.log.splitlines()
        return lines[-1] if lines else ""

    @property
    def error(self) -> str:
        """The one line that says why it failed, without the program's name."""
        return self.line.partition(": error: ")[2]


@dataclass
class Run:
    """A tool's process."""

    pid: int
    folder: Path
    serial: int
    _ask: Callable[[Any], Any]
    _code: int | None = None

    @property
    def stderr(self) -> Path:
        return self.folder / f"{self.serial}.err"

    def poll(self) -> int | None:
        """Return the exit code, None while it runs; of a killed process, minus the signal's number."""
        if self._code is None:
            self._code = self._ask(self.pid)
        return self._code

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def wait(self) -> Ended:
        """Wait for the end."""
        deadline = time.monotonic() + LIMIT_SEC
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                self.kill()
                pytest.fail(f"not done after {LIMIT_SEC:g} s:\n{self.stderr.read_text()}")
            time.sleep(0.02)
        return Ended(code, (self.folder / f"{self.serial}.out").read_text(), self.stderr.read_text())


@dataclass
class Tools:
    """Starts the tools by forks of a process that has imported them."""

    process: subprocess.Popen[str]
    started: list[Run] = field(default_factory=list)

    def start(self, tool: str, folder: Path, *flags: str, **environment: str) -> Run:
        """Start a tool in a folder."""
        serial = len(self.started)
        asked = {
            "tool": tool,
            "flags": list(flags),
            "folder": str(folder),
            "environment": environment,
            "stdout": str(folder / f"{serial}.out"),
            "stderr": str(folder / f"{serial}.err"),
        }
        run = Run(self._ask(asked), folder, serial, self._ask)
        self.started.append(run)
        return run

    def run(self, tool: str, folder: Path, *flags: str, **environment: str) -> Ended:
        """Run a tool in a folder, and wait for its end."""
        return self.start(tool, folder, *flags, **environment).wait()

    def _ask(self, asked: Any) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="session")
def tools(plane: PlaneHandle) -> Iterator[Tools]:
    """The tools, ready to start; whatever of them still runs ends with the session."""
    process = subprocess.Popen([sys.executable, str(WARM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    made = Tools(process)
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == "ready"
        yield made
    finally:
        for run in made.started:
            if process.poll() is None:
                run.kill()
        assert process.stdin is not None
        process.stdin.close()
        process.wait(timeout=LIMIT_SEC)


@dataclass(frozen=True)
class Control:
    """The plane's control route, and plain looks at what stands."""

    arm: httpx.Client
    workspace: str

    def add(self, name: str | None = None, /, **keys: Any) -> str:
        """Queue a fault; return its id."""
        body = {key.rstrip("_"): value for key, value in keys.items()}
        answer = self.arm.post("/azureml_local/faults", json={**body, **({"name": name} if name else {})})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def clear(self) -> None:
        """Remove all faults, and forget the calls."""
        for path in ("faults", "calls"):
            self.arm.delete(f"/azureml_local/{path}").raise_for_status()

    def let_go(self) -> None:
        """Remove all faults, and wait until the calls that they held have ended: they are carried out now."""
        self.arm.delete("/azureml_local/faults").raise_for_status()
        deadline = time.monotonic() + LIMIT_SEC
        while not all(one["ended"] for one in self.calls() if one["fault"]):
            assert time.monotonic() < deadline, "a call that was held does not end"
            time.sleep(0.02)

    def struck(self, identity: str) -> int:
        """Return how often a fault has struck."""
        faults = self.arm.get("/azureml_local/faults").json()["value"]
        return next(int(one["struck"]) for one in faults if one["id"] == identity)

    def calls(self, method: str = "", path: str = "") -> list[dict[str, Any]]:
        """Return the calls of a method whose path matches a regular expression."""
        found = self.arm.get("/azureml_local/calls").json()["value"]
        return [one for one in found if one["method"].startswith(method) and re.search(path, one["path"])]

    def endpoint_url(self, endpoint: str) -> str:
        """Return an endpoint's path."""
        return f"{self.workspace}/onlineEndpoints/{endpoint}"

    def traffic(self, endpoint: str) -> dict[str, int]:
        """Return who has what share of an endpoint's traffic."""
        shares = self.described(endpoint)["properties"]["traffic"]
        return {name: share for name, share in shares.items() if share}

    def endpoint(self, endpoint: str, **tags: str) -> None:
        """Create an endpoint that somebody else has."""
        body = {"location": "eastus", "properties": {"authMode": "Key"}, "tags": tags}
        self.arm.put(self.endpoint_url(endpoint), json=body).raise_for_status()
        self.settled(endpoint)

    def settled(self, endpoint: str) -> None:
        """Wait until nothing is under way with an endpoint or its deployments."""
        deadline = time.monotonic() + LIMIT_SEC
        while any(state.endswith("ing") for state in self.stands(endpoint).values()):
            assert time.monotonic() < deadline, f"{endpoint} does not settle: {self.stands(endpoint)}"
            time.sleep(0.05)

    def stands(self, endpoint: str) -> dict[str, str]:
        """Return what of an endpoint stands, with its state: "" for the endpoint itself, and its deployments."""
        answer = self.arm.get(self.endpoint_url(endpoint))
        if answer.status_code == 404:
            return {}
        answer.raise_for_status()
        found = {"": str(answer.json()["properties"]["provisioningState"])}
        listed = self.arm.get(f"{self.endpoint_url(endpoint)}/deployments")
        for one in listed.json().get("value", []):
            found[one["name"]] = str(one["properties"]["provisioningState"])
        return found

    def described(self, endpoint: str, deployment: str = "") -> dict[str, Any]:
        """Return what the service says of an endpoint or a deployment, without the times of its changes."""
        path = self.endpoint_url(endpoint) + (f"/deployments/{deployment}" if deployment else "")
        answer = dict(self.arm.get(path).raise_for_status().json())
        answer.pop("systemData")
        return answer

    def delete(self, endpoint: str) -> None:
        """Delete an endpoint, and wait until it is gone."""
        deadline = time.monotonic() + LIMIT_SEC
        while self.stands(endpoint):
            self.arm.delete(self.endpoint_url(endpoint))
            assert time.monotonic() < deadline, f"{endpoint} is not gone"
            time.sleep(0.05)


@pytest.fixture(scope="session")
def session_control(plane: PlaneHandle, arm: httpx.Client) -> Iterator[Control]:
    """The control route."""
    names = ("SUBSCRIPTION", "RESOURCEGROUP", "WORKSPACE_NAME")
    subscription, group, workspace = (plane.variables[f"AZUREML_ARM_{name}"] for name in names)
    path = (
        f"/subscriptions/{subscription}/resourceGroups/{group}"
        f"/providers/Microsoft.MachineLearningServices/workspaces/{workspace}"
    )
    context = ssl.create_default_context(cafile=plane.variables["REQUESTS_CA_BUNDLE"])
    # No connection is kept: the tests pause for about as long as the server keeps one, and would meet its end.
    limits = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(
        base_url=arm.base_url, verify=context, trust_env=False, headers=arm.headers, timeout=60, limits=limits
    ) as client:
        yield Control(client, path)


@pytest.fixture
def control(session_control: Control) -> Iterator[Control]:
    """The control route, without faults before and after the test."""
    session_control.clear()
    yield session_control
    session_control.clear()


@pytest.fixture
def fresh(control: Control, tiny: TinyDeployment) -> Iterator[TinyDeployment]:
    """A tiny deployment that is not there yet; the faults go before what the test has left is deleted."""
    yield tiny
    control.clear()
    control.delete(tiny.endpoint_name)
    with contextlib.suppress(FileNotFoundError):
        tiny.note.unlink()


@pytest.fixture(scope="session")
def standing(cloud: Cloud, session_control: Control) -> Iterator[str]:
    """The name of somebody else's endpoint with a deployment `blue`, which has all the traffic."""
    session_control.endpoint("standing-ep", owner="somebody", **ANOTHERS)
    cloud.deploy("standing-ep", "blue")
    cloud.traffic("standing-ep", {"blue": 100})
    yield "standing-ep"
    session_control.delete("standing-ep")


@pytest.fixture
def green(tiny: TinyDeployment, standing: str, cloud: Cloud, control: Control) -> Iterator[TinyDeployment]:
    """A deployment `green` to make beside `blue`, which has all the traffic; it has it again after the test."""
    made = dataclasses.replace(tiny, endpoint_name=standing)
    made.write("green")
    yield made
    control.clear()
    control.settled(standing)
    if control.traffic(standing) != {"blue": 100}:
        cloud.traffic(standing, {"blue": 100})
    if "green" in control.stands(standing):
        cloud.client.online_deployments.begin_delete("green", standing).result()


DEPLOYER_FLAGS = (
    *("--endpoint_yaml_path", "endpoint.yml", "--deployment_yaml_path", "deployment.yml"),
    *("--model_folder_path", "model", "--code_folder_path", "code", "--environment_folder_path", "environment"),
)


@pytest.fixture(scope="session")
def deployer_flags() -> tuple[str, ...]:
    """The deployer's flags for a tiny deployment's folder."""
    return DEPLOYER_FLAGS
