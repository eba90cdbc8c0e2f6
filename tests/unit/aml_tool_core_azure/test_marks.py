"""What a run has created is known by its mark, and nothing else is removed with it."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from aml_tool_core.azure import marks, removal
from aml_tool_core.azure.removal import Outcome, remove_run

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=timezone.utc)


def entity(name: str = "e", **tags: str) -> Any:
    return SimpleNamespace(name=name, tags=tags or None)


def test_times_are_read_as_they_were_written() -> None:
    marked = entity(**marks.times(NOW, 7200))
    assert marks.deployed_at(marked) == NOW
    assert marks.expires_at(marked) == NOW + timedelta(hours=2)
    assert marks.times(NOW, None) == {"aml_model_optimizer.deployed_at": "2026-01-31T12:00:00Z"}


@pytest.mark.parametrize(
    "tags", [{}, {marks.DEPLOYED_AT: "yesterday"}, {marks.DEPLOYED_AT: ""}, {"deployed_at": "2026-01-31T12:00:00Z"}]
)
def test_a_time_that_cannot_be_read_is_none(tags: dict[str, str]) -> None:
    assert marks.deployed_at(entity(**tags)) is None


def test_whose_it_is() -> None:
    assert marks.of_run(entity(**{marks.RUN: "1"}), "1")
    assert not marks.of_run(entity(**{marks.RUN: "2"}), "1")
    assert not marks.of_run(entity(run="1"), "1"), "a user's own tag"
    assert not marks.of_run(entity(), "1")
    assert marks.of_product(entity(**{marks.TOOL: marks.DEPLOYER}))
    assert not marks.of_product(entity(tool=marks.DEPLOYER))
    assert not marks.of_product(entity(**{marks.TOOL: "another"}))


def test_a_mark_and_a_tag_are_both_known_by_their_name() -> None:
    marked = entity(**{marks.JOB: "nightly", "team": "vision"})
    assert marks.has(marked, "job", "nightly") and marks.has(marked, "team", "vision")
    assert not marks.has(marked, "job", "daily") and not marks.has(marked, "absent", "")


NEW = {"team": "vision", marks.TOOL: marks.DEPLOYER, marks.RUN: "2", marks.DEPLOYED_AT: "now"}


@pytest.mark.parametrize(
    ("found", "tags"),
    [
        ({}, {"team": "vision"}),
        ({"tool": marks.DEPLOYER, "run": "1"}, {"team": "vision"}),
        ({marks.TOOL: "another", marks.RUN: "1"}, {"team": "vision"}),
        ({marks.TOOL: marks.DEPLOYER, marks.RUN: "1"}, {**NEW, marks.RUN: "1"}),
        ({marks.TOOL: marks.DEPLOYER}, {name: value for name, value in NEW.items() if name != marks.RUN}),
    ],
)
def test_what_is_updated_is_whose_it_was(found: dict[str, str], tags: dict[str, str]) -> None:
    assert marks.updated(NEW, entity(**found)) == tags


@pytest.mark.parametrize(
    ("endpoint", "deployments", "whole", "removed", "left"),
    [
        (None, {}, True, [], {"e": "ABSENT"}),
        ("1", {"blue": "1"}, True, ["e"], {}),
        ("1", {}, True, ["e"], {}),
        ("1", {"blue": "1", "green": "2"}, True, ["blue"], {"e": "LEFT"}),
        ("2", {"blue": "1"}, True, ["blue"], {"e": "LEFT"}),
        ("2", {"blue": "2"}, True, [], {"e": "LEFT", "blue": "LEFT"}),
        ("2", {}, True, [], {"e": "LEFT", "blue": "ABSENT"}),
        ("1", {"blue": "1"}, False, ["blue"], {}),
    ],
)
def test_only_what_the_run_created_goes(
    endpoint: str | None,
    deployments: dict[str, str],
    whole: bool,
    removed: list[str],
    left: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone: list[str] = []

    def remove(_client: Any, *names: Any) -> Outcome:
        gone.append(names[0] if len(names) == 2 else names[1])  # an endpoint, or a deployment of one
        return Outcome.REMOVED

    found = None if endpoint is None else entity(**{marks.RUN: endpoint})
    listed = [entity(name, **{marks.RUN: run}) for name, run in deployments.items()]
    client: Any = SimpleNamespace(online_deployments=SimpleNamespace(list=lambda _name: listed))
    monkeypatch.setattr(removal, "find_endpoint", lambda _client, _name: found)
    monkeypatch.setattr(removal, "require_workspace", lambda _client: None)
    monkeypatch.setattr(removal, "remove_endpoint", remove)
    monkeypatch.setattr(removal, "remove_deployment", remove)
    outcomes = remove_run(client, "e", "blue", "1", time.monotonic() + 60, endpoint_too=whole)
    assert gone == removed
    names = {"endpoint e": "e", "endpoint e: deployment blue": "blue"}
    told = {names[what]: outcome.name for what, outcome in outcomes.items()}
    assert told == {**dict.fromkeys(removed, "REMOVED"), **left}
