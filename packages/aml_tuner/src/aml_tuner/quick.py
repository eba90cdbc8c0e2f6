"""The quick search: which variant to try next, from what the tried ones showed.

It begins in the middle and goes on as coordinate descent: each trial differs from the best so far in one setting, the
one whose change promises most. A surrogate says how much that is, and how probable it is that the limits hold there:
what a trial that misses a limit tells of the objective is as true as any, so its miss must not count against the
settings that it has in common with better ones. Farther off is looked only where nothing holds yet, or no neighbour is
left.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aml_tuner.laws import Laws, laws
from aml_tuner.space import Point, Space
from aml_tuner.surrogate import Said, Vector, beliefs, features

SHARE = 5  # of the grid's trials, one in so many
_FEWEST = 4
_MOST_JUDGED = 200  # where there may be ten thousand


@dataclass(frozen=True)
class Outcome:
    """What a trial showed."""

    score: (
        float | None
    )  # higher is better; a logarithm, so that ratios are differences; None where nothing was measured
    excess: float | None = None  # how far beyond its limits it is, as a logarithm; None where it keeps them all

    @property
    def holds(self) -> bool:
        return self.excess is None and self.score is not None


def budget(space: Space) -> int:
    """Return how many trials the quick search makes where the configuration does not say: a fifth, but four at least.

    Of six combinations those are two thirds: so small a grid is better tried as a whole.
    """
    return max(space.size // SHARE, min(_FEWEST, space.size))


def suggest(
    space: Space, tried: Mapping[Point, Outcome], count: int = 1, under_way: Sequence[Point] = ()
) -> list[Point]:
    """Return up to `count` points to try next, best first, of those neither tried nor under way."""
    chosen: list[Point] = []
    while len(chosen) < count:
        point = _next(space, tried, [*under_way, *chosen])
        if point is None:
            break
        chosen.append(point)
    return chosen


def _next(space: Space, tried: Mapping[Point, Outcome], taken: Sequence[Point]) -> Point | None:
    grid = space.grid()
    free = [point for point in grid if point not in tried and point not in taken]
    if not free:
        return None
    if not tried and not taken:
        return space.middle()
    if not tried:  # nothing is known yet: as far as possible from what is under way
        place = features(space, grid)
        return max(free, key=lambda point: min(math.dist(place[point], place[other]) for other in taken))
    scores = {point: outcome.score for point, outcome in tried.items() if outcome.score is not None}
    good = {point: score for point, score in scores.items() if tried[point].holds}
    if not good:
        some = _some(free)
        nearness = {point: -(outcome.excess or 0.0) for point, outcome in tried.items()}
        gains = _gains(nearness, taken, some, features(space, [*tried, *taken, *some]), max(nearness.values()), None)
        return max(some, key=lambda point: gains[point])
    best = max(good, key=lambda point: good[point])
    near = [point for point in free if sum(a != b for a, b in zip(point, best, strict=True)) == 1]
    candidates = near or _some(free)
    place = features(space, [*tried, *taken, *candidates])
    gains = _gains(scores, taken, candidates, place, good[best], laws(space))
    chances = _chances(tried, candidates, place)
    return max(candidates, key=lambda point: gains[point] * chances[point])


def _some(points: Sequence[Point]) -> Sequence[Point]:
    """Return the points, or so many of them, always the same ones, as can be judged within a second or two."""
    return points if len(points) <= _MOST_JUDGED else random.Random(len(points)).sample(points, _MOST_JUDGED)


def _gains(
    scores: Mapping[Point, float],
    taken: Sequence[Point],
    candidates: Sequence[Point],
    place: Mapping[Point, Vector],
    best: float,
    by: Laws | None,
) -> dict[Point, float]:
    """Return by how much each candidate is expected to beat the best."""

    def said(known: Sequence[Point], wanted: Sequence[Point]) -> Said | None:
        return None if by is None else Said([by.at(point) for point in known], [by.at(point) for point in wanted])

    scores = dict(scores)
    if taken:
        # What is under way counts as what it is expected to be, so that the next one looks elsewhere.
        known = [(place[point], score) for point, score in scores.items()]
        expected = beliefs(known, [place[point] for point in taken], said(list(scores), taken))
        scores |= {point: belief.mean for point, belief in zip(taken, expected, strict=True)}
    known = [(place[point], score) for point, score in scores.items()]
    found = beliefs(known, [place[point] for point in candidates], said(list(scores), candidates))
    return {point: belief.improvement(best) for point, belief in zip(candidates, found, strict=True)}


def _chances(
    tried: Mapping[Point, Outcome], candidates: Sequence[Point], place: Mapping[Point, Vector]
) -> dict[Point, float]:
    """Return how probable it is that each candidate keeps the limits."""
    if all(outcome.holds for outcome in tried.values()):
        return dict.fromkeys(candidates, 1.0)
    known = [(place[point], 1.0 if outcome.holds else -1.0) for point, outcome in tried.items()]
    found = beliefs(known, [place[point] for point in candidates])
    return {point: belief.above(0.0) for point, belief in zip(candidates, found, strict=True)}
