"""metronome, in the labench profiler's image, against a server of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from aml_tool_core import documents

if TYPE_CHECKING:
    from tests.by_image.conftest import Profile, Server


@pytest.mark.parametrize("user", [None, "0:0"])
def test_profiles_the_server(tool: str, profile: Profile, server: Server, user: str | None) -> None:
    finished, path = profile({"duration_sec": 3, "clients": 4, "target_rps": 50}, user=user)
    assert finished.exit_code == 0, finished.stderr
    report = documents.read_json(path, "report")
    assert report["tool"]["name"] == tool
    assert report["tool"]["engine"]["name"] == "metronome"
    assert report["load"]["target_rps"] == 50
    assert report["result"]["requests"]["sent"] == server.stop()["requests"] > 100
    assert report["result"]["service_time_ms"]["percentiles"]["50"]["value"] >= 5


def test_profiles_from_a_read_only_root(profile: Profile) -> None:
    finished, path = profile({"duration_sec": 2, "clients": 2, "target_rps": 20}, flags=["--read-only"])
    assert finished.exit_code == 0, finished.stderr
    assert documents.read_json(path, "report")["result"]["requests"]["succeeded"] > 0
