"""Several nodes: who is who, who drives what, and what all of them did together."""

from __future__ import annotations

import json
import math
import socket
import threading
import time
from dataclasses import replace
from itertools import pairwise

import pytest
from aml_tool_core.errors import InputError
from aml_tool_core.profiling import (
    Errors,
    Generator,
    Histogram,
    Load,
    LoadModel,
    Result,
    Schedule,
    Second,
    SendSchedule,
    nodes,
    rendezvous,
    side_by_side,
)
from aml_tool_core.profiling.result_wire import load_as_json, load_of, result_as_json, result_of
from hypothesis import given
from hypothesis import strategies as st

LOAD = Load(LoadModel.OPEN, 10, 12, 1, 5.0, target_rps=90.0, warmup_sec=2, schedule=SendSchedule.CLOCK)
FIRST = Result(
    duration_sec=10.0,
    sent=100,
    completed=99,
    succeeded=97,
    errors=Errors(timeout=1, status={429: 2}),
    bytes_read=10,
    bytes_written=20,
    latency=Histogram.of([(1_000, 60), (2_000, 40)], mean_us=1400.25, stdev_us=490.0),
    service_time=Histogram.of([(900, 100)]),
    planned=100,
    schedule=Schedule(99.0, 1, 0, 5.0, 1, 0.5, 4.0),
    timeline=(Second(0, 50.0, 0, 1_000, 2_000), Second(1, 49.0, 3)),
    generator=Generator(0.2, 10.0, 1.0),
    notes=("same",),
)
SECOND = replace(
    FIRST,
    sent=300,
    completed=300,
    succeeded=300,
    errors=Errors(status={429: 1, 500: 3}),
    latency=Histogram.of([(1_000, 100), (3_000, 200)]),
    planned=300,
    schedule=Schedule(97.0, 9, 2, 8.0, 4, 0.2, 7.0),
    generator=Generator(0.6, 30.0, None),
    notes=("same", "own"),
)


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, None),
        ({"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "a"}, None),
        ({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "10.0.0.4", "MASTER_PORT": "6105"}, (1, 2, "10.0.0.4", 6105)),
        ({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a"}, (1, 2, "a", nodes.DEFAULT_PORT)),
        (
            {"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "3", "AZ_BATCH_MASTER_NODE": "10.0.0.4:6000"},
            (2, 3, "10.0.0.4", 6000),
        ),
    ],
)
def test_azureml_tells_a_node_its_place(variables: dict[str, str], wanted: tuple[int, int, str, int] | None) -> None:
    place = nodes.place_of(variables)
    assert (place and (place.rank, place.count, place.host, place.port)) == wanted


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"RANK": "two"}, "RANK: 'two' is not a whole number"),
        ({"RANK": "3"}, "RANK: 3 is not one of the ranks 0 to 2"),
        ({"MASTER_ADDR": ""}, "MASTER_ADDR: missing"),
        ({"MASTER_PORT": "0"}, "MASTER_PORT: '0' is not a port"),
        ({"AML_PROFILER_NODES_WAIT_SEC": "-1"}, "AML_PROFILER_NODES_WAIT_SEC: '-1' is not"),
    ],
)
def test_a_place_that_is_unclear(change: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        nodes.place_of({"RANK": "1", "WORLD_SIZE": "3", "MASTER_ADDR": "a", "MASTER_PORT": "1"} | change)


@given(
    count=st.integers(2, 40),
    per_node=st.integers(1, 20),
    rest=st.integers(0, 39),
    rate=st.floats(0.01, 1e5),
)
def test_shares_add_up_and_take_turns(count: int, per_node: int, rest: int, rate: float) -> None:
    load = replace(LOAD, connections=count * per_node + rest % count, target_rps=rate)
    dealt = [nodes.share(load, rank, count) for rank in range(count)]
    assert sum(one.connections for one in dealt) == load.connections
    assert max(one.connections for one in dealt) - min(one.connections for one in dealt) <= 1
    assert math.fsum(one.target_rps or 0 for one in dealt) == pytest.approx(rate)
    # Every node's first three ticks, on one time axis: one every 1/rate.
    due = sorted(
        nodes.delay_ns(load, rank) / 1e9 + tick / (one.target_rps or 0)
        for rank, one in enumerate(dealt)
        for tick in range(3)
    )
    assert [after - before for before, after in pairwise(due)] == pytest.approx(
        [1 / rate] * (3 * count - 1), rel=1e-3, abs=2e-9
    )


def test_shares_that_do_not_go_round() -> None:
    with pytest.raises(InputError, match="2 clients for 3 nodes: each needs one"):
        nodes.share(replace(LOAD, connections=2), 0, 3)
    with pytest.raises(InputError, match="threads: 4 on each node is more than the 3 clients"):
        nodes.share(replace(LOAD, connections=6, threads=4), 0, 2)


def test_a_result_and_a_load_arrive_as_they_were() -> None:
    for result in (FIRST, SECOND, replace(FIRST, service_time=None, schedule=None, errors=Errors(unknown_status=2))):
        assert result_of(json.loads(json.dumps(result_as_json(result)))) == result
    for load in (LOAD, Load(LoadModel.CLOSED, 1, 2, 1, 3.0)):
        assert load_of(json.loads(json.dumps(load_as_json(load)))) == load


def test_side_by_side_is_the_sum() -> None:
    whole = side_by_side.together([FIRST, SECOND])
    assert (whole.duration_sec, whole.sent, whole.completed, whole.succeeded, whole.planned) == (
        10.0,
        400,
        399,
        397,
        400,
    )
    assert whole.errors == Errors(timeout=1, status={429: 3, 500: 3})
    assert whole.requests_per_sec == pytest.approx(FIRST.requests_per_sec + SECOND.requests_per_sec)
    assert whole.latency.counts == ((1_000, 160), (2_000, 40), (3_000, 200))
    assert whole.latency.mean_us == pytest.approx((100 * 1400.25 + 300 * SECOND.latency.mean_us) / 400)
    assert whole.schedule == Schedule(97.5, 10, 2, 8.0, 5, 0.5, 7.0)
    assert whole.generator is not None and whole.generator.cpu_sec == pytest.approx(0.8)
    assert (whole.generator.cpu_percent_of_threads, whole.generator.run_queue_wait_percent) == (30.0, None)
    assert whole.timeline == (Second(0, 100.0, 0), Second(1, 98.0, 6))
    assert whole.notes == ("same", "own")


def test_exact_moments_are_those_of_all_requests() -> None:
    parts = [Histogram.of([(value, 1) for value in values]) for values in ([100, 300, 800], [200, 250], [])]
    whole = side_by_side.together([replace(FIRST, latency=one, service_time=None) for one in parts]).latency
    plain = Histogram.of([(value, 1) for value in (100, 300, 800, 200, 250)])
    assert whole.mean_us == pytest.approx(plain.mean_us)
    assert whole.stdev_us == pytest.approx(plain.stdev_us)
    assert side_by_side.together([replace(FIRST, latency=Histogram.of(()))]).latency.total == 0


def meet(secret: bytes, other: bytes) -> tuple[rendezvous.Channel, rendezvous.Channel] | None:
    """Return both ends of a channel between two nodes; None where the caller is let go."""
    called: list[rendezvous.Channel] = []
    with rendezvous.listen("127.0.0.1", 0) as server:
        port = server.getsockname()[1]

        def accept() -> None:
            met = rendezvous.accept(server, secret, time.monotonic() + 2)
            if met is not None:
                assert met[1] == {"rank": 7}
                called.append(met[0])

        thread = threading.Thread(target=accept)
        thread.start()
        caller = rendezvous.call("127.0.0.1", port, other, {"rank": 7}, time.monotonic() + 2)
        thread.join()
    return (caller, called[0]) if called else None


def test_nodes_talk_and_know_each_others_clock() -> None:
    met = meet(b"secret", b"secret")
    assert met is not None
    caller, called = met

    def answer() -> None:
        while called.receive(10) == {"do": "ping"}:
            called.answer_ping()

    thread = threading.Thread(target=answer)
    thread.start()
    clock = caller.clock(10)
    caller.send({"do": "end"})
    thread.join()
    # It is the same clock, and the bound says how exactly that is known.
    assert abs(clock.ahead_ns) <= clock.error_ns
    caller.close()
    with pytest.raises(rendezvous.PeerLost, match="closed the connection"):
        called.receive(10)
    called.close()


def test_who_does_not_know_the_secret_is_let_go() -> None:
    assert meet(b"secret", b"guessed") is None


def test_a_frame_that_was_changed_or_repeated_is_refused() -> None:
    left, right = socket.socketpair()
    with left, right:
        ends: list[rendezvous.Channel] = []
        thread = threading.Thread(
            target=lambda: ends.append(rendezvous.Channel(right, b"s", caller=False, timeout_sec=5))
        )
        thread.start()
        channel = rendezvous.Channel(left, b"s", caller=True, timeout_sec=5)
        thread.join()
        channel.send({"do": "end"})
        assert ends[0].receive(5) == {"do": "end"}
        channel._sent = 0  # the frame that was sent once before
        channel.send({"do": "end"})
        with pytest.raises(rendezvous.PeerLost, match="does not know this job's key"):
            ends[0].receive(5)
