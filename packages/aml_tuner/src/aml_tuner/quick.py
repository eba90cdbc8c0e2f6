"""The quick search: which variant to try next, from what the tried ones showed.

It begins in the middle and at the two points that lie farthest from it and from one another, then asks the surrogate
where most is to be gained. Every other trial stays beside the best so far, in one coordinate: there the surrogate is
good, and where it is wrong this is what coordinate descent would do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from aml_tuner.space import Point, Space
from aml_tuner.surrogate import Vector, beliefs, features

SHARE = 5  # of the grid's trials, one in so many
_FIRST = 3
_FEWEST = 4


def budget(space: Space) -> int:
    """Return how many trials the quick search makes where the configuration does not say: a fifth, but four at least.

    Of six combinations those are two thirds: so small a grid is better tried as a whole.
    """
    return max(space.size // SHARE, min(_FEWEST, space.size))


def suggest(space: Space, tried: Mapping[Point, float], count: int = 1, under_way: Sequence[Point] = ()) -> list[Point]:
    """Return up to `count` points to try next, best first, of those neither tried nor under way.

    `tried` has each point's score (higher is better; a logarithm, so that ratios are differences).
    """
    chosen: list[Point] = []
    while len(chosen) < count:
        point = _next(space, tried, [*under_way, *chosen])
        if point is None:
            break
        chosen.append(point)
    return chosen


def _next(space: Space, tried: Mapping[Point, float], taken: Sequence[Point]) -> Point | None:
    grid = space.grid()
    free = [point for point in grid if point not in tried and point not in taken]
    if not free:
        return None
    place = features(space, grid)
    begun = [*tried, *taken]
    if not begun:
        return space.middle()
    if len(begun) < min(_FIRST, len(grid)) or not tried:
        return max(free, key=lambda point: min(math.dist(place[point], place[other]) for other in begun))
    known = [(place[point], score) for point, score in tried.items()]
    best = max(tried, key=lambda point: tried[point])
    # What is under way counts as what it is expected to be, so that the next one looks elsewhere.
    expected = beliefs(known, [place[point] for point in taken])
    known += [(place[point], belief.mean) for point, belief in zip(taken, expected, strict=True)]
    near = [point for point in free if sum(a != b for a, b in zip(point, best, strict=True)) == 1]
    candidates = near if near and len(begun) % 2 else free
    return _most_promising(known, candidates, place, tried[best])


def _most_promising(
    known: Sequence[tuple[Vector, float]], candidates: Sequence[Point], place: Mapping[Point, Vector], best: float
) -> Point:
    found = beliefs(known, [place[point] for point in candidates])
    ranked = zip(candidates, found, strict=True)
    return max(ranked, key=lambda pair: (pair[1].improvement(best), pair[1].mean))[0]
