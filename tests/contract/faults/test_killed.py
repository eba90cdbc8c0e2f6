"""Killed (SIGKILL) at any step, the deployer leaves nothing that the next run, or the deleter, cannot finish."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.contract.conftest import TinyDeployment
    from tests.contract.faults.conftest import Control, Run, Tools

ENDPOINT = "onlineEndpoints/*"
DEPLOYMENT = "onlineEndpoints/*/deployments/*"
# Each step, and how it is held so that the deployer is in it when it is killed.
STEPS: dict[str, dict[str, Any]] = {
    "looks for the endpoint": {"method": "GET", "path": ENDPOINT, "delay_sec": 600},
    "asks for the endpoint": {"method": "PUT", "path": ENDPOINT, "delay_sec": 600},
    "waits for the endpoint": {"method": "PUT", "path": ENDPOINT, "operation": "slow", "delay_sec": 1},
    "looks for the code": {"method": "GET", "path": "codes/*/versions", "delay_sec": 600},
    "asks where to upload": {"method": "POST", "path": "codes/*/versions/*/startPendingUpload", "delay_sec": 600},
    "registers the code": {"method": "PUT", "path": "codes/*/versions/*", "delay_sec": 600},
    "uploads the model": {"method": "POST", "path": "datastores/*/listSecrets", "delay_sec": 0.1},
    "registers the environment": {"method": "PUT", "path": "environments/*/versions/*", "delay_sec": 600},
    "registers the model": {"method": "PUT", "path": "models/*/versions/*", "delay_sec": 600},
    "asks for the deployment": {"method": "PUT", "path": DEPLOYMENT, "delay_sec": 600},
    "waits for the deployment": {"method": "PUT", "path": DEPLOYMENT, "operation": "slow", "delay_sec": 1},
    "asks for the traffic": {"method": "PUT", "path": ENDPOINT, "skip": 1, "delay_sec": 600},
    "waits for the traffic": {"method": "PUT", "path": ENDPOINT, "skip": 1, "operation": "slow", "delay_sec": 1},
    "reads the deployment": {"method": "GET", "path": DEPLOYMENT, "skip": 1, "delay_sec": 600},
}
BRIEF = {
    "asks for the deployment": "the deployer again",
}  # and in test_table.py: waits for the traffic, the deleter
# The others with AML_FAULTS=all.
CASES = [
    pytest.param(step, then, marks=[] if BRIEF.get(step) == then else [pytest.mark.long])
    for step in STEPS
    for then in ("the deployer again", "the deleter")
]
LIMIT_SEC = 60.0
LARGE_BYTES = 200_000_000


@pytest.mark.parametrize(("step", "then"), CASES)
def test_killed(
    step: str, then: str, fresh: TinyDeployment, control: Control, tools: Tools, deployer_flags: Any
) -> None:
    score = fresh.folder / "code" / "score.py"
    score.write_text(f"{score.read_text()}\n# {fresh.endpoint_name}: code that is known already is not registered\n")
    if step == "uploads the model":
        with (fresh.folder / "model" / "model.onnx").open("wb") as stream:
            stream.truncate(LARGE_BYTES)
    run = tools.start("deployer", fresh.folder, *deployer_flags)
    in_step(run, control, control.add(**STEPS[step]))
    if step == "uploads the model":  # nothing tells of it but the time: it asks for the key, then sends
        time.sleep(0.5)
    run.kill()
    assert run.wait().code == -9
    assert fresh.note.exists() and not fresh.settings.exists()
    control.let_go()
    if then == "the deleter":
        ended = tools.run("deleter", fresh.folder, "--config_path", str(fresh.note), "--delete_endpoint", "True")
        assert ended.code == 0, ended.log
        assert control.stands(fresh.endpoint_name) == {}
    else:
        ended = tools.run("deployer", fresh.folder, *deployer_flags)
        assert ended.code == 0, ended.log
        assert control.stands(fresh.endpoint_name) == {"": "Succeeded", "blue": "Succeeded"}
        assert control.described(fresh.endpoint_name)["properties"]["traffic"] == {"blue": 100}
        assert fresh.settings.exists() and not fresh.note.exists()


def test_killed_and_then_failing_it_removes_what_the_killed_run_made(
    fresh: TinyDeployment, control: Control, tools: Tools, deployer_flags: Any
) -> None:
    run = tools.start("deployer", fresh.folder, *deployer_flags)
    in_step(run, control, control.add(**STEPS["looks for the code"]))
    run.kill()
    run.wait()
    assert control.stands(fresh.endpoint_name) == {"": "Succeeded"}
    control.let_go()
    control.add("out_of_capacity")
    ended = tools.run("deployer", fresh.folder, *deployer_flags)
    assert ended.code == 1
    assert "an earlier run was cut short; this one continues it" in ended.log
    assert control.stands(fresh.endpoint_name) == {}
    assert not fresh.note.exists()


@pytest.mark.long
def test_killed_on_anothers_endpoint_the_note_removes_the_deployment_alone(
    fresh: TinyDeployment, control: Control, tools: Tools, deployer_flags: Any
) -> None:
    control.endpoint(fresh.endpoint_name, owner="somebody")
    before = control.described(fresh.endpoint_name)
    run = tools.start("deployer", fresh.folder, *deployer_flags)
    in_step(run, control, control.add(**STEPS["waits for the deployment"]))
    run.kill()
    run.wait()
    control.let_go()
    note = ("--config_path", str(fresh.note), "--delete_endpoint", "True")
    listed = tools.run("deleter", fresh.folder, *note, "--dry_run")
    assert listed.out.splitlines() == [f"endpoint {fresh.endpoint_name}: deployment blue"]
    ended = tools.run("deleter", fresh.folder, *note)
    assert ended.code == 0, ended.log
    assert "is not of the run that left the note; it stands as it was" in ended.log
    assert control.stands(fresh.endpoint_name) == {"": "Succeeded"}
    assert control.described(fresh.endpoint_name) == before


@pytest.mark.long
def test_killed_while_it_updates_the_note_removes_nothing(
    fresh: TinyDeployment, control: Control, tools: Tools, deployer_flags: Any
) -> None:
    assert tools.run("deployer", fresh.folder, *deployer_flags).code == 0
    run = tools.start("deployer", fresh.folder, *deployer_flags)
    in_step(run, control, control.add(**STEPS["waits for the deployment"]))
    run.kill()
    run.wait()
    control.let_go()
    ended = tools.run("deleter", fresh.folder, "--config_path", str(fresh.note), "--delete_endpoint", "True")
    assert ended.code == 0, ended.log
    control.settled(fresh.endpoint_name)
    assert control.stands(fresh.endpoint_name) == {"": "Succeeded", "blue": "Succeeded"}


@pytest.mark.long
def test_a_note_of_something_else_is_kept(
    fresh: TinyDeployment, control: Control, tools: Tools, deployer_flags: Any
) -> None:
    run = tools.start("deployer", fresh.folder, *deployer_flags)
    in_step(run, control, control.add(**STEPS["looks for the code"]))
    run.kill()
    run.wait()
    control.let_go()
    fresh.write("green")
    ended = tools.run("deployer", fresh.folder, *deployer_flags)
    assert ended.code == 0, ended.log
    (aside,) = fresh.note.parent.glob("deployment_settings.partial.*.json")
    assert f"its note is outputs/{aside.name} now" in ended.log
    assert "may have left deployment blue of endpoint" in ended.log


def in_step(run: Run, control: Control, fault: str) -> None:
    """Wait until the deployer is where the fault holds it."""
    deadline = time.monotonic() + LIMIT_SEC
    while not control.struck(fault):
        assert run.poll() is None, run.wait().log
        assert time.monotonic() < deadline, run.stderr.read_text()
        time.sleep(0.02)
