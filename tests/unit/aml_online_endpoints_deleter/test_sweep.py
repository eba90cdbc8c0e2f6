"""A sweep takes what the deployer has left and the flags describe, and touches nothing else."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from aml_online_endpoints_deleter.command import plan
from aml_online_endpoints_deleter.sweep import Orphan, Wanted, find, remove, tops
from aml_tool_core.azure import marks, removal
from aml_tool_core.azure.removal import Outcome
from azure.core.exceptions import ResourceNotFoundError

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=timezone.utc)
TOOL = "aml_online_endpoints_deployer"
OLD = Wanted(timedelta(hours=2), False, {})


def entity(
    name: str, hours: float | None = 3, tool: str = TOOL, expires_hours: float | None = None, **tags: str
) -> Any:
    marked = {marks.TOOL: tool, **tags}
    if hours is not None:
        marked[marks.DEPLOYED_AT] = f"{NOW - timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}"
    if expires_hours is not None:
        marked[marks.EXPIRES_AT] = f"{NOW + timedelta(hours=expires_hours):%Y-%m-%dT%H:%M:%SZ}"
    return SimpleNamespace(name=name, tags=marked)


def swept(wanted: Wanted, endpoint: Any, *deployments: Any) -> list[str]:
    client: Any = SimpleNamespace(
        online_endpoints=SimpleNamespace(list=lambda: [endpoint]),
        online_deployments=SimpleNamespace(list=lambda _name: list(deployments)),
    )
    return [orphan.deployment_name or "the endpoint" for orphan in find(client, wanted, NOW)]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("blue", "endpoint e: deployment blue (traffic 100 %)"),
        ("green", "nothing: endpoint e: deployment green is not of the run that left the note"),
        ("absent", "nothing: endpoint e: deployment absent is not there"),
    ],
)
def test_a_plan_tells_what_is_not_of_the_run_from_what_is_not_there(asked: str, told: str) -> None:
    runs = {"blue": "mine", "green": "another's"}
    deployments = [SimpleNamespace(name=name, tags={marks.RUN: run}) for name, run in runs.items()]
    client: Any = SimpleNamespace(
        online_endpoints=SimpleNamespace(get=lambda _name: SimpleNamespace(name="e", tags={}, traffic={"blue": 100})),
        online_deployments=SimpleNamespace(list=lambda _name: deployments),
    )
    assert plan(client, "e", asked, "mine") == [told]


@pytest.mark.parametrize(
    ("wanted", "holds"),
    [
        (OLD, {"old"}),
        (Wanted(None, True, {}), {"expired"}),
        (Wanted(None, False, {"job": "j"}), {"of job j"}),
        (Wanted(timedelta(hours=2), False, {"job": "j"}), set()),
        (Wanted(timedelta(minutes=1), False, {}), {"old", "young", "expired", "of job j"}),
    ],
)
def test_what_is_meant(wanted: Wanted, holds: set[str]) -> None:
    things = [
        entity("old"),
        entity("young", 1),
        entity("expired", 1, expires_hours=-0.1),
        entity("of job j", 1, job="j", expires_hours=5),
        entity("without a time", None),
        entity("of another tool", 9, "another", job="j", expires_hours=-9),
        SimpleNamespace(name="without a tag", tags=None),
    ]
    assert {one.name for one in things if wanted.holds(one, NOW)} == holds


def test_an_endpoint_goes_with_all_in_it() -> None:
    assert swept(OLD, entity("e"), entity("blue"), entity("green")) == ["blue", "green", "the endpoint"]
    assert swept(OLD, entity("e")) == ["the endpoint"]


@pytest.mark.parametrize("other", [entity("green", 1), entity("green", 9, "another"), entity("green", None)])
def test_an_endpoint_with_something_else_in_it_stays(other: Any) -> None:
    assert swept(OLD, entity("e"), entity("blue"), other) == ["blue"]


def test_a_deployment_on_anothers_endpoint_goes_alone() -> None:
    assert swept(OLD, entity("e", 9, "another"), entity("blue"), entity("green", 9, "another")) == ["blue"]


def test_an_endpoint_that_goes_away_meanwhile_is_no_failure() -> None:
    def gone(_name: str) -> Any:
        absent = ResourceNotFoundError("gone")
        absent.status_code = 404
        raise absent

    client: Any = SimpleNamespace(
        online_endpoints=SimpleNamespace(list=lambda: [entity("e")]), online_deployments=SimpleNamespace(list=gone)
    )
    assert find(client, OLD, NOW) == []


@pytest.mark.parametrize(
    ("orphan", "endpoint", "deployments", "outcome"),
    [
        (None, entity("e"), [entity("blue")], "REMOVED"),
        (None, None, [], "ABSENT"),
        (None, entity("e"), [entity("blue"), entity("green", 0.1)], "LEFT"),  # somebody deploys to it
        (None, entity("e", 0.1), [], "LEFT"),  # another of the same name
        (None, entity("e"), [entity("blue", 9, "another")], "LEFT"),
        ("blue", entity("e"), [entity("blue")], "REMOVED"),
        ("blue", entity("e"), [entity("green")], "ABSENT"),
        ("blue", entity("e", 9, "another"), [entity("blue")], "REMOVED"),
        ("blue", entity("e"), [entity("blue", 0.1)], "LEFT"),  # it has been deployed again
    ],
)
def test_what_is_not_meant_any_more_when_its_turn_comes_stays(
    orphan: str | None, endpoint: Any, deployments: list[Any], outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[tuple[Any, ...]] = []

    def note(_client: Any, *names: Any) -> Outcome:
        removed.append(names[:-1])
        return Outcome.REMOVED

    monkeypatch.setattr(removal, "find_endpoint", lambda _client, _name: endpoint)
    monkeypatch.setattr(removal, "remove_endpoint", note)
    monkeypatch.setattr(removal, "remove_deployment", note)
    client: Any = SimpleNamespace(online_deployments=SimpleNamespace(list=lambda _name: deployments))
    assert remove(client, Orphan("e", orphan, ""), OLD, NOW, 0).name == outcome
    assert removed == ([("e",) if orphan is None else ("e", orphan)] if outcome == "REMOVED" else [])


def test_what_goes_with_its_endpoint_is_not_deleted_twice() -> None:
    whole, alone = Orphan("e", None, ""), Orphan("f", "blue", "")
    assert tops([Orphan("e", "blue", ""), whole, alone]) == [whole, alone]
