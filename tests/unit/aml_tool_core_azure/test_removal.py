"""Traffic that a deployment gives up goes to the others, in their proportions; what another deletes is waited for."""

from __future__ import annotations

import signal
import time
from types import SimpleNamespace
from typing import Any

import pytest
from aml_tool_core.azure import operation
from aml_tool_core.azure.removal import Outcome, remove_deployment, remove_endpoint
from aml_tool_core.azure.traffic import Move, Shares, read_move, released, without
from aml_tool_core.errors import Interrupted
from azure.core.exceptions import ResourceNotFoundError


@pytest.mark.parametrize(
    ("traffic", "left"),
    [
        ({"blue": 100}, {}),
        ({"blue": 100, "green": 0}, {}),
        ({"blue": 0, "green": 100}, {"green": 100}),
        ({"blue": 60, "green": 40}, {"green": 100}),
        ({"blue": 50, "green": 30, "red": 20}, {"green": 60, "red": 40}),
        ({"blue": 10, "a": 30, "b": 30, "c": 30}, {"a": 34, "b": 33, "c": 33}),
        ({"green": 70, "red": 30}, {"green": 70, "red": 30}),
        ({}, {}),
    ],
)
def test_shares_without_blue(traffic: dict[str, int], left: dict[str, int]) -> None:
    assert without(traffic, "blue") == left


@pytest.mark.parametrize("share", range(0, 100, 7))
def test_what_is_left_adds_up_to_a_hundred(share: int) -> None:
    rest = 100 - share
    traffic = {"blue": share, "a": rest // 3, "b": rest // 5, "c": rest - rest // 3 - rest // 5}
    assert sum(without(traffic, "blue").values()) == 100


BLUE = Shares({"blue": 100}, {})
TO_GREEN = Move(BLUE, Shares({"green": 100}, {}))
TO_NEITHER = Move(Shares({"blue": 60, "red": 40}, {"red": 5}), Shares({"blue": 100}, {"green": 10}))


@pytest.mark.parametrize(
    ("present", "move", "standing", "left"),
    [
        (TO_GREEN.after, None, "blue", Shares({}, {})),
        (TO_GREEN.after, TO_GREEN, "blue", BLUE),
        (BLUE, TO_GREEN, "blue", BLUE),
        (TO_GREEN.after, TO_GREEN, "", Shares({}, {})),  # blue has gone meanwhile
        (Shares({"red": 100}, {}), TO_GREEN, "blue red", Shares({"red": 100}, {})),  # somebody has set it meanwhile
        (TO_NEITHER.after, TO_NEITHER, "blue red", TO_NEITHER.before),
        (TO_NEITHER.after, TO_NEITHER, "red", Shares({"red": 100}, {"red": 5})),
        (TO_NEITHER.after, None, "", Shares({"blue": 100}, {})),
        (Shares({"blue": 48, "red": 32, "green": 20}, {}), TO_NEITHER, "blue red", TO_NEITHER.before),
        (Shares({"green": 100}, {}), Move(Shares({}, {}), Shares({"green": 100}, {})), "blue", Shares({}, {})),
    ],
)
def test_what_a_run_moved_is_put_back(present: Shares, move: Move | None, standing: str, left: Shares) -> None:
    assert released(present, "green", move, {*standing.split(), "green"}) == left


def test_a_move_is_read_as_it_was_written() -> None:
    assert read_move(TO_NEITHER.document()) == TO_NEITHER


def test_a_deployment_whose_endpoint_another_deletes_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """No call that changes anything is made: the fake has none."""
    monkeypatch.setattr(operation, "_ASK_AGAIN_SEC", 0.01)
    asked = 0

    def get(_name: str) -> Any:
        nonlocal asked
        asked += 1
        if asked > 2:
            absent = ResourceNotFoundError("gone")
            absent.status_code = 404
            raise absent
        return SimpleNamespace(name="e", provisioning_state="Deleting", traffic={"blue": 100}, mirror_traffic={})

    client: Any = SimpleNamespace(
        workspace_name="w",
        workspaces=SimpleNamespace(get=lambda _name: object()),
        online_endpoints=SimpleNamespace(get=get),
        online_deployments=SimpleNamespace(get=lambda _name, _endpoint: object()),
    )
    assert remove_deployment(client, "e", "blue", time.monotonic() + 30) is Outcome.ABSENT
    assert asked == 3


def test_who_interrupts_a_deletion_is_told_that_it_goes_on() -> None:
    def wait(_: float) -> None:
        raise Interrupted(signal.SIGINT)

    poller = SimpleNamespace(done=lambda: False, wait=wait, status=lambda: "InProgress")
    endpoints = SimpleNamespace(get=lambda name: SimpleNamespace(name=name), begin_delete=lambda _: poller)
    client: Any = SimpleNamespace(online_endpoints=endpoints)
    with pytest.raises(Interrupted) as caught:
        remove_endpoint(client, "mine", time.monotonic() + 60)
    assert caught.value.left == "endpoint mine: deletion: may go on in Azure without this tool; run it again to see"
