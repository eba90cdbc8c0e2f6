"""One load from several machines: the nodes of an AzureML job with `resources.instance_count`.

Node 0 leads: it waits for the others, tells each its share of the load and the moment to begin, measures its own share
and adds up what all of them measured. To the rest of the profiler that is one run like any other. The others follow:
they measure what they are told until node 0 has its answer.

The nodes' clocks are compared before and after every run, so that node i sends its first request i/rate after the
common start, and the requests of all nodes together are as even as those of one.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from aml_tool_core import logs
from aml_tool_core.errors import InputError, ToolError
from aml_tool_core.profiling import engine as engines
from aml_tool_core.profiling import rendezvous, side_by_side
from aml_tool_core.profiling.engine import OVERTIME_SEC, Installed, Plan
from aml_tool_core.profiling.load import Load
from aml_tool_core.profiling.rendezvous import Channel, Clock, PeerLost
from aml_tool_core.profiling.result import Result
from aml_tool_core.profiling.result_wire import load_as_json, load_of, result_as_json, result_of
from aml_tool_core.profiling.watch import Watch

T = TypeVar("T")
log = logging.getLogger(__name__)

# AzureML's variables. PyTorch: https://pytorch.org/docs/stable/distributed.html, "Environment variable initialization".
# MPI: Open MPI's own, and AzureML's for where node 0 is ("ADDRESS:PORT").
_PYTORCH = ("RANK", "WORLD_SIZE")
_MPI = ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE")
_MPI_MASTER = ("AZ_BATCH_MASTER_NODE", "AZ_BATCHAI_MPI_MASTER_NODE")
DEFAULT_PORT = 6105
# Ours: how long nodes wait for one another (their images come down at different speeds), and a secret of the job's own.
WAIT_VARIABLE = "AML_PROFILER_NODES_WAIT_SEC"
SECRET_VARIABLE = "AML_PROFILER_NODES_SECRET"
_WAIT_SEC = 600.0
_ANSWER_SEC = 30.0
# From node 0's word to the first request: the generator starts, reads its payload, and opens its connections.
_LEAD_SEC = 3.0
_LEAD_PER_CONNECTION_SEC = 0.01
_LONGEST_LEAD_SEC = 30.0

PAYLOAD = "payload"  # one of the facts that must be alike on all nodes

Measure = Callable[[Installed, Plan, "Watch | None"], Result]
Keep = Callable[[int, Load, Result], None]  # a run's number, from 1, this node's share of it, and what came of that


@dataclass(frozen=True)
class Place:
    """Which of how many nodes this is, and where node 0 listens."""

    rank: int
    count: int
    host: str
    port: int
    wait_sec: float = _WAIT_SEC
    secret: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Member:
    """One node's part in the last run, for the report."""

    rank: int
    load: Load
    result: Result
    clock_error_ms: float  # how exactly its clock was known when the run began
    clock_drift_ms: float  # how far it had moved against node 0's when the run was over

    def document(self) -> dict[str, Any]:
        """Return the node as the report has it."""
        told: dict[str, Any] = {
            "rank": self.rank,
            "connections": self.load.connections,
            "sent": self.result.sent,
            "completed": self.result.completed,
            "succeeded": self.result.succeeded,
            "clock_error_ms": round(self.clock_error_ms, 6),
            "clock_drift_ms": round(self.clock_drift_ms, 6),
        }
        return told if self.load.target_rps is None else {**told, "target_rps": self.load.target_rps}


def place_of(environment: Mapping[str, str]) -> Place | None:
    """Return this node's place in its job; None where the job has one node. Raises InputError where it is unclear."""
    names = next((pair for pair in (_PYTORCH, _MPI) if all(name in environment for name in pair)), None)
    if names is None:
        return None
    rank, count = (_whole(environment, name) for name in names)
    if count < 2:
        return None
    if rank >= count:
        raise InputError(f"{names[0]}: {rank} is not one of the ranks 0 to {count - 1} of {names[1]}={count}")
    host, port = _master(environment)
    wait = environment.get(WAIT_VARIABLE, str(_WAIT_SEC))
    try:
        wait_sec = float(wait)
    except ValueError:
        wait_sec = math.nan
    if not 0 < wait_sec < math.inf:
        raise InputError(f"{WAIT_VARIABLE}: {wait!r} is not a number of seconds above 0")
    own = environment.get(SECRET_VARIABLE, "")
    logs.hide(own)
    return Place(
        rank, count, host, port, wait_sec, rendezvous.secret_of(environment.get("AZUREML_RUN_ID", ""), own, str(count))
    )


def _whole(environment: Mapping[str, str], name: str) -> int:
    text = environment[name]
    if not text.isdecimal():
        raise InputError(f"{name}: {text!r} is not a whole number; AzureML sets it on every node of a distributed job")
    return int(text)


def _master(environment: Mapping[str, str]) -> tuple[str, int]:
    """Return where node 0 is."""
    host, port = environment.get("MASTER_ADDR", ""), environment.get("MASTER_PORT", "")
    if not host:
        told = next((environment[name] for name in _MPI_MASTER if environment.get(name)), "")
        host, _, told_port = told.partition(":")
        port = port or told_port
    if not host:
        raise InputError(
            "MASTER_ADDR: missing, so this node does not know where node 0 is; submit the job with "
            "distribution: {type: pytorch}, which sets it"
        )
    if port and not (port.isdecimal() and 0 < int(port) < 65536):
        raise InputError(f"MASTER_PORT: {port!r} is not a port")
    return host, int(port or DEFAULT_PORT)


def share(load: Load, rank: int, count: int) -> Load:
    """Return what one of the nodes drives: the rate and the connections are dealt out, the threads are each node's own.

    Raises InputError where a node would have no connection, or fewer than threads.
    """
    if load.connections < count:
        raise InputError(
            f"{load.connections} {load.sender}{'s' if load.connections > 1 else ''} for {count} nodes: each needs one "
            f"at least; ask for {count} or more, or for fewer nodes"
        )
    connections = load.connections // count + (1 if rank < load.connections % count else 0)
    if load.threads > connections:
        raise InputError(
            f"threads: {load.threads} on each node is more than the {connections} {load.sender}s that one of {count} "
            "nodes drives; ask for fewer"
        )
    rate = None if load.target_rps is None else load.target_rps / count
    return replace(load, connections=connections, target_rps=rate)


def delay_ns(load: Load, rank: int) -> int:
    """Return how long after the common start a node sends its first request: its turn in the whole's even schedule."""
    return 0 if load.target_rps is None else round(1e9 * rank / load.target_rps)


class Crew:
    """All nodes of a job, as node 0 sees them."""

    def __init__(self, others: Mapping[int, Channel], payload_sha256: str | None, keep: Keep) -> None:
        self._payload_sha256 = payload_sha256
        self._others = dict(sorted(others.items()))
        self._keep = keep
        self._runs = 0
        self.members: tuple[Member, ...] = ()  # of the last run

    @property
    def count(self) -> int:
        """How many nodes there are, this one included."""
        return len(self._others) + 1

    def measure(self, tool: Installed, plan: Plan, watch: Watch | None = None) -> Result:
        """Do what `engine.measure` does, on all nodes at once. Raises ToolError where one of them fails."""
        if watch is not None:
            raise InputError(
                f"{plan.config_source}: /profiler_config/abort_on_fail: not on {self.count} nodes, of which none sees "
                "all requests; leave it out"
            )
        if plan.payload.sha256 != self._payload_sha256:
            raise InputError(
                f"{plan.config_source}: /profiler_config/payload_classes: not on {self.count} nodes, which all send "
                "the whole payload; leave it out"
            )
        loads = [share(plan.load, rank, self.count) for rank in range(self.count)]
        self._runs += 1
        before = {rank: self._clock(rank) for rank in self._others}
        start_ns = time.monotonic_ns() + lead_ns(plan.load)
        for rank, channel in self._others.items():
            told = {"do": "run", "number": self._runs, "load": load_as_json(loads[rank])}
            there_ns = start_ns + delay_ns(plan.load, rank) + before[rank].ahead_ns
            _on(rank, channel.send, {**told, "start_at_ns": there_ns})
        own = engines.measure(tool, replace(plan, load=loads[0], start_at_ns=start_ns))
        self._keep(self._runs, loads[0], own)
        results = [own]
        for rank, channel in self._others.items():
            answer = _on(rank, channel.receive, OVERTIME_SEC + plan.load.timeout_sec + _ANSWER_SEC)
            if "error" in answer:
                raise ToolError(f"node {rank}: {answer['error']}")
            results.append(result_of(answer["result"]))
        after = {rank: self._clock(rank) for rank in self._others}
        clocks = [
            (0.0, 0.0),
            *(
                (before[rank].error_ns / 1e6, (after[rank].ahead_ns - before[rank].ahead_ns) / 1e6)
                for rank in self._others
            ),
        ]
        self.members = tuple(
            Member(rank, load, result, *clock)
            for rank, (load, result, clock) in enumerate(zip(loads, results, clocks, strict=True))
        )
        whole = side_by_side.together(results)
        return replace(whole, notes=(*whole.notes, *self._notes(tool, plan.load, whole)))

    def _clock(self, rank: int) -> Clock:
        return _on(rank, self._others[rank].clock, _ANSWER_SEC)

    def _notes(self, tool: Installed, load: Load, whole: Result) -> Iterator[str]:
        if whole.timeline:
            yield side_by_side.NO_SECOND_PERCENTILES.format(count=self.count)
        if load.target_rps is None:
            return
        if not tool.engine.starts_at:
            yield (
                f"{tool.engine.name} cannot be told when to begin: the nodes' schedules lie beside one another as it "
                "happens, and the whole is not even; metronome keeps one schedule over all nodes"
            )
            return
        interval_ms = 1e3 / load.target_rps
        unsure_ms = max(one.clock_error_ms + abs(one.clock_drift_ms) for one in self.members)
        if unsure_ms > interval_ms / 2:
            yield (
                f"the nodes' clocks are known to {unsure_ms:.2f} ms, and requests are due every {interval_ms:.2f} ms: "
                "the rate is exact, but which node's request comes first is not"
            )


def lead_ns(load: Load) -> int:
    """Return how long before the first request the nodes are told of it."""
    return round(1e9 * min(_LEAD_SEC + _LEAD_PER_CONNECTION_SEC * load.connections, _LONGEST_LEAD_SEC))


@contextmanager
def crew(place: Place, facts: Mapping[str, str | None], keep: Keep) -> Iterator[Crew]:
    """Wait for the other nodes, yield all of them together, and let them go in the end. Raises ToolError.

    `facts` are what must be alike on all nodes, by the words in which a difference is told.
    """
    assert place.rank == 0, "node 0 leads"
    joined: dict[int, Channel] = {}
    try:
        _gather(place, facts, joined)
        yield Crew(joined, facts[PAYLOAD], keep)
    except BaseException as error:
        _dismiss(joined, {"do": "fail", "why": str(error) or type(error).__name__})
        raise
    _dismiss(joined, {"do": "end"})


def _dismiss(others: Mapping[int, Channel], last: Mapping[str, Any]) -> None:
    """Let the other nodes go; with a reason, they fail."""
    for rank, channel in others.items():
        try:
            channel.send(last)
        except PeerLost as error:
            log.warning("node %d: %s", rank, error)
        channel.close()


def _gather(place: Place, facts: Mapping[str, str | None], joined: dict[int, Channel]) -> None:
    deadline = time.monotonic() + place.wait_sec
    log.info("waiting for %d other node(s) at %s:%d", place.count - 1, place.host, place.port)
    with rendezvous.listen(place.host, place.port) as server:
        while len(joined) < place.count - 1:
            met = rendezvous.accept(server, place.secret, deadline)
            if met is None:
                missing = sorted(set(range(1, place.count)) - set(joined))
                raise ToolError(
                    f"{place.host}:{place.port}: node{'s' if len(missing) > 1 else ''} "
                    f"{', '.join(map(str, missing))} of {place.count} did not call within {place.wait_sec:.0f} s; see "
                    f"their logs, or let node 0 wait longer ({WAIT_VARIABLE})"
                )
            channel, hello = met
            rank = int(hello["rank"])
            if rank in joined or not 0 < rank < place.count:
                channel.close()
                raise ToolError(f"{place.host}:{place.port}: a second node calls itself {rank}; give each its own rank")
            joined[rank] = channel
            unlike = [name for name, value in facts.items() if hello["facts"].get(name) != value]
            if unlike:
                raise ToolError(
                    f"node {rank}: not the same as on node 0: {', '.join(unlike)}; give all nodes the same inputs"
                )
            log.info("node %d of %d is here", rank, place.count)


def follow(place: Place, facts: Mapping[str, str | None], tool: Installed, plan: Plan, keep: Keep) -> None:
    """Measure what node 0 says until it has its answer. Raises ToolError where it, or this node, fails."""
    began = time.monotonic()
    log.info("node %d of %d: calling node 0 at %s:%d", place.rank, place.count, place.host, place.port)
    hello = {"rank": place.rank, "facts": dict(facts)}
    channel = rendezvous.call(place.host, place.port, place.secret, hello, began + place.wait_sec)
    # Node 0 may still wait for others, and its own share may take it longer than this node's; it never sends nothing.
    patience_sec = place.wait_sec + OVERTIME_SEC + _ANSWER_SEC
    try:
        while True:
            message = _on(0, channel.receive, patience_sec)
            if message["do"] == "ping":
                _on(0, channel.answer_ping)
            elif message["do"] == "run":
                _serve(channel, message, tool, plan, keep)
            elif message["do"] == "fail":
                raise ToolError(f"node 0 gave up: {message['why']}")
            else:
                log.info("node 0 has all it needs")
                return
    finally:
        channel.close()


def _serve(channel: Channel, message: Mapping[str, Any], tool: Installed, plan: Plan, keep: Keep) -> None:
    load = load_of(message["load"])
    log.info("run %d: %d %ss, %d s", message["number"], load.connections, load.sender, load.duration_sec)
    try:
        result = engines.measure(tool, replace(plan, load=load, start_at_ns=message["start_at_ns"]))
    except ToolError as error:
        _on(0, channel.send, {"error": str(error)})
        raise
    keep(message["number"], load, result)
    _on(0, channel.send, {"result": result_as_json(result)})


def _on(rank: int, action: Callable[..., T], *arguments: Any) -> T:
    """Do something with another node; its name is in the error."""
    try:
        return action(*arguments)
    except PeerLost as error:
        raise ToolError(f"node {rank} was lost: {error}; see its log") from None


@contextmanager
def measuring(
    place: Place | None, facts: Mapping[str, str | None], keep: Keep, members: list[dict[str, Any]]
) -> Iterator[Measure]:
    """Yield what measures: this machine alone, or node 0 with the others, told in `members` in the end."""
    if place is None:
        yield engines.measure
        return
    with crew(place, facts, keep) as whole:
        yield whole.measure
    members.extend(member.document() for member in whole.members)


def this_place() -> Place | None:
    """Return this process's place in its job."""
    return place_of(os.environ)
