"""The profilers, in their images, against a server of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from aml_tool_core import documents

if TYPE_CHECKING:
    from tests.by_image.conftest import Profile, Server, TrackedContainer

# What each is asked for, and the generator that does it.
LOADS: dict[str, tuple[dict[str, Any], str]] = {
    "aml_wrk_profiler": ({"connections": 4}, "wrk"),
    "aml_wrk2_profiler": ({"connections": 4, "target_rps": 50}, "metronome"),
    "aml_labench_profiler": ({"clients": 4, "target_rps": 50}, "metronome"),
}
TOOLS = list(LOADS)
START_LIMIT_SEC = 2


@pytest.mark.parametrize("user", [None, "0:0"])
def test_profiles_the_server(tool: str, profile: Profile, server: Server, user: str | None) -> None:
    load, engine = LOADS[tool]
    finished, path = profile({"duration_sec": 3, **load}, user=user)
    assert finished.exit_code == 0, finished.stderr
    report = documents.read_json(path, "report")
    assert report["tool"]["name"] == tool
    assert report["tool"]["engine"]["name"] == engine
    assert report["load"].get("target_rps") == load.get("target_rps")
    assert report["result"]["requests"]["sent"] == server.stop()["requests"] > 100
    # In a closed loop the service time is the latency.
    measured = report["result"].get("service_time_ms", report["result"]["latency_ms"])
    assert measured["percentiles"]["50"]["value"] >= 5


def test_profiles_from_a_read_only_root(tool: str, profile: Profile) -> None:
    load, _ = LOADS[tool]
    finished, path = profile({"duration_sec": 2, **load}, flags=["--read-only"])
    assert finished.exit_code == 0, finished.stderr
    assert documents.read_json(path, "report")["result"]["requests"]["succeeded"] > 0


def test_starts_quickly(container: TrackedContainer, tool: str) -> None:
    # The best of three: a busy machine is not the image's fault.
    spent = [container.run("python", "-m", tool, "--version").duration_sec for _ in range(3)]
    print(f"{tool}: container and tool up and gone in {min(spent):.2f} s")
    assert min(spent) < START_LIMIT_SEC
