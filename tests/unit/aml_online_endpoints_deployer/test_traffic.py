"""The deployment gets the traffic that is asked for, all of it when it is the only one, else none is moved."""

from __future__ import annotations

import pytest
from aml_online_endpoints_deployer.rollout import wanted_traffic


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
