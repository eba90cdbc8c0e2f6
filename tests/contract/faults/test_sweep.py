"""Orphans are listed, then swept: those of the deployer that are meant, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aml_tool_core.azure import marks

if TYPE_CHECKING:
    from tests.contract.conftest import TinyDeployment
    from tests.contract.faults.conftest import Control, Tools

Make = Callable[..., str]


def ago(**age: float) -> str:
    return f"{datetime.now(timezone.utc) - timedelta(**age):%Y-%m-%dT%H:%M:%SZ}"


@pytest.fixture
def make(control: Control) -> Iterator[Make]:
    """Make endpoints with tags; they are gone after the test."""
    made: list[str] = []

    def endpoint(name: str, tool: str = marks.DEPLOYER, *, of_user: dict[str, str] | None = None, **known: str) -> str:
        made.append(name)
        marked = {f"{marks.PREFIX}{mark}": value for mark, value in {"tool": tool, **known}.items()}
        control.endpoint(name, **marked, **(of_user or {}))
        return name

    yield endpoint
    control.clear()
    for name in made:
        control.delete(name)


def test_what_is_old_is_swept(make: Make, control: Control, tools: Tools, tmp_path: Path) -> None:
    old = make("sweep-old", deployed_at=ago(hours=3), job="job-1")
    young = make("sweep-young", deployed_at=ago(hours=1), job="job-1")
    other = make("sweep-other", deployed_at=ago(hours=9), job="job-2")
    foreign = make("sweep-foreign", tool="another", deployed_at=ago(hours=9), job="job-1")
    flags = ("--older_than", "2h", "--tag", "job=job-1")

    listed = tools.run("deleter", tmp_path, *flags, "--dry_run")
    assert listed.code == 0, listed.log
    (line,) = listed.out.splitlines()
    assert line.startswith(f"endpoint {old} (deployed ") and line.endswith("Z, job job-1)")
    assert control.stands(old)

    swept = tools.run("deleter", tmp_path, *flags)
    assert swept.code == 0, swept.log
    assert swept.out == listed.out
    assert swept.line.endswith(f"endpoint {old}: deleted, and verified gone")
    assert not control.stands(old)
    assert all(control.stands(name) for name in (young, other, foreign))

    again = tools.run("deleter", tmp_path, *flags)
    assert (again.code, again.out.startswith("nothing: ")) == (0, True)


def test_what_has_expired_is_swept_and_what_is_locked_is_told(
    make: Make, control: Control, tools: Tools, tmp_path: Path
) -> None:
    first, second = (
        make(f"sweep-{name}", deployed_at=ago(hours=1), expires_at=ago(minutes=1), of_user={"batch": "b"})
        for name in ("first", "second")
    )
    fresh = make("sweep-fresh", deployed_at=ago(hours=1), expires_at=ago(minutes=-9), of_user={"batch": "b"})
    control.add("locked", path=f"onlineEndpoints/{first}", times=None)
    ended = tools.run("deleter", tmp_path, "--expired", "--tag", "batch=b")
    assert ended.code == 1
    assert ended.error == f"not deleted: endpoint {first}; the reasons are above"
    assert "a lock forbids it: ScopeLocked" in ended.log
    assert control.stands(first) and control.stands(fresh)
    assert not control.stands(second)


def test_what_the_deployer_makes_can_be_swept(
    fresh: TinyDeployment, control: Control, tools: Tools, deployer_flags: Any
) -> None:
    flags = (*deployer_flags, "--expires_after", "1s")
    deployed = tools.run("deployer", fresh.folder, *flags, AZUREML_RUN_ID="job-of-this-test")
    assert deployed.code == 0, deployed.log
    for name in ("", "blue"):
        tags = control.described(fresh.endpoint_name, name)["tags"]
        known = {"tool", "tool_version", "job", "run", "deployed_at", "expires_at"}
        assert {f"{marks.PREFIX}{name}" for name in known} <= set(tags)
    ended = tools.run("deleter", fresh.folder, "--expired", "--tag", "job=job-of-this-test")
    assert ended.code == 0, ended.log
    assert [line.partition(" (")[0] for line in ended.out.splitlines()] == [
        f"endpoint {fresh.endpoint_name}: deployment blue",
        f"endpoint {fresh.endpoint_name}",
    ]
    assert not control.stands(fresh.endpoint_name)


@pytest.mark.long
def test_on_anothers_endpoint_the_deployment_alone_is_swept(
    fresh: TinyDeployment, control: Control, tools: Tools, deployer_flags: Any
) -> None:
    control.endpoint(fresh.endpoint_name, owner="somebody")
    assert tools.run("deployer", fresh.folder, *deployer_flags, AZUREML_RUN_ID="job-on-anothers").code == 0
    ended = tools.run("deleter", fresh.folder, "--tag", "job=job-on-anothers")
    assert ended.code == 0, ended.log
    assert control.stands(fresh.endpoint_name) == {"": "Succeeded"}


def test_what_somebody_else_deployed_and_the_deployer_updated_is_not_swept(
    green: TinyDeployment, control: Control, tools: Tools, deployer_flags: Any
) -> None:
    path = green.folder / "deployment.yml"
    path.write_text(path.read_text().replace("name: green", "name: blue") + "tags: {tool: ours, job: on-anothers}\n")
    assert tools.run("deployer", green.folder, *deployer_flags, "--expires_after", "1s").code == 0
    tags = control.described(green.endpoint_name, "blue")["tags"]
    assert tags.pop("model_sha256")
    assert tags == {"tool": "ours", "job": "on-anothers"}
    ended = tools.run("deleter", green.folder, "--older_than", "1s", "--tag", "job=on-anothers")
    assert ended.code == 0, ended.log
    assert ended.out.startswith("nothing: ")
    assert control.stands(green.endpoint_name).keys() == {"", "blue"}


def test_a_wrong_workspace_is_no_success(tools: Tools, control: Control, tmp_path: Path) -> None:
    ended = tools.run("deleter", tmp_path, "--expired", "--workspace_name", "nowhere")
    assert ended.code == 1
    assert "Azure answered 404" in ended.error
