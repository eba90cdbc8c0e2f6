"""Containers that are always removed, real servers on this machine for them to talk to, and which images to look at."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKER = str(REPOSITORY / "images" / "docker")
DIGITS = REPOSITORY / "job-templates" / "digits"
SCORING_SERVER = REPOSITORY / "tests" / "contract" / "profilers" / "scoring_server.py"
ENGINE_LIMIT_SEC = 120
PLANE_LIMIT_SEC = 600
# As docker-library does: a test that asks for `tool` runs for every image.
TOOLS = sorted(path.parent.name for path in (REPOSITORY / "images").glob("aml_*/Dockerfile"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--tool", choices=TOOLS, help="look at this tool's image alone")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "tool" in metafunc.fixturenames:
        # A folder named as a tool holds the tests of that image; a module may say which its tests are for.
        own = [name for name in metafunc.definition.path.parts if name in TOOLS]
        metafunc.parametrize("tool", own or getattr(metafunc.module, "TOOLS", TOOLS), scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    asked = config.getoption("--tool", default=None)
    if asked:
        others = [item for item in items if _tool_of(item) not in (None, asked)]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]


def _tool_of(item: pytest.Item) -> str | None:
    if not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
        return None
    tool = item.callspec.params.get("tool")
    return tool if isinstance(tool, str) else None


@dataclass(frozen=True)
class Image:
    """An image and what it was made from."""

    tool: str
    name: str
    description: Mapping[str, Any] = field(repr=False)  # of `docker image inspect`

    @property
    def labels(self) -> Mapping[str, str]:
        labels: Mapping[str, str] = self.description["Config"]["Labels"]
        return labels

    @property
    def size_bytes(self) -> int:
        return int(self.description["Size"])


@dataclass(frozen=True)
class Finished:
    """A container that has ended."""

    exit_code: int
    stdout: str
    stderr: str
    duration_sec: float


@dataclass
class TrackedContainer:
    """Run commands in containers of one image; every container that was started is removed at the end."""

    image: Image
    names: list[str] = field(default_factory=list)

    def run(
        self,
        *command: str,
        work: Path | None = None,
        mounts: Mapping[Path, str] | None = None,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
        network: str = "none",
        flags: Sequence[str] = (),
        limit_sec: float = 60,
    ) -> Finished:
        """Run a command to its end; `work` becomes the working folder, other mounts are read-only."""
        words = [*self._words(flags, network, user, environment), *self._volumes(work, mounts or {})]
        started = time.monotonic()
        done = subprocess.run(
            [DOCKER, "run", *words, self.image.name, *command],
            capture_output=True,
            text=True,
            timeout=limit_sec,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr, time.monotonic() - started)

    def start(self, *command: str) -> str:
        """Start a command and return its container's name."""
        docker("run", "--detach", *self._words((), "none", None, None), self.image.name, *command)
        return self.names[-1]

    def remove_all(self) -> None:
        """Remove every container that was started, running or not."""
        for name in self.names:
            docker("rm", "--force", "--volumes", name)

    def _words(
        self, flags: Sequence[str], network: str, user: str | None, environment: Mapping[str, str] | None
    ) -> list[str]:
        self.names.append(f"by-image-{uuid.uuid4().hex[:12]}")
        words = ["--name", self.names[-1], "--network", network, *flags]
        words += ["--user", user] if user else []
        variables = (("--env", f"{name}={value}") for name, value in (environment or {}).items())
        return [*words, *itertools.chain.from_iterable(variables)]

    @staticmethod
    def _volumes(work: Path | None, mounts: Mapping[Path, str]) -> list[str]:
        volumes = [f"{path}:{place}:ro" for path, place in mounts.items()]
        volumes += [f"{work}:/job"] if work else []
        return [word for volume in volumes for word in ("--volume", volume)]


def docker(*arguments: str) -> str:
    """Run a docker command and return what it printed."""
    done = subprocess.run([DOCKER, *arguments], capture_output=True, text=True, timeout=ENGINE_LIMIT_SEC, check=False)
    if done.returncode != 0:
        pytest.fail(f"docker {' '.join(arguments)}: {done.stderr}")
    return done.stdout


@pytest.fixture(scope="session")
def engine() -> None:
    """Have a Docker engine: without one nothing can be said here, and `make test-image/<tool>` starts one."""
    try:
        answer = subprocess.run([DOCKER, "version"], capture_output=True, text=True, timeout=30, check=False)
        problem = answer.stderr.strip()
    except subprocess.TimeoutExpired:
        problem = "docker version does not answer"
    else:
        if answer.returncode == 0:
            return
    _unavailable(f"no Docker engine ({problem}); make test-image/<tool> starts one")


@pytest.fixture(scope="session")
def image(tool: str, engine: None) -> Image:
    """The image of a tool (IMAGE_TAG names its tag, otherwise latest)."""
    name = f"{tool.replace('_', '-')}:{os.environ.get('IMAGE_TAG', 'latest')}"
    done = subprocess.run([DOCKER, "image", "inspect", name], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        _unavailable(f"no image {name}; make image/{tool} builds it")
    return Image(tool, name, json.loads(done.stdout)[0])


def _unavailable(reason: str) -> None:
    if os.environ.get("IMAGES_REQUIRED"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def container(image: Image) -> Iterator[TrackedContainer]:
    """Run commands in containers of the image under test."""
    tracked = TrackedContainer(image)
    try:
        yield tracked
    finally:
        tracked.remove_all()


@pytest.fixture(scope="module")
def shared_container(image: Image) -> Iterator[TrackedContainer]:
    """The same, for what the tests of a module share."""
    tracked = TrackedContainer(image)
    try:
        yield tracked
    finally:
        tracked.remove_all()


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder that any user of a container may write."""
    folder = tmp_path / "work"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


# What the tools talk to.


@dataclass
class Server:
    """A scoring server on this machine's loopback."""

    process: subprocess.Popen[str]
    uri: str

    def stop(self) -> dict[str, Any]:
        """End the server and return what it received."""
        self.process.terminate()
        received: dict[str, Any] = json.loads(self.process.communicate(timeout=20)[0])
        return received


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that takes 5 ms for an answer."""
    process = subprocess.Popen(
        [sys.executable, str(SCORING_SERVER), "--delay_ms", "5"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield Server(process, f"http://127.0.0.1:{int(process.stdout.readline())}/score")
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=20)


Profile = Callable[..., tuple[Finished, Path]]


@pytest.fixture
def profile(container: TrackedContainer, server: Server, work: Path) -> Profile:
    """Return a function that runs the image's profiler on the server with a profiler_config and the digits' payload."""
    documents = {"target.json": {"version": 1.0, "deployment_settings": {"scoring_uri": server.uri}}}

    def run(config: Mapping[str, Any], **options: Any) -> tuple[Finished, Path]:
        documents["config.json"] = {"version": 1.0, "profiler_config": dict(config)}
        for name, document in documents.items():
            (work / name).write_text(json.dumps(document))
        (work / "outputs").mkdir()
        (work / "outputs").chmod(0o777)
        command = ["python", "-m", container.image.tool, "--config_path", "config.json"]
        command += ["--scoring_target_path", "target.json", "--payload_path", "/digits/payload.jsonl"]
        finished = container.run(*command, work=work, mounts={DIGITS: "/digits"}, network="host", **options)
        return finished, work / "outputs" / "report.json"

    return run


@dataclass(frozen=True)
class Plane:
    """A local control plane of the tests' own, which they may also kill."""

    home: Path
    variables: dict[str, str] = field(default_factory=dict)  # that point the SDKs and the tools at it

    @property
    def for_containers(self) -> dict[str, Any]:
        """What a container is run with to reach it."""
        bundle = Path(self.variables["REQUESTS_CA_BUNDLE"])
        return {
            "network": "host",
            "environment": {**self.variables, "REQUESTS_CA_BUNDLE": "/plane/ca.pem"},
            "mounts": {bundle: "/plane/ca.pem"},
        }

    def command(self, *arguments: str) -> str:
        """Run `azureml-local ARGUMENTS`."""
        words = [sys.executable, "-m", "azureml_local", *arguments, "--home", str(self.home)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=PLANE_LIMIT_SEC, check=False)
        assert done.returncode == 0, f"azureml-local {arguments[0]}: {done.stdout}{done.stderr}"
        return done.stdout

    def kill(self) -> None:
        """Kill the supervisor as the kernel would."""
        pid = json.loads((self.home / "run" / "supervisor.json").read_text())["identity"]["pid"]
        os.kill(pid, signal.SIGKILL)

    def containers(self) -> list[str]:
        """Return the names of this plane's containers, running or not."""
        home_id = json.loads((self.home / "settings.json").read_text())["home_id"]
        return docker(
            "ps", "--all", "--filter", f"label=azureml_local.home={home_id}", "--format", "{{.Names}}"
        ).split()


@pytest.fixture(scope="session")
def plane(engine: None) -> Iterator[Plane]:
    """A real control plane for the session, in a temporary home; environment variables alone point the SDK at it."""
    made = Plane(Path(tempfile.mkdtemp(prefix="azureml_local-")))
    patch = pytest.MonkeyPatch()
    try:
        made.command("up")
        made.variables.update(re.findall(r"^export (\w+)='?(.*?)'?$", made.command("env"), re.MULTILINE))
        for name, value in made.variables.items():
            patch.setenv(name, value)
        yield made
    finally:
        patch.undo()
        made.command("down")
        shutil.rmtree(made.home)


@pytest.fixture(scope="session")
def client(plane: Plane) -> Any:
    """The unmodified SDK's client of the control plane's workspace."""
    from azure.ai.ml import MLClient
    from azure.identity import ManagedIdentityCredential

    names = ("AZUREML_ARM_SUBSCRIPTION", "AZUREML_ARM_RESOURCEGROUP", "AZUREML_ARM_WORKSPACE_NAME")
    return MLClient(ManagedIdentityCredential(), *(plane.variables[name] for name in names))
