"""Traffic that a deployment gives up goes to the others, in their proportions."""

from __future__ import annotations

import pytest
from aml_tool_core.azure.removal import without


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
