"""The deployment gets the traffic that is asked for, all of it when it is the only one, else none is moved."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from aml_online_endpoints_deployer import rollout
from aml_online_endpoints_deployer.rollout import Made, wanted_share, wanted_traffic
from aml_tool_core import InputError
from aml_tool_core.azure.traffic import Move, Shares


@pytest.mark.parametrize(
    ("asked", "present", "others", "wanted"),
    [
        ({}, {}, set(), {"blue": 100}),
        ({}, {"blue": 100}, set(), {"blue": 100}),
        ({}, {"green": 100}, {"green"}, {"green": 100}),
        ({}, {"green": 90, "blue": 10}, {"green"}, {"green": 90, "blue": 10}),
        ({}, {}, {"green"}, {}),
        ({"blue": 20, "green": 80}, {"green": 100}, {"green"}, {"blue": 20, "green": 80}),
        ({"blue": 0}, {"blue": 100}, set(), {}),
    ],
)
def test_wanted_traffic(
    asked: dict[str, int], present: dict[str, int], others: set[str], wanted: dict[str, int]
) -> None:
    assert wanted_traffic(asked, present, others, "blue") == wanted


@pytest.mark.parametrize(
    ("share", "present", "others", "wanted"),
    [
        (100, {"green": 100}, {"green"}, {"blue": 100}),
        (100, {}, set(), {"blue": 100}),
        (10, {"green": 100}, {"green"}, {"green": 90, "blue": 10}),
        (20, {"green": 50, "red": 50}, {"green", "red"}, {"green": 40, "red": 40, "blue": 20}),
        (33, {"green": 90, "blue": 10}, {"green"}, {"green": 67, "blue": 33}),
        (0, {"green": 60, "blue": 40}, {"green"}, {"green": 100}),
        (0, {"blue": 100}, set(), {}),
    ],
)
def test_wanted_share(share: int, present: dict[str, int], others: set[str], wanted: dict[str, int]) -> None:
    assert wanted_share(share, present, others, "blue") == wanted


@pytest.mark.parametrize(("present", "others"), [({}, set()), ({"blue": 100}, set()), ({"green": 0}, {"green"})])
def test_a_share_whose_rest_nobody_can_take(present: dict[str, int], others: set[str]) -> None:
    with pytest.raises(InputError, match="--traffic: 30: no other deployment of the endpoint has traffic that could"):
        wanted_share(30, present, others, "blue")


class Endpoints:
    """Keeps the traffic that is put."""

    def __init__(self, traffic: dict[str, int], mirrored: dict[str, int]) -> None:
        self.entity = SimpleNamespace(
            name="e", provisioning_state="Succeeded", traffic=traffic, mirror_traffic=mirrored
        )
        self.puts: list[tuple[dict[str, int], dict[str, int]]] = []

    def get(self, _name: str) -> Any:
        return self.entity

    def begin_create_or_update(self, entity: Any) -> Any:
        self.puts.append((entity.traffic, entity.mirror_traffic))
        return SimpleNamespace(done=lambda: True, result=lambda: entity)


@pytest.mark.parametrize(
    ("traffic", "mirrored", "puts"),
    [
        ({}, {"blue": 10}, [({"green": 100}, {"blue": 10})]),
        ({"green": 90, "blue": 10}, {}, [({"green": 90, "blue": 10}, {"red": 5})]),
        ({}, {"red": 5}, []),
    ],
)
def test_mirror_traffic_is_put_as_the_yaml_says(
    traffic: dict[str, int], mirrored: dict[str, int], puts: list[Any]
) -> None:
    endpoints = Endpoints({"green": 100, "blue": 0}, {"red": 5})
    listed = [SimpleNamespace(name="green"), SimpleNamespace(name="blue")]
    deployments = SimpleNamespace(list=lambda _name: listed)
    client: Any = SimpleNamespace(online_endpoints=endpoints, online_deployments=deployments)
    wanted: Any = SimpleNamespace(endpoint_name="e", deployment_name="blue", traffic=traffic, mirror_traffic=mirrored)
    noted: list[Move] = []
    made = Made("run", lambda move: noted.append(move) if not endpoints.puts else None)
    rollout._set_traffic(client, wanted, made, None, time.monotonic() + 60)
    assert endpoints.puts == puts
    before = Shares({"green": 100}, {"red": 5})
    assert noted == [Move(before, Shares(*put)) for put in puts], "the shares are noted before they change"
    assert made.move == (noted[0] if puts else None)
