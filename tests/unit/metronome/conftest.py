"""metronome compiled with its tests and the server of known behaviour, and functions that run both.

METRONOME_PRESET=sanitize (or thread) runs the same tests against a build with sanitizers.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "packages" / "metronome"
PRESET = os.environ.get("METRONOME_PRESET", "release")

Figures = Callable[[], dict[str, Any]]
Serve = Callable[..., tuple[str, Figures]]
Measure = Callable[..., dict[str, Any]]


def compiled() -> Path:
    for command in (["cmake", "--preset", PRESET], ["cmake", "--build", "--preset", PRESET, "--", "-j2"]):
        done = subprocess.run(command, cwd=PACKAGE, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return PACKAGE / "build" / PRESET


@pytest.fixture(scope="session")
def build() -> Path:
    """The build folder, up to date with the sources."""
    return compiled()


@pytest.fixture(scope="session")
def binary(build: Path) -> Path:
    return build / "metronome"


@pytest.fixture
def serve(build: Path, tmp_path: Path) -> Iterator[Serve]:
    """Return a function that starts the server and answers its URL and a function that stops it for its figures."""
    running: list[subprocess.Popen[str]] = []

    def start(*flags: str, scheme: str = "http", host: str = "127.0.0.1") -> tuple[str, Figures]:
        written = tmp_path / f"server-{len(running)}.json"
        program = str(build / "server" / "known_server")
        server = subprocess.Popen([program, *flags, "--json", str(written)], stdout=subprocess.PIPE, text=True)
        running.append(server)
        assert server.stdout is not None
        port = server.stdout.readline().split()[-1]

        def stop() -> dict[str, Any]:
            server.terminate()
            assert server.wait(timeout=20) == 0
            figures: dict[str, Any] = json.loads(written.read_text())
            return figures

        return f"{scheme}://{host}:{port}", stop

    yield start
    for server in running:
        if server.poll() is None:
            server.terminate()
        server.wait(timeout=20)
        if server.stdout is not None:
            server.stdout.close()


@pytest.fixture(scope="session")
def schema() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((ROOT / "schemas" / "metronome_output.schema.json").read_text())
    return loaded


@pytest.fixture
def measure(binary: Path, schema: dict[str, Any]) -> Measure:
    """Return a function that runs metronome and answers its JSON, valid and consistent in itself."""

    def run(url: str, *flags: str, timeout_sec: float = 60) -> dict[str, Any]:
        command = [str(binary), "--url", url, *flags, "--json", "-"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_sec)
        assert done.returncode == 0, done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        check(report, schema)
        return report

    return run


@pytest.fixture
def checked(schema: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    """Return a function that checks one JSON output."""
    return lambda report: check(report, schema)


def check(report: dict[str, Any], schema: dict[str, Any]) -> None:
    jsonschema.validate(report, schema, cls=jsonschema.Draft202012Validator)
    requests, errors, kept = report["requests"], report["errors"], report["schedule"]
    assert requests["sent"] == requests["completed"] + sum(errors.values())
    assert requests["planned"] == requests["sent"] + kept["missed"]
    assert requests["sent"] == kept["timely"] + kept["late"]
    assert kept["late"] == kept["late_busy"] + kept["late_generator"]
    assert requests["completed"] == sum(report["status"].values())
    assert requests["succeeded"] == sum(count for code, count in report["status"].items() if 200 <= int(code) < 300)
    assert sum(reason["count"] for reason in report["error_reasons"]) == sum(errors.values())
    assert (report["first_error"] is None) == (sum(errors.values()) == 0)
    for name, count in (
        ("latency", requests["completed"]),
        ("service_time", requests["completed"]),
        ("latency_succeeded", requests["succeeded"]),
        ("timed_out", errors["timeout"]),
    ):
        assert report[name]["count"] == count, name
        assert sum(pair[1] for pair in report[name]["histogram"]) == count, name
        assert report[name]["histogram"] == sorted(report[name]["histogram"]), name
    for key in ("sent", "completed"):
        assert sum(row[key] for row in report["timeline"]) == requests[key]
    assert sum(row["errors"] for row in report["timeline"]) == sum(errors.values())
    wrong = sum(count for row in report["timeline"] for count in row["not_2xx"].values())
    assert wrong == requests["completed"] - requests["succeeded"]
    # The histogram holds whole microseconds, rounded; the maximum is exact.
    assert kept["delay_generator_us_p99"] <= max(1, math.ceil(1.001 * kept["max_delay_generator_us"]))
    assert [row["t_sec"] for row in report["timeline"]] == list(range(len(report["timeline"])))
