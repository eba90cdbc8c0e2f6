"""Run a profiler's command line against a real server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aml_tool_core import documents
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SERVER = Path(__file__).parent / "scoring_server.py"
RUN_LIMIT_SEC = 60.0
FOREIGN = ("AZURE", "ARM_", "MSI_", "MLFLOW_")  # variables that are the tests' to set
SEARCHED = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])


@dataclass
class Server:
    """A running scoring server."""

    process: subprocess.Popen[str]
    scheme: str
    port: int
    received: dict[str, Any] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/score"

    def stop(self) -> dict[str, Any]:
        """End the server and return what it received."""
        if not self.received:
            self.process.terminate()
            out, _ = self.process.communicate(timeout=10)
            self.received = json.loads(out)
        return self.received


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Start scoring servers by their flags; they end with the test."""
    started: list[Server] = []

    def start(*flags: str) -> Server:
        process = subprocess.Popen([sys.executable, str(SERVER), *flags], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        port = int(process.stdout.readline())
        server = Server(process, "https" if "--certificate" in flags else "http", port)
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


@dataclass(frozen=True)
class Outcome:
    """How a tool ended."""

    code: int
    stderr: str
    folder: Path

    @property
    def report(self) -> dict[str, Any]:
        """report.json, valid against its schema."""
        document: dict[str, Any] = documents.read_json(self.folder / "outputs" / "report.json", "report")
        return document

    @property
    def error(self) -> str:
        """The only line of stderr that is an error."""
        lines = [line for line in self.stderr.splitlines() if ": error: " in line]
        assert len(lines) == 1, self.stderr
        assert self.stderr.rstrip().endswith(lines[0]), self.stderr
        return lines[0]


@dataclass
class Case:
    """The inputs of one run, in a folder of its own; change them, then run."""

    tool: str
    folder: Path
    config: Any
    target: Any
    payload: str | None = None
    env: dict[str, str] = field(default_factory=dict)

    def command(self) -> list[str]:
        """Write the inputs and return the command."""
        for name, content in {"config.json": self.config, "target.json": self.target}.items():
            text = content if isinstance(content, str) else json.dumps(content)
            (self.folder / name).write_text(text, encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            self.tool,
            "--config_path",
            "config.json",
            "--scoring_target_path",
            "target.json",
        ]
        if self.payload is not None:
            (self.folder / "payload.jsonl").write_text(self.payload, encoding="utf-8")
            command += ["--payload_path", "payload.jsonl"]
        return command

    def start(self) -> subprocess.Popen[str]:
        """Start the tool."""
        # Its Azure must come from the test, not from the machine; its private files stay within the test's folder.
        env = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        return subprocess.Popen(
            self.command(),
            cwd=self.folder,
            env=env | {"TMPDIR": str(temporary)} | self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self) -> Outcome:
        """Run the tool to its end."""
        process = self.start()
        try:
            out, err = process.communicate(timeout=RUN_LIMIT_SEC)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert out == "", "stdout is for data, and a profiler has none"
        assert list((self.folder / "tmp").iterdir()) == [], "private files are left behind"
        return Outcome(process.returncode, err, self.folder)


# The smallest configuration of each profiler that runs quickly, and the binary that it needs.
PROFILERS = {
    "aml_wrk_profiler": ({"duration_sec": 1, "connections": 2}, "wrk"),
    "aml_wrk2_profiler": ({"duration_sec": 2, "connections": 4, "target_rps": 200}, "metronome"),
    "aml_labench_profiler": ({"duration_sec": 2, "clients": 4, "target_rps": 200}, "metronome"),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    named = any("case" in marker.args[0] for marker in metafunc.definition.iter_markers("parametrize"))
    if "case" in metafunc.fixturenames and not named:
        metafunc.parametrize("case", sorted(PROFILERS), indirect=True)


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    """A run of each profiler in turn, with a target that is yet to be set."""
    return _case(request.param, tmp_path)


@pytest.fixture
def cases(tmp_path: Path) -> Callable[[str], Case]:
    """Return a function that makes the run of a profiler, in a folder of its own."""

    def made(tool: str) -> Case:
        folder = tmp_path / tool
        folder.mkdir()
        return _case(tool, folder)

    return made


def _case(tool: str, folder: Path) -> Case:
    config, binary = PROFILERS[tool]
    assert shutil.which(binary, path=SEARCHED), f"{binary} is not on PATH; the tests of {tool} need it"
    return Case(
        tool=tool,
        folder=folder,
        config={"version": 1.0, "profiler_config": dict(config)},
        target={"version": "1.0", "deployment_settings": {}},
    )


@pytest.fixture
def aim() -> Callable[[Case, Server], Case]:
    """Point a case at a server."""

    def pointed(case: Case, server: Server) -> Case:
        case.target["deployment_settings"]["scoring_uri"] = server.uri
        return case

    return pointed


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a PEM file with a key and a certificate for 127.0.0.1 that only signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(timezone.utc)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return str(path)


def descendants(pid: int) -> list[int]:
    """Return the processes below a process."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended meanwhile
        if int(fields[1]) == pid:
            child = int(entry.parent.name)
            found += [child, *descendants(child)]
    return found


@pytest.fixture
def children() -> Callable[[int], list[int]]:
    """Return the function that finds a process's descendants."""
    return descendants


@pytest.fixture
def interrupt() -> Callable[[subprocess.Popen[str]], None]:
    """Return the function that sends what Ctrl-C sends."""
    return lambda process: process.send_signal(signal.SIGINT)
