"""The laws keep what they are named for, whatever their constants."""

from __future__ import annotations

import math

import pytest
from aml_tuner.laws import PLACES, THREADS, WORKERS, laws
from aml_tuner.space import Space

SPACE = Space.of({WORKERS: [1, 2, 4, 8], PLACES: [1, 2, 4, 8], THREADS: [1, 2, 4, 8]})


def test_workers_without_a_place_to_fill_change_nothing() -> None:
    for one, other in zip(laws(SPACE).at((1, 1, 2)), laws(SPACE).at((8, 1, 2)), strict=True):
        assert one == pytest.approx(other)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_no_resource_brings_more_than_its_share(index: int) -> None:
    """Twice as much of one is at most twice the throughput, but for the crowd that it thins."""
    steepest, thinned = 1.3, 1.1
    for point in SPACE.grid():
        if (more := (*point[:index], 2 * float(point[index]), *point[index + 1 :])) in SPACE.grid():
            gains = [b - a for a, b in zip(laws(SPACE).at(point), laws(SPACE).at(more), strict=True)]
            assert max(gains) <= steepest * math.log(2 * thinned), (point, more)


def test_they_differ_in_what_is_best() -> None:
    best = {max(SPACE.grid(), key=lambda point: laws(SPACE).at(point)[number]) for number in range(200)}
    assert len({point[0] for point in best}) >= 3 and len({point[2] for point in best}) >= 3, best


def test_they_say_nothing_of_settings_that_they_do_not_know() -> None:
    assert laws(Space.of({"instance_type": ["F2", "F4"], "candidate": [1, 2]})).at(("F2", 1)) == ()
    varied = Space.of({"instance_type": ["F2", "F4"], WORKERS: [1, 2]})
    assert laws(varied).at(("F2", 1)) == laws(varied).at(("F4", 1)) != laws(varied).at(("F2", 2))
