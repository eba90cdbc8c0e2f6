"""Lists and ranges of a setting."""

from __future__ import annotations

import pytest
from aml_tool_core import InputError
from aml_tool_core.profiling.sweep import bounds, is_single, values


@pytest.mark.parametrize(
    ("setting", "whole", "expected"),
    [
        ([1, 2, 8, 4], True, (1, 2, 8, 4)),
        ({"from": 10, "to": 200, "steps": 2}, False, (10, 200)),
        ({"from": 10, "to": 200, "steps": 6}, False, (10, 48, 86, 124, 162, 200)),
        ({"from": 0.1, "to": 0.4, "steps": 4}, False, (0.1, 0.2, 0.3, 0.4)),
        ({"from": 1, "to": 1000, "steps": 4, "scale": "log"}, False, (1, 10, 100, 1000)),
        ({"from": 1, "to": 4, "steps": 9}, True, (1, 2, 3, 4)),
        ({"from": 0.2, "to": 3, "steps": 3}, True, (1, 2, 3)),
        ({"from": 0.2, "to": 3.9, "steps": 2, "scale": "log"}, True, (1, 3)),
        ({"from": 1.5, "to": 2.5, "steps": 5}, True, (2,)),
        ({"from": 3, "to": 1e7, "steps": 3, "scale": "linear"}, True, (3, 5000002, 10000000)),
    ],
)
def test_values(setting: object, whole: bool, expected: tuple[float, ...]) -> None:
    assert values(setting, "config.json: /x", whole=whole) == pytest.approx(expected, rel=1e-9)


def test_the_ends_are_as_they_were_stated() -> None:
    found = values({"from": 0.3, "to": 777.7, "steps": 11, "scale": "log"}, "x", whole=False)
    assert (found[0], found[-1]) == (0.3, 777.7)
    assert list(found) == sorted(found)


def test_a_range_needs_its_steps() -> None:
    with pytest.raises(InputError, match=r"config.json: /x: steps: missing"):
        values({"from": 1, "to": 2}, "config.json: /x", whole=False)


@pytest.mark.parametrize("ends", [(2, 1), (2, 2)])
def test_a_range_goes_upwards(ends: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="`to` must be the larger one"):
        bounds({"from": ends[0], "to": ends[1]}, "config.json: /x", whole=False)


def test_a_range_of_whole_numbers_holds_one() -> None:
    with pytest.raises(InputError, match=r"x: from 1.2 to 1.8: holds no whole number"):
        bounds({"from": 1.2, "to": 1.8}, "x", whole=True)


def test_a_single_number_is_no_sweep() -> None:
    assert is_single(3) and is_single(0.5)
    assert not is_single([3]) and not is_single({"from": 1, "to": 2})
