"""Run again, the deployer does nothing twice; it gives the share of the traffic asked for; stopped, it says so."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.contract.conftest import TinyDeployment
    from tests.contract.faults.conftest import Control, Tools


def test_the_same_input_is_uploaded_and_registered_once(
    fresh: TinyDeployment, control: Control, tools: Tools, deployer_flags: Any
) -> None:
    assert tools.run("deployer", fresh.folder, *deployer_flags).code == 0
    first, endpoint = fresh.settings.read_text(), control.described(fresh.endpoint_name)
    control.clear()
    again = tools.run("deployer", fresh.folder, *deployer_flags)
    assert again.code == 0, again.log
    assert fresh.settings.read_text() == first
    assert control.described(fresh.endpoint_name) == endpoint
    assert control.calls("POST", "startPendingUpload$") == []
    assert [one["status"] for one in control.calls("PUT", "/versions/")] in ([], [200], [200, 200])
    assert control.calls("PUT", "onlineEndpoints/[^/]+$") == []


@pytest.mark.long
def test_a_share_of_the_traffic(fresh: TinyDeployment, control: Control, tools: Tools, deployer_flags: Any) -> None:
    refused = tools.run("deployer", fresh.folder, *deployer_flags, "--traffic", "20")
    assert refused.code == 2
    assert "--traffic: 20: no other deployment of the endpoint has traffic" in refused.error
    assert control.stands(fresh.endpoint_name) == {}
    assert tools.run("deployer", fresh.folder, *deployer_flags).code == 0
    fresh.write("green")
    green = tools.run("deployer", fresh.folder, *deployer_flags, "--traffic", "20")
    assert green.code == 0, green.log
    assert control.described(fresh.endpoint_name)["properties"]["traffic"] == {"blue": 80, "green": 20}
    fresh.write("green", endpoint="traffic: {green: 100}\n")
    both = tools.run("deployer", fresh.folder, *deployer_flags, "--traffic", "20")
    assert both.code == 2
    assert "says `traffic` itself; leave one of the two out" in both.error


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.long), signal.SIGTERM])
def test_stopped_it_says_what_stands(
    number: signal.Signals, fresh: TinyDeployment, control: Control, tools: Tools, deployer_flags: Any
) -> None:
    """Its removal is refused, so that something does stand."""
    held = control.add("operation_hangs", method="PUT", path="onlineEndpoints/*/deployments/*")
    control.add("locked", times=None)
    run = tools.start("deployer", fresh.folder, *deployer_flags)
    deadline = time.monotonic() + 60
    while not control.struck(held):
        assert time.monotonic() < deadline and run.poll() is None
        time.sleep(0.02)
    run.kill(number)
    ended = run.wait()
    assert ended.code == 128 + number
    assert "what this run created still stands (" in ended.log and "a lock forbids it" in ended.log
    assert ended.error == f"interrupted by {number.name}; what stands is named in outputs/{fresh.note.name}"
    assert fresh.note.exists()
    control.clear()
    removed = tools.run("deleter", fresh.folder, "--config_path", str(fresh.note), "--delete_endpoint", "True")
    assert removed.code == 0, removed.log
    assert control.stands(fresh.endpoint_name) == {}


@pytest.mark.long  # test_secrets.py has one that deploys with tokens
def test_tokens_in_place_of_keys(fresh: TinyDeployment, control: Control, tools: Tools, deployer_flags: Any) -> None:
    path = fresh.folder / "endpoint.yml"
    path.write_text(path.read_text().replace("auth_mode: key", "auth_mode: aad_token"))
    deployed = tools.run("deployer", fresh.folder, *deployer_flags)
    assert deployed.code == 0, deployed.log
    assert control.described(fresh.endpoint_name)["properties"]["authMode"] == "AADToken"
    resolved = tools.run("profiler", fresh.folder, "--scoring_target_path", str(fresh.settings))
    assert resolved.code == 0, resolved.log


@pytest.mark.long
def test_mirrored_traffic_is_asked_for(
    fresh: TinyDeployment, control: Control, tools: Tools, deployer_flags: Any
) -> None:
    """The local control plane refuses what it does not emulate, and so shows that it was asked."""
    assert tools.run("deployer", fresh.folder, *deployer_flags).code == 0
    fresh.write("green", endpoint="mirror_traffic: {green: 10}\n")
    refused = tools.run("deployer", fresh.folder, *deployer_flags)
    assert refused.code == 1
    assert "mirrorTraffic is not emulated" in refused.error
    assert control.stands(fresh.endpoint_name) == {"": "Succeeded", "blue": "Succeeded"}
