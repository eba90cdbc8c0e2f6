"""The search, held against simulated targets of known capacity whose measurements are noisy."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from aml_tool_core.profiling import Generator, Histogram, Result
from aml_tool_core.profiling import search as searching
from aml_tool_core.profiling.search import Finding, Probe, Question, Reading, Stop, Taken, search

from tests.bench.search.queues import (
    Queue,
    closed_tail,
    even_tail,
    largest_closed_number,
    largest_even_rate,
    percentile_sec,
)
from tests.bench.search.simulated import SETTINGS, searched

QUEUE = Queue(8, 200.0)
LIMIT_SEC = 0.04
TRUTH = largest_even_rate(QUEUE, 99, LIMIT_SEC)
FULL_SEC, PROBE_SEC = 24, 8
OPEN = Question(start=50.0, whole=False, max_runs=12, precision=0.04)

Target = Callable[[Probe, random.Random], Reading]


@dataclass(frozen=True)
class Outcome:
    finding: Finding
    probes: tuple[Probe, ...]


def find(question: Question, target: Target, seed: int = 1) -> Outcome:
    draw, steps, probes = random.Random(seed), search(question), []
    probe = next(steps)
    while True:
        probes.append(probe)
        try:
            probe = steps.send(target(probe, draw))
        except StopIteration as end:
            return Outcome(end.value, tuple(probes))


def queue_under_a_clock(probe: Probe, draw: random.Random) -> Reading:
    """D/M/8: the p99 of a run strays the more, the nearer the queue is to its capacity and the shorter the run."""
    capacity = QUEUE.capacity_per_sec
    load = probe.load / capacity
    if load >= 1.02:
        return Reading(False, ceiling=capacity * draw.gauss(1, 0.01))
    requests = probe.load * (FULL_SEC if probe.full else PROBE_SEC)
    spread = 2.0 / math.sqrt(requests) / max(1 - load, 0.02) ** 0.75
    p99 = percentile_sec(lambda t_sec: even_tail(QUEUE, min(probe.load, 0.995 * capacity), t_sec), 99)
    margin = math.log(p99 / LIMIT_SEC) + draw.gauss(0, spread)
    return Reading(margin <= 0, margin, spread * draw.uniform(0.6, 1.4))


@pytest.mark.parametrize("seed", range(6))
def test_it_finds_the_largest_rate_of_a_noisy_queue(seed: int) -> None:
    outcome = find(OPEN, queue_under_a_clock, seed)
    finding = outcome.finding
    assert finding.confirmed and finding.load is not None
    assert abs(finding.load / TRUTH - 1) < 0.03
    assert len(outcome.probes) <= 12
    assert finding.run is not None and outcome.probes[finding.run] == Probe(finding.load, full=True)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    findings = [find(OPEN, queue_under_a_clock, 100 + seed).finding for seed in range(12)]
    inside = [
        one for one in findings if one.interval[0] and one.interval[1] and one.interval[0] <= TRUTH <= one.interval[1]
    ]
    assert len(inside) >= 10


@pytest.mark.parametrize("start", [1.0, 300.0, 1500.0, 40_000.0])
def test_where_it_begins_matters_little(start: float) -> None:
    outcome = find(replace(OPEN, start=start, max_runs=20), queue_under_a_clock)
    assert outcome.finding.confirmed
    assert outcome.finding.load is not None and abs(outcome.finding.load / TRUTH - 1) < 0.04


def test_it_steps_up_by_no_more_than_four_times() -> None:
    loads = [probe.load for probe in find(OPEN, queue_under_a_clock).probes]
    tried = loads[0]
    for load in loads[1:]:
        assert load <= 4 * tried * 1.001
        tried = max(tried, load)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("start", [1.0, 30.0])
def test_it_finds_the_largest_number_of_connections(seed: int, start: float) -> None:
    queue, limit_sec = Queue(2, 200.0), 0.042

    def target(probe: Probe, draw: random.Random) -> Reading:
        p99 = percentile_sec(lambda t_sec: closed_tail(queue, int(probe.load), t_sec), 99)
        spread = 2.2 / math.sqrt(400 * (FULL_SEC if probe.full else PROBE_SEC))
        margin = math.log(p99 / limit_sec) + draw.gauss(0, spread)
        return Reading(margin <= 0, margin, spread)

    outcome = find(Question(start=start, whole=True, max_runs=12, precision=0.04), target, seed)
    assert outcome.finding.confirmed and outcome.finding.load is not None
    assert abs(outcome.finding.load - largest_closed_number(queue, 99, limit_sec)) <= 1
    assert all(probe.load == int(probe.load) >= 1 for probe in outcome.probes)
    assert len(outcome.probes) <= 12


@pytest.mark.parametrize("seed", [301, 302])
@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_it_is_within_three_percent_of_a_simulated_queue(name: str, seed: int) -> None:
    """Response by response, with the noise that a run tells of itself; `simulated.py` counts many more of them."""
    setting = replace(SETTINGS[name], probe_sec=10.0, full_sec=30.0)
    outcome = searched(setting, seed)
    assert outcome.finding.confirmed and outcome.finding.load is not None
    assert setting.is_right(outcome.finding.load), (outcome.finding, setting.truth)
    assert len(outcome.probes) <= 12


def test_starved_runs_of_a_simulated_queue_do_not_count_as_misses() -> None:
    """Other work takes the load generator's core in three of the runs, and what these then show is far too slow."""
    setting = SETTINGS["16 servers of 200/s, p99 up to 30 ms"]
    setting = replace(setting, question=replace(setting.question, max_runs=16))

    def spoil(number: int, result: Result) -> Result:
        if number not in (4, 5, 8):
            return result
        slow = Histogram.of((10 * took, count) for took, count in result.latency.counts)
        return replace(result, latency=slow, generator=Generator(0.5, 60.0, 30.0))

    outcome = searched(setting, 402, spoil)
    assert [index for index, seen in enumerate(outcome.readings, 1) if seen.holds is None] == [4, 5, 8]
    assert outcome.finding.load is not None and abs(outcome.finding.load / setting.truth - 1) < 0.05


def wall(height: float) -> Target:
    """Holds up to a load and fails beyond, without saying by how much: errors, say."""
    return lambda probe, _: Reading(probe.load <= height)


@pytest.mark.parametrize("height", [7.0, 333.0, 5000.0])
def test_a_wall_that_gives_no_margins_is_bisected(height: float) -> None:
    outcome = find(replace(OPEN, max_runs=24), wall(height))
    assert outcome.finding.confirmed and outcome.finding.stop is Stop.NARROW
    assert outcome.finding.load is not None and 0.95 * height <= outcome.finding.load <= height


@pytest.mark.parametrize("start", [1.0, 8.0, 40.0])
@pytest.mark.parametrize("height", [1, 2, 5, 16, 33])
def test_a_wall_on_whole_numbers_is_found_exactly_and_at_once(height: int, start: float) -> None:
    outcome = find(Question(start=start, whole=True, max_runs=16, precision=0.04), wall(height + 0.5))
    finding = outcome.finding
    assert finding.load == height and finding.confirmed and finding.stop is Stop.NARROW
    assert finding.interval[1] == height, "one more failed"
    tried = [probe.load for probe in outcome.probes]
    assert all(tried.count(load) <= 2 for load in tried), "a load is not measured over and over"
    assert max(probe.load for probe in outcome.probes if probe.full) <= height + 1


def test_the_smallest_load_that_is_allowed_does_not_hold() -> None:
    question = replace(OPEN, start=30.0, lowest=10.0, highest=90.0)
    outcome = find(question, wall(5.0))
    assert outcome.finding.stop is Stop.INFEASIBLE
    assert outcome.finding.load is None and not outcome.finding.confirmed
    assert min(probe.load for probe in outcome.probes) == 10.0
    assert "not even 10 holds" in outcome.finding.reason
    assert outcome.finding.interval[0] is None


def test_one_connection_is_too_many() -> None:
    outcome = find(Question(start=8.0, whole=True, max_runs=12, precision=0.04), wall(0.5))
    assert outcome.finding.stop is Stop.INFEASIBLE
    assert outcome.finding.load is None


def test_the_largest_load_that_is_allowed_holds() -> None:
    question = replace(OPEN, start=30.0, lowest=10.0, highest=90.0)
    outcome = find(question, wall(1000.0))
    assert outcome.finding.stop is Stop.BOUND
    assert outcome.finding.load == 90.0 and outcome.finding.confirmed
    assert max(probe.load for probe in outcome.probes) == 90.0
    low, high = outcome.finding.interval
    assert low is not None and low <= 90.0
    assert high is None, "nothing was measured beyond"


@pytest.mark.parametrize("highest", [12345.0, 90.004, 7.0])
def test_the_bound_itself_is_reached_whatever_its_digits(highest: float) -> None:
    outcome = find(replace(OPEN, start=30.0, lowest=5.0, highest=highest), wall(1e6))
    assert outcome.finding.stop is Stop.BOUND and outcome.finding.load == highest


def test_a_small_budget_is_kept_and_told() -> None:
    for budget in (2, 3, 5):
        outcome = find(replace(OPEN, max_runs=budget), queue_under_a_clock)
        assert len(outcome.probes) <= budget
        assert outcome.probes[-1].full, "the last one can still confirm"
        if outcome.finding.load is not None and outcome.finding.confirmed:
            assert outcome.finding.load <= TRUTH * 1.03
        assert outcome.finding.stop is Stop.BUDGET
        assert f"{budget} runs" in outcome.finding.reason


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(("budget", "confirmed"), [(2, 50.0), (3, 200.0), (4, 800.0)])
def test_with_the_last_run_a_load_that_has_held_is_confirmed_and_none_is_guessed(
    budget: int, confirmed: float, whole: bool
) -> None:
    outcome = find(replace(OPEN, max_runs=budget, whole=whole), wall(1e5))
    assert outcome.probes[-1] == Probe(confirmed, full=True)
    assert outcome.finding.load == confirmed and outcome.finding.confirmed
    assert outcome.finding.interval == (confirmed, None), "nothing failed, so nobody knows how much more there is"


@pytest.mark.parametrize(("budget", "capacity", "last"), [(4, 230.0, 200.0), (4, 700.0, 200.0), (6, 230.0, 200.0)])
def test_a_last_run_secures_what_has_held_rather_than_a_little_more(budget: int, capacity: float, last: float) -> None:
    def target(probe: Probe, _: random.Random) -> Reading:
        margin = max(-1.0, 4 * math.log(probe.load / capacity))
        return Reading(margin <= 0, margin, 0.05)

    outcome = find(replace(OPEN, max_runs=budget), target)
    assert outcome.probes[-1] == Probe(last, full=True)
    assert outcome.finding.load == last and outcome.finding.confirmed


def test_a_last_run_goes_where_the_answer_would_be_too_coarse_otherwise() -> None:
    def target(probe: Probe, _: random.Random) -> Reading:
        margin = max(-1.0, 4 * math.log(probe.load / 400))
        return Reading(margin <= 0, margin, 0.05)

    outcome = find(replace(OPEN, max_runs=5), target)
    assert 250 < outcome.probes[-1].load < 400 and outcome.finding.confirmed
    assert max(probe.load for probe in outcome.probes if probe.load <= 400) == outcome.probes[-1].load


def test_runs_that_were_made_before_are_all_taken_before_a_search_ends_or_asks() -> None:
    """Also those beyond its budget; and a run of full length confirms, whenever it was made."""
    steps = search(replace(OPEN, max_runs=2))
    next(steps)
    steps.send(Taken(Probe(80.0, full=True), Reading(True, -0.5, 0.05), more=True))
    steps.send(Taken(Probe(160.0, full=False), Reading(False, 0.6, 0.05), more=True))
    with pytest.raises(StopIteration) as end:
        steps.send(Taken(Probe(90.0, full=False), Reading(True, -0.4, 0.05), more=False))
    assert end.value.value.stop is Stop.BUDGET
    assert (end.value.value.load, end.value.value.run, end.value.value.confirmed) == (80, 0, True)


def test_a_starved_run_does_not_move_the_last_one_to_where_nothing_has_held() -> None:
    outcome = find(replace(OPEN, max_runs=3), lambda probe, _: Reading(None if probe.load > 50 else True))
    assert [probe.load for probe in outcome.probes] == [50, 200, 50]
    assert outcome.finding.confirmed and outcome.finding.load == 50


def contradicting_itself() -> Target:
    """Holds up to 714 until it has been confirmed once; then nothing holds any more."""
    confirmed: list[float] = []

    def target(probe: Probe, _: random.Random) -> Reading:
        margin = 0.3 if confirmed else max(-1.0, 4 * math.log(probe.load / 714))
        if probe.full and margin <= 0:
            confirmed.append(probe.load)
        return Reading(margin <= 0, margin, 0.02)

    return target


@pytest.mark.parametrize("budget", [10, 12, 16])
def test_a_confirmation_that_the_other_runs_speak_against_confirms_nothing(budget: int) -> None:
    outcome = find(replace(OPEN, start=300.0, max_runs=budget), contradicting_itself())
    finding = outcome.finding
    (once,) = [probe.load for probe in outcome.probes[:7] if probe.full]
    assert not finding.confirmed and finding.stop is Stop.BUDGET
    assert finding.load is not None and finding.load < once, "a shorter run at a smaller load, which may be so"
    assert finding.reason == (
        f"the budget of {budget} runs is spent before a run of full length could confirm {finding.load:g}; at full "
        f"length {once:g} held once, and the other runs speak against it"
    )
    assert finding.interval[1] is not None and finding.interval[1] < once


@pytest.mark.parametrize(
    ("held", "answer", "said"),
    [
        ([(80, True)], 80, "; at full length 80 held once, and the other runs speak against it"),
        ([(80, True), (80, True)], 80, "; at full length 80 held 2 times, and the other runs speak against it"),
        ([(80, True), (60, False), (80, True), (90, True)], 60,
         "; 60 held in a probe, but not in the run that was to confirm it; at full length 80 held 2 times, and the "
         "other runs speak against it"),
        ([(60, False), (60, False)], 60, "; 60 held in a probe, but not in the run that was to confirm it"),
        ([(50, False), (50, False)], 50, " before a run of full length could confirm 50"),
    ],
)  # fmt: skip
def test_the_reason_speaks_of_the_answer_and_counts_what_held(
    held: list[tuple[float, bool]], answer: float, said: str
) -> None:
    probes = [(Probe(load, full=full), Reading(True)) for load, full in held]
    failed = [(Probe(load, full=True), Reading(False)) for load in (60.0, 80.0, 90.0)]
    state = searching._State(replace(OPEN, max_runs=9), 1.0, 1000.0, [*probes, *failed])
    assert searching._reason(state, Stop.BUDGET, answer, False) == f"the budget of 9 runs is spent{said}"


def test_where_all_that_held_is_doubted_the_answer_does_not_stretch_the_interval() -> None:
    finding = find(replace(OPEN, start=700.0, lowest=650.0, highest=1400.0), contradicting_itself()).finding
    low, high = finding.interval
    assert finding.load == 700 and not finding.confirmed
    assert finding.reason.endswith("; the largest load that holds may be less than 650, the least that is allowed")
    assert low is not None and high is not None and low < high < 650, "which failed again and again"


def test_a_borderline_point_is_measured_again() -> None:
    outcome = find(OPEN, queue_under_a_clock, seed=3)
    near = [probe.load for probe in outcome.probes if abs(probe.load / TRUTH - 1) < 0.05]
    assert len(near) >= 3
    assert max(near) / min(near) < 1.1 and sorted(near) != near != sorted(near, reverse=True)


def test_a_run_that_says_nothing_is_made_again() -> None:
    spoiled = {2}

    def target(probe: Probe, draw: random.Random) -> Reading:
        count[0] += 1
        return Reading(None) if count[0] in spoiled else wall(333.0)(probe, draw)

    count = [0]
    outcome = find(replace(OPEN, max_runs=24), target)
    assert outcome.probes[1] == outcome.probes[2]
    assert outcome.finding.confirmed and outcome.finding.load is not None
    assert 0.95 * 333 <= outcome.finding.load <= 333


def test_a_load_generator_at_its_end_bounds_the_search() -> None:
    outcome = find(replace(OPEN, max_runs=24), lambda probe, _: Reading(None) if probe.load > 2000 else Reading(True))
    assert outcome.finding.stop is Stop.GENERATOR
    assert outcome.finding.confirmed and outcome.finding.load is not None
    assert 1000 <= outcome.finding.load <= 2000
    assert "load generator" in outcome.finding.reason


def test_a_busy_minute_does_not_bound_the_search() -> None:
    """Starved twice at a load that it has sent before, or starved once only: it was the machine's other work."""
    count = [0]

    def target(probe: Probe, draw: random.Random) -> Reading:
        count[0] += 1
        if count[0] in (5, 6, 9, 10):
            return Reading(None)
        return queue_under_a_clock(probe, draw)

    finding = find(replace(OPEN, max_runs=18), target, 2).finding
    assert finding.confirmed and finding.load is not None
    assert finding.stop is not Stop.GENERATOR and abs(finding.load / TRUTH - 1) < 0.04


def test_nothing_can_be_said_at_all() -> None:
    outcome = find(replace(OPEN, max_runs=5), lambda probe, _: Reading(None))
    assert outcome.finding.load is None and not outcome.finding.confirmed
    assert outcome.finding.interval == (None, None)
    assert len(outcome.probes) <= 5


def test_what_was_found_is_a_matter_of_the_readings_alone() -> None:
    """A resumed search replays its readings; it must ask for the same loads."""
    assert find(OPEN, queue_under_a_clock, 7) == find(OPEN, queue_under_a_clock, 7)


def test_one_outlier_does_not_decide() -> None:
    """A hiccup of the machine in one run: twice the p99, and the search neither believes it nor is stuck."""
    strays = 0
    for seed in range(5):
        count = [0]

        def target(probe: Probe, draw: random.Random, count: list[int] = count) -> Reading:
            count[0] += 1
            seen = queue_under_a_clock(probe, draw)
            if count[0] == 6 and seen.margin is not None:
                margin = seen.margin + math.log(2)
                return Reading(margin <= 0, margin, seen.noise)
            return seen

        finding = find(replace(OPEN, max_runs=14), target, seed).finding
        strays += finding.load is None or abs(finding.load / TRUTH - 1) > 0.04
    assert strays <= 1


def test_a_confirmation_that_the_machine_spoiled_decides_less() -> None:
    """A standstill leaves a queue behind that may take the p99 beyond its limit; the load generator has noticed it."""

    def misses(is_noticed: bool) -> int:
        count = 0
        for seed in range(12):
            full = [0]

            def target(probe: Probe, draw: random.Random, full: list[int] = full) -> Reading:
                seen = queue_under_a_clock(probe, draw)
                full[0] += probe.full
                if full[0] == 1 and probe.full and seen.margin is not None:
                    margin = seen.margin + math.log(2.2)
                    return Reading(margin <= 0, margin, seen.noise, doubtful=is_noticed and margin > 0)
                return seen

            load = find(OPEN, target, seed).finding.load
            count += load is None or abs(load / TRUTH - 1) > 0.03
        return count

    assert misses(is_noticed=True) <= 2 < misses(is_noticed=False)
