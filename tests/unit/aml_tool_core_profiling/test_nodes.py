"""Several nodes: who is who, who drives what, and what all of them did together."""

from __future__ import annotations

import json
import math
import resource
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import pytest
from aml_tool_core.errors import InputError, ToolError
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
    dealing,
    engine,
    node_place,
    nodes,
    rendezvous,
    repeats,
    side_by_side,
)
from aml_tool_core.profiling import search as searching
from aml_tool_core.profiling.course import Search, Sweep
from aml_tool_core.profiling.engine import Engine, Installed, Plan, StartMissed
from aml_tool_core.profiling.payload import Payload
from aml_tool_core.profiling.result import NodePart
from aml_tool_core.profiling.result_wire import load_as_json, load_of, result_as_json, result_of
from aml_tool_core.profiling.runs import Point, Purpose
from aml_tool_core.profiling.search import Question
from aml_tool_core.profiling.target import Target
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
        ({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a"}, (1, 2, "a", node_place.DEFAULT_PORT)),
        (
            {"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "3", "AZ_BATCH_MASTER_NODE": "10.0.0.4:6000"},
            (2, 3, "10.0.0.4", 6000),
        ),
        (
            {"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "3", "AZ_BATCH_MASTER_NODE": "[fd00::4]:6000"},
            (2, 3, "fd00::4", 6000),
        ),
        (
            {"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "3", "AZ_BATCHAI_MPI_MASTER_NODE": "fd00::4"},
            (2, 3, "fd00::4", node_place.DEFAULT_PORT),
        ),
        ({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "[::1]", "MASTER_PORT": "6105"}, (1, 2, "::1", 6105)),
    ],
)
def test_azureml_tells_a_node_its_place(variables: dict[str, str], wanted: tuple[int, int, str, int] | None) -> None:
    place = node_place.place_of({"AZUREML_RUN_ID": "a_job"} | variables)
    assert (place and (place.rank, place.count, place.host, place.port)) == wanted


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"RANK": "two"}, "RANK: 'two' is not a whole number"),
        ({"RANK": "3"}, "RANK: 3 is not one of the ranks 0 to 2"),
        ({"MASTER_ADDR": ""}, "MASTER_ADDR: missing"),
        ({"MASTER_PORT": "0"}, "MASTER_PORT: '0' is not a port"),
        ({"AML_PROFILER_NODES_WAIT_SEC": "-1"}, "AML_PROFILER_NODES_WAIT_SEC: '-1' is not"),
        ({"AZUREML_RUN_ID": ""}, "AZUREML_RUN_ID and AML_PROFILER_NODES_SECRET: neither is set"),
    ],
)
def test_a_place_that_is_unclear(change: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        node_place.place_of(
            {"RANK": "1", "WORLD_SIZE": "3", "MASTER_ADDR": "a", "MASTER_PORT": "1", "AZUREML_RUN_ID": "a_job"} | change
        )


def test_a_secret_of_ones_own_makes_another_key() -> None:
    told = {"RANK": "1", "WORLD_SIZE": "3", "MASTER_ADDR": "a"}
    own = {"AML_PROFILER_NODES_SECRET": "own"}
    places = [node_place.place_of(told | more) for more in ({"AZUREML_RUN_ID": "a_job"}, own, own)]
    keys = [place.secret for place in places if place is not None]
    assert len(keys) == 3 and keys[0] != keys[1] == keys[2]


@given(
    count=st.integers(2, 40),
    per_node=st.integers(1, 20),
    rest=st.integers(0, 39),
    rate=st.floats(0.01, 1e5),
)
def test_shares_add_up_and_take_turns(count: int, per_node: int, rest: int, rate: float) -> None:
    load = replace(LOAD, connections=count * per_node + rest % count, target_rps=rate)
    dealt = [dealing.share(load, rank, count) for rank in range(count)]
    assert sum(one.connections for one in dealt) == load.connections
    assert max(one.connections for one in dealt) - min(one.connections for one in dealt) <= 1
    assert math.fsum(one.target_rps or 0 for one in dealt) == pytest.approx(rate)
    # Every node's first three ticks, on one time axis: one every 1/rate.
    due = sorted(
        dealing.delay_ns(load, rank) / 1e9 + tick / (one.target_rps or 0)
        for rank, one in enumerate(dealt)
        for tick in range(3)
    )
    assert [after - before for before, after in pairwise(due)] == pytest.approx(
        [1 / rate] * (3 * count - 1), rel=1e-3, abs=2e-9
    )


def test_shares_that_do_not_go_round() -> None:
    with pytest.raises(InputError, match="2 clients for 3 nodes: each needs one"):
        dealing.share(replace(LOAD, connections=2), 0, 3)
    with pytest.raises(InputError, match=r"50\.5 requests/s for 2 nodes: the engine takes whole numbers"):
        dealing.share(replace(LOAD, target_rps=50.5), 0, 2, whole_rates=True)
    with pytest.raises(InputError, match="1 requests/s for 2 nodes: the engine takes whole numbers"):
        dealing.share(replace(LOAD, target_rps=1.0), 0, 2, whole_rates=True)


def test_a_thread_without_a_connection_is_left_out() -> None:
    assert [dealing.share(replace(LOAD, connections=7, threads=4), rank, 2).threads for rank in range(2)] == [4, 3]


def test_an_engine_of_whole_rates_gets_whole_rates() -> None:
    dealt = [dealing.share(replace(LOAD, target_rps=92.0), rank, 3, whole_rates=True) for rank in range(3)]
    assert [one.target_rps for one in dealt] == [31, 31, 30]


POINT = Point(Purpose.POINT, 4, 10, 90.0)
QUESTION = Question(start=1.0, whole=True, max_runs=12, precision=0.04)


def test_a_sweep_that_some_nodes_cannot_make_is_refused_before_it_begins() -> None:
    sweep = Sweep(POINT, "succeeded_per_sec", {"connections": (4.0, 1.0)})
    with pytest.raises(InputError, match=r"c\.json: /profiler_config: 1 client for 2 nodes"):
        dealing.dealt(sweep, LOAD, 2, "c.json: /profiler_config", whole_rates=False)
    assert dealing.dealt(replace(sweep, axes={"connections": (4.0, 2.0)}), LOAD, 2, "c", whole_rates=False)


@pytest.mark.parametrize(("axis", "whole_rates"), [("connections", False), ("target_rps", True)])
def test_a_search_goes_no_lower_than_the_nodes_can(axis: str, whole_rates: bool) -> None:
    search = Search(POINT, "succeeded_per_sec", axis, {"error_percent": 1.0}, QUESTION, 10)
    found = dealing.dealt(search, LOAD, 3, "c", whole_rates=whole_rates)
    assert isinstance(found, Search)
    assert (found.question.lowest, found.question.start) == (3, 3)
    higher = replace(search, question=replace(QUESTION, lowest=8.0, start=20.0))
    assert dealing.dealt(higher, LOAD, 3, "c", whole_rates=whole_rates) == higher
    with pytest.raises(InputError, match=f"c/{axis}: up to 2 for 3 nodes"):
        dealing.dealt(replace(search, question=replace(QUESTION, highest=2.0)), LOAD, 3, "c", whole_rates=whole_rates)


def test_a_search_of_rates_needs_connections_for_all() -> None:
    search = Search(POINT, "succeeded_per_sec", "target_rps", {"error_percent": 1.0}, QUESTION, 10)
    assert dealing.dealt(search, LOAD, 4, "c", whole_rates=False) == search
    with pytest.raises(InputError, match="c: 4 clients for 5 nodes"):
        dealing.dealt(search, LOAD, 5, "c", whole_rates=False)


def test_a_large_payload_and_many_connections_take_longer_to_get_ready() -> None:
    small = Payload((b"{}",), "p")
    assert 3e9 < dealing.lead_ns(LOAD, small) < 4e9
    assert dealing.lead_ns(replace(LOAD, connections=1000), small) > 10e9
    assert dealing.lead_ns(LOAD, Payload((b"x" * 1_000_000,) * 200, "p")) > 12e9


def test_a_result_and_a_load_arrive_as_they_were() -> None:
    shared = replace(FIRST, nodes=(NodePart(0, 2, None, 3, 3, 3, 0.0, 0.0), NodePart(1, 2, 4.5, 3, 2, 1, 0.1, -0.2)))
    without = replace(FIRST, service_time=None, schedule=None, errors=Errors(unknown_status=2))
    for result in (FIRST, SECOND, shared, without):
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


def test_the_timely_share_of_all_is_the_share_of_what_all_sent() -> None:
    one = replace(FIRST, planned=100, sent=10, schedule=Schedule(50.0, 5, 90))  # 5 timely sends
    other = replace(FIRST, planned=100, sent=90, schedule=Schedule(100.0, 0, 10))
    whole = side_by_side.together([one, other]).schedule
    assert whole is not None
    assert whole.timely_sends_percent == pytest.approx(95.0)
    assert (whole.late, whole.missed) == (5, 100)
    nothing = replace(FIRST, sent=0, schedule=Schedule(0.0, 0, 100))
    assert side_by_side.together([nothing, nothing]).schedule == Schedule(0.0, 0, 200)


def test_exact_moments_are_those_of_all_requests() -> None:
    parts = [Histogram.of([(value, 1) for value in values]) for values in ([100, 300, 800], [200, 250], [])]
    whole = side_by_side.together([replace(FIRST, latency=one, service_time=None) for one in parts]).latency
    plain = Histogram.of([(value, 1) for value in (100, 300, 800, 200, 250)])
    assert whole.mean_us == pytest.approx(plain.mean_us)
    assert whole.stdev_us == pytest.approx(plain.stdev_us)
    assert side_by_side.together([replace(FIRST, latency=Histogram.of(()))]).latency.total == 0


def meet(secret: bytes, other: bytes, host: str = "127.0.0.1") -> tuple[rendezvous.Channel, rendezvous.Channel] | None:
    """Return both ends of a channel between two nodes; None where the caller is let go."""
    called: list[rendezvous.Channel] = []
    with rendezvous.listen(host, 0) as server:
        port = server.getsockname()[1]

        def accept() -> None:
            met = rendezvous.accept(server, secret, time.monotonic() + 2)
            if met is not None:
                assert met[1] == {"rank": 7}
                called.append(met[0])

        thread = threading.Thread(target=accept)
        thread.start()
        caller = rendezvous.call(host, port, other, {"rank": 7}, time.monotonic() + 2)
        thread.join()
    return (caller, called[0]) if called else None


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback address")
def test_nodes_meet_at_an_address_of_version_6() -> None:
    met = meet(b"secret", b"secret", "::1")
    assert met is not None
    for channel in met:
        channel.close()


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback address")
def test_node_0_of_a_name_with_addresses_of_both_versions_is_reached_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [(family, socket.SOCK_STREAM, 6, "", (host, 0)) for family, host in
            ((socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1"))]  # fmt: skip
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    with rendezvous.listen("node-0", 0) as server:
        monkeypatch.undo()
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, server.getsockname()[1]), timeout=10).close()


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
    assert wait_for(called.has_word)
    with pytest.raises(rendezvous.PeerLost, match="closed the connection"):
        called.receive(10)
    called.close()


def wait_for(condition: Callable[[], bool], limit_sec: float = 30.0) -> bool:
    deadline = time.monotonic() + limit_sec
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


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


@contextmanager
def channels() -> Iterator[tuple[rendezvous.Channel, rendezvous.Channel]]:
    """Yield both ends of a channel: the one that called, and the one that was called."""
    left, right = socket.socketpair()
    with left, right:
        ends: list[rendezvous.Channel] = []
        thread = threading.Thread(
            target=lambda: ends.append(rendezvous.Channel(right, b"s", caller=False, timeout_sec=30))
        )
        thread.start()
        caller = rendezvous.Channel(left, b"s", caller=True, timeout_sec=30)
        thread.join()
        yield caller, ends[0]


def test_a_frame_has_one_deadline_however_it_drips_in() -> None:
    left, right = socket.socketpair()
    over = threading.Event()

    def drip() -> None:
        right.sendall(bytes(16))
        while not over.wait(0.05):
            right.sendall(b"\0")

    with left, right:
        thread = threading.Thread(target=drip)
        thread.start()
        channel = rendezvous.Channel(left, b"s", caller=True, timeout_sec=30)
        began = time.monotonic()
        with pytest.raises(rendezvous.PeerLost, match="said nothing, or nothing whole, for 0 s"):
            channel.receive(0.4)
        # One byte every 50 ms makes a head in 1.8 s; a deadline for each byte would never pass.
        took_sec = time.monotonic() - began
        over.set()
        thread.join()
    assert took_sec >= 0.4
    assert channel._received == 0


def test_a_stranger_is_listened_to_for_a_short_frame_only() -> None:
    left, right = socket.socketpair()
    with left, right:
        right.sendall(bytes(16) + struct.pack("!I32s", 1 << 20, bytes(32)))
        channel = rendezvous.Channel(left, b"s", caller=True, timeout_sec=30)
        with pytest.raises(rendezvous.PeerLost, match="does not speak this protocol"):
            channel.receive(30)


def test_who_is_known_may_send_a_long_one() -> None:
    with channels() as (caller, called):
        caller.send({"do": "end"})
        called.receive(30)
        thread = threading.Thread(target=caller.send, args=({"long": "x" * 1_000_000},))
        thread.start()
        assert len(called.receive(30)["long"]) == 1_000_000
        thread.join()


HOUR_NS = 3_600_000_000_000
TARGET = Target("http://127.0.0.1:1/score", {}, "config")
PLAN = Plan(TARGET, Payload((b"{}",), "p"), LOAD, "test")


def tool(**more: object) -> Installed:
    def never(*_: object) -> None:
        raise AssertionError("no generator is started here")

    return Installed(Engine("e", "e", "", None, "", never, never, starts_at=True, **more), "e", "1")  # type: ignore[arg-type]


class Peer:
    """Another node with a clock of its own: does what it is told, and remembers that."""

    def __init__(self, channel: rendezvous.Channel, ahead_ns: int, answers: list[dict[str, object]]) -> None:
        self.told: list[dict[str, object]] = []
        self._channel = channel
        self._ahead_ns = ahead_ns
        self._answers = answers
        self.drift_ns = 0
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        while (message := self._channel.receive(30))["do"] != "end":
            if message["do"] == "ping":
                self._channel.send({"clock_ns": time.monotonic_ns() + self._ahead_ns})
                continue
            self.told.append(message)
            if message["do"] == "run":
                self._ahead_ns += self.drift_ns
                answer = self._answers.pop(0)
                if answer:
                    self._channel.send(answer)
            elif message["do"] == "stop":
                self._channel.send({"stopped": True})

    def join(self) -> None:
        self._thread.join(30)


@contextmanager
def crew_with(
    ahead_ns: int, answers: list[dict[str, object]], kept: list[tuple[int, Plan, Result]] | None = None
) -> Iterator[tuple[nodes.Crew, Peer]]:
    with channels() as (caller, called):
        peer = Peer(caller, ahead_ns, answers)
        try:
            kept = [] if kept is None else kept
            yield nodes.Crew({1: called}, lambda: 7, lambda *each: kept.append(each)), peer
        finally:
            called.send({"do": "end"})
            peer.join()


@pytest.mark.parametrize("ahead_ns", [HOUR_NS, -HOUR_NS])
def test_a_node_whose_clock_differs_begins_at_the_same_moment(ahead_ns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    own: list[Plan] = []

    def measure(_tool: Installed, plan: Plan, *_: object) -> Result:
        own.append(plan)
        return FIRST

    monkeypatch.setattr(engine, "measure", measure)
    kept: list[tuple[int, Plan, Result]] = []
    with crew_with(ahead_ns, [{"result": result_as_json(SECOND)}], kept) as (crew, peer):
        peer.drift_ns = 7_000_000_000
        result = crew.measure(tool(), PLAN)
    (told,), (mine,) = peer.told, own
    assert told["number"] == 7 and [number for number, *_ in kept] == [7]
    assert mine.start_at_ns is not None and isinstance(told["start_at_ns"], int)
    # Node 1's turn is one request's interval after node 0's; its clock shows another time then.
    turn_ns = round(1e9 / 90)
    _, second = result.nodes
    error_ns = 1e6 * second.clock_error_ms + 1
    assert told["start_at_ns"] - ahead_ns - mine.start_at_ns == pytest.approx(turn_ns, abs=error_ns)
    assert error_ns < turn_ns * 1000, "half a round trip, not an hour"
    assert second.clock_drift_ms == pytest.approx(7000, abs=6000), "forward, not backward"
    assert [part.sent for part in result.nodes] == [100, 300] and result.sent == 400


def test_a_node_that_was_not_ready_gets_more_time_once(monkeypatch: pytest.MonkeyPatch) -> None:
    leads_ns: list[int] = []

    def measure(_tool: Installed, plan: Plan, _watch: object, look: Callable[[], None]) -> Result:
        assert plan.start_at_ns is not None
        leads_ns.append(plan.start_at_ns - time.monotonic_ns())
        if len(leads_ns) == 1:  # the generator runs, and node 1 says that its own does not
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                look()
                time.sleep(0.01)
        return FIRST

    monkeypatch.setattr(engine, "measure", measure)
    with crew_with(0, [{"late": "12 ms too late"}, {"result": result_as_json(SECOND)}]) as (crew, peer):
        assert crew.measure(tool(), PLAN).sent == 400
    assert [message["do"] for message in peer.told] == ["run", "run"]
    assert leads_ns[1] > leads_ns[0] + 1e9
    with (
        crew_with(0, [{"late": "12 ms too late"}, {"late": "9 ms too late"}]) as (crew, peer),
        pytest.raises(StartMissed, match="node 1: 9 ms too late"),
    ):
        crew.measure(tool(), PLAN)


def test_the_others_are_stopped_where_node_0_was_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[Plan] = []

    def measure(_tool: Installed, plan: Plan, *_: object) -> Result:
        tries.append(plan)
        if len(tries) == 1:
            raise StartMissed("too late")
        return FIRST

    monkeypatch.setattr(engine, "measure", measure)
    with crew_with(0, [{}, {"result": result_as_json(SECOND)}]) as (crew, peer):
        assert crew.measure(tool(), PLAN).sent == 400
    assert [message["do"] for message in peer.told] == ["run", "stop", "run"]


def test_a_crew_goes_on_after_a_node_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []

    def measure(_tool: Installed, _plan: Plan, _watch: object, look: Callable[[], None]) -> Result:
        if not ended:
            ended.append(True)
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                look()
                time.sleep(0.01)
        return FIRST

    monkeypatch.setattr(engine, "measure", measure)
    with crew_with(0, [{"error": "exit code 1"}, {"result": result_as_json(SECOND)}]) as (crew, peer):
        with pytest.raises(ToolError, match=r"^node 1: exit code 1$") as failure:
            crew.measure(tool(), PLAN)
        assert not isinstance(failure.value, nodes.NodeLost)
        assert crew.measure(tool(), PLAN).sent == 400
    assert [message["do"] for message in peer.told] == ["run", "run"], "its run is over, so it is not stopped"


def test_the_others_end_a_run_in_which_node_0_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[Plan] = []

    def measure(_tool: Installed, plan: Plan, *_: object) -> Result:
        tries.append(plan)
        if len(tries) == 1:
            raise ToolError("exit code 1")
        return FIRST

    monkeypatch.setattr(engine, "measure", measure)
    with crew_with(0, [{}, {"result": result_as_json(SECOND)}]) as (crew, peer):
        with pytest.raises(ToolError, match=r"^exit code 1$"):
            crew.measure(tool(), PLAN)
        assert crew.measure(tool(), PLAN).sent == 400
    assert [message["do"] for message in peer.told] == ["run", "stop", "run"]


@pytest.mark.parametrize("count", [1, 3])
def test_more_connections_than_can_be_open_are_refused_before_the_load(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 1024))
    most = 952 * count
    sweep = Sweep(POINT, "succeeded_per_sec", {"connections": (4.0, most)})
    assert dealing.borne(sweep, count, "c") == sweep
    with pytest.raises(InputError, match=rf"c\.json: {most + 1} are more than the {most} connections that can be open"):
        dealing.borne(replace(sweep, axes={"connections": (4.0, most + 1.0)}), count, "c.json")
    rates = Search(replace(POINT, connections=most), "succeeded_per_sec", "target_rps", {}, QUESTION, 10)
    assert dealing.borne(rates, count, "c") == rates
    with pytest.raises(InputError, match="connections that can be open here"):
        dealing.borne(replace(rates, base=replace(POINT, connections=most + 1)), count, "c")


def test_a_search_of_connections_goes_no_farther_than_can_be_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 1024))
    search = Search(POINT, "succeeded_per_sec", "connections", {"error_percent": 1.0}, QUESTION, 10)
    bounded = dealing.borne(search, 2, "c")
    assert isinstance(bounded, Search) and bounded.question == replace(QUESTION, highest=1904.0)
    stated = replace(search, question=replace(QUESTION, highest=1904.0))
    assert dealing.borne(stated, 2, "c") == stated
    with pytest.raises(InputError, match="c: 1905 are more than the 1904 connections"):
        dealing.borne(replace(search, question=replace(QUESTION, highest=1905.0)), 2, "c")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1_048_576))
    assert dealing.borne(search, 2, "c") == search, "its own reach is less"


def test_a_search_reaches_no_farther_by_itself_than_is_reckoned_with() -> None:
    runs = searching.search(QUESTION)
    probe = next(runs)
    with pytest.raises(StopIteration) as end:
        while True:
            probe = runs.send(searching.Reading(True))
    assert end.value.value.load <= dealing.SEARCHED_REACH * QUESTION.start
    assert probe.load == pytest.approx(dealing.SEARCHED_REACH * QUESTION.start)


def test_what_nodes_did_in_repeated_runs_adds_up() -> None:
    runs = [
        replace(FIRST, nodes=(NodePart(0, 2, 45.0, 60, 59, 58, 0.0, 0.0), NodePart(1, 2, 45.0, 40, 40, 39, 0.2, -0.5))),
        replace(FIRST, nodes=(NodePart(0, 2, 45.0, 50, 50, 50, 0.0, 0.0), NodePart(1, 2, 45.0, 50, 49, 47, 0.1, 0.3))),
    ]
    assert repeats.together(runs).nodes == (
        NodePart(0, 2, 45.0, 110, 109, 108, 0.0, 0.0),
        NodePart(1, 2, 45.0, 90, 89, 86, 0.2, -0.5),
    )
