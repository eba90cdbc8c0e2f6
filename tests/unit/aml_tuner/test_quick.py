"""The quick search against the full grid, on simulated surfaces with noise."""

from __future__ import annotations

import math
import os
import random

import pytest
from aml_tuner import quick
from aml_tuner.laws import PLACES, THREADS, WORKERS
from aml_tuner.quick import Outcome
from aml_tuner.space import Point, Space
from aml_tuner.surrogate import Belief, Normal, beliefs, features

from tests.unit.aml_tuner.surfaces import DISTURBED, MEASURED, SHAPES, Surface

# How many seeds of each shape; a larger number is for the proof, this one for every day.
SEEDS = int(os.environ.get("AML_TUNER_SEEDS", "8"))
NOISE = 0.015


def of(workers: list[int], places: list[int], threads: list[int]) -> Space:
    return Space.of({WORKERS: workers, PLACES: places, THREADS: threads})


GRID = of([1, 2, 3, 4], [1, 2, 4, 8], [1, 2, 4])
SMALL = of([1, 2, 4], [1, 2, 4, 8], [1, 2, 4])
LARGE = of([1, 2, 4, 8], [1, 2, 4, 8, 16], [1, 2, 4, 8])


def rate(surface: Surface, point: Point) -> float:
    workers, places, threads = (float(value) for value in point)
    return surface(workers, places, threads)


def found(
    space: Space, surface: Surface, seed: int, parallel: int = 1, least_places: int = 1, noise: float = NOISE
) -> float:
    """Return the share of the grid's best that the quick search's answer has, in truth.

    With fewer requests at a time than `least_places`, most are refused.
    """
    draw = random.Random(seed)
    tried: dict[Point, Outcome] = {}
    while len(tried) < quick.budget(space):
        count = min(parallel, quick.budget(space) - len(tried))
        for point in quick.suggest(space, tried, count):
            score = math.log(rate(surface, point)) + draw.gauss(0, noise)
            tried[point] = Outcome(score, None if holds(point, least_places) else math.log(95))
    best = max((point for point in tried if tried[point].holds), key=lambda point: measured_at(tried, point))
    return rate(surface, best) / max(rate(surface, point) for point in space.grid() if holds(point, least_places))


def measured_at(tried: dict[Point, Outcome], point: Point) -> float:
    score = tried[point].score
    assert score is not None
    return score


def holds(point: Point, least_places: int) -> bool:
    return float(point[1]) >= least_places


@pytest.mark.parametrize("space", [GRID, SMALL], ids=["48", "36"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_fifth_of_the_trials_comes_within_five_percent(shape: str, space: Space) -> None:
    shares = {seed: found(space, SHAPES[shape](seed), seed) for seed in range(SEEDS)}
    missed = {seed: share for seed, share in shares.items() if share < 0.95}
    print(f"{shape}: {SEEDS - len(missed)} of {SEEDS} within 5 %, the worst at {min(shares.values()):.3f}")
    assert quick.budget(space) <= space.size / 5
    assert len(missed) <= 0.05 * SEEDS, missed
    assert min(shares.values()) > 0.85, missed


@pytest.mark.parametrize("least_places", [1, 2, 4])
def test_trials_that_miss_a_limit_do_not_speak_against_what_else_they_try(least_places: int) -> None:
    shares = [found(SMALL, SHAPES["contended"](seed), seed, least_places=least_places) for seed in range(SEEDS)]
    assert sum(share >= 0.95 for share in shares) >= 0.875 * SEEDS, shares


@pytest.mark.parametrize("noise", [0.0, 0.03])
@pytest.mark.parametrize("example", MEASURED)
def test_it_finds_what_was_best_on_a_real_deployment(example: str, noise: float) -> None:
    seeds = range(SEEDS if noise else 1)  # without noise, each is as the other
    shares = [found(SMALL, MEASURED[example], seed, least_places=2, noise=noise) for seed in seeds]
    print(f"{example}, noise of {noise:.0%}: {sorted(round(share, 3) for share in shares)}")
    assert sum(share >= 0.95 for share in shares) >= (0.875 if noise else 1) * len(seeds), shares


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.1])
def test_noise_misleads_it_seldom(noise: float) -> None:
    seeds = range(SEEDS if noise else 1)
    shares = [found(SMALL, DISTURBED, seed, least_places=2, noise=noise) for seed in seeds]
    print(f"noise of {noise:.0%}: {sorted(round(share, 3) for share in shares)}")
    assert sum(share > 0.94 for share in shares) >= 0.75 * len(seeds), (
        shares
    )  # the second and third are 3 and 5 % behind


def test_what_holds_is_found_where_the_middle_does_not() -> None:
    """Only the largest number of requests at a time keeps the limit; how far the others miss it shows the way."""
    tried: dict[Point, Outcome] = {}
    while len(tried) < quick.budget(SMALL):
        (point,) = quick.suggest(SMALL, tried)
        excess = math.log(8 / float(point[1]))
        tried[point] = Outcome(math.log(rate(SHAPES["contended"](0), point)), excess or None)
    assert sum(outcome.holds for outcome in tried.values()) >= 3, tried


def test_it_learns_where_the_first_trials_did_not_look() -> None:
    # The best of as many trials at random, on average, for comparison.
    source = random.Random(4)
    ours, chance = [], []
    for seed in range(10):
        surface = SHAPES["amdahl"](seed)
        top = max(rate(surface, point) for point in LARGE.grid())
        picked = source.sample(LARGE.grid(), quick.budget(LARGE))
        ours.append(found(LARGE, surface, seed, parallel=4))
        chance.append(max(rate(surface, point) for point in picked) / top)
    assert sum(ours) > sum(chance)
    assert min(ours) > 0.9


def test_settings_that_no_law_knows_are_learnt_too() -> None:
    """SKUs and candidates differ by no rule; the best of as many trials at random, on average, for comparison."""
    space = Space.of({"instance_type": ["F2", "F4", "F8", "F16"], "candidate": [1, 2, 3], WORKERS: [1, 2, 4]})
    ours, chance = [], []
    for seed in range(10):
        source = random.Random(seed)
        speed = {value: source.gauss(0, 0.5) for value in ("F2", "F4", "F8", "F16", 1, 2, 3)}
        true = {
            point: speed[str(point[0])] + speed[int(point[1])] + 0.3 * math.log(float(point[2]))
            for point in space.grid()
        }
        tried: dict[Point, Outcome] = {}
        while len(tried) < quick.budget(space):
            (point,) = quick.suggest(space, tried)
            tried[point] = Outcome(true[point] + source.gauss(0, NOISE))
        top = max(true.values())
        ours.append(math.exp(max(true[point] for point in tried) - top))
        chance.append(math.exp(max(true[point] for point in source.sample(space.grid(), len(tried))) - top))
    print(f"{sum(ours) / 10:.3f} of the best, at random {sum(chance) / 10:.3f}")
    assert sum(ours) > sum(chance)
    assert min(ours) > 0.6


def test_a_trial_that_failed_says_nothing_of_speed() -> None:
    surface = MEASURED["digits"]
    points: list[Point] = [(2, 4, 2), (2, 4, 1)]
    tried = {point: Outcome(math.log(rate(surface, point))) for point in points}
    (following,) = quick.suggest(SMALL, tried)
    failed: dict[Point, Outcome] = {**tried, (1, 8, 4): Outcome(None, 1.0), (1, 1, 4): Outcome(None, 1.0)}
    assert quick.suggest(SMALL, failed) == [following]
    only: dict[Point, Outcome] = {(2, 4, 2): Outcome(None, 1.0)}
    assert quick.suggest(SMALL, only, 2) != quick.suggest(SMALL, {}, 2)


def test_ten_thousand_combinations_are_judged_by_a_sample() -> None:
    large = Space.of({f"SETTING_{index}": list(range(1, 11)) for index in range(4)})
    # All neighbours of the best are tried, so the next one lies farther off.
    best = large.middle()
    near = [p for p in large.grid() if sum(a != b for a, b in zip(p, best, strict=True)) == 1]
    tried = {best: Outcome(1.0), **{point: Outcome(0.5) for point in near}}
    found = quick.suggest(large, tried, 2)
    assert len(set(found)) == 2 and not set(found) & tried.keys()
    assert found == quick.suggest(large, tried, 2)


def test_it_neither_repeats_nor_exceeds() -> None:
    tried: dict[Point, Outcome] = {}
    surface = SHAPES["amdahl"](1)
    while points := quick.suggest(SMALL, tried, 5, ()):
        assert len(set(points)) == len(points) <= 5
        assert not set(points) & tried.keys()
        tried |= {point: Outcome(rate(surface, point)) for point in points}
    assert len(tried) == SMALL.size
    assert quick.suggest(SMALL, {}, 3, SMALL.grid()[:-2]) == [
        point for point in quick.suggest(SMALL, {}, 3, SMALL.grid()[:-2]) if point in SMALL.grid()[-2:]
    ]
    one = Space.of({"worker_count": [1]})
    assert quick.budget(one) == 1 and quick.suggest(one, {}, 3) == [(1,)]


def test_what_has_no_order_is_told_apart() -> None:
    space = Space.of({"instance_type": ["F2", "F4", "F8"], "worker_count": [1, 2, 4, 8, 16]})
    speed = {"F2": 1.0, "F4": 2.5, "F8": 2.0}
    tried: dict[Point, Outcome] = {}
    for _ in range(6):
        (point,) = quick.suggest(space, tried)
        tried[point] = Outcome(math.log(speed[str(point[0])] * min(float(point[1]), 4) ** 0.5))
    assert max(tried, key=lambda point: measured_at(tried, point))[0] == "F4"


def test_beliefs_follow_the_observations() -> None:
    space = Space.of({"worker_count": [1, 2, 4, 8, 16]})
    place = features(space, space.grid())
    known = [(place[(count,)], math.log(count)) for count in (1, 4, 16)]
    at = dict(zip((1, 2, 4, 8, 16), beliefs(known, [place[point] for point in space.grid()]), strict=True))
    assert at[1].mean < at[2].mean < at[4].mean < at[8].mean < at[16].mean
    assert at[4].mean == pytest.approx(math.log(4), abs=0.15)
    assert at[8].deviation > at[4].deviation


@pytest.mark.parametrize(
    ("parts", "best", "wanted"),
    [
        ([(1.0, Normal(1.0, 0.0))], 0.5, 0.5),
        ([(1.0, Normal(0.0, 0.0))], 0.5, 0.0),
        ([(1.0, Normal(0.0, 1.0))], 0.0, 1 / math.sqrt(2 * math.pi)),
        ([(0.25, Normal(1.0, 0.0)), (0.75, Normal(0.0, 0.0))], 0.5, 0.125),
    ],
)
def test_expected_improvement(parts: list[tuple[float, Normal]], best: float, wanted: float) -> None:
    assert Belief(parts).improvement(best) == pytest.approx(wanted)


def test_a_belief_of_several_parts_has_their_mean_and_the_spread_between_them() -> None:
    belief = Belief([(0.5, Normal(0.0, 3.0)), (0.5, Normal(8.0, 3.0))])
    assert (belief.mean, belief.deviation) == (4.0, 5.0)
    assert belief.above(4.0) == pytest.approx(0.5)
