"""One load from several machines: the nodes of an AzureML job with `resources.instance_count`.

Node 0 leads: it waits for the others, tells each its share of the load and the moment to begin, measures its own share
and adds up what all of them measured. To the rest of the profiler that is one run like any other. The others follow:
they measure what they are told until node 0 has its answer.

The nodes' clocks are compared before and after every run, so that node i sends its first request i/rate after the
common start, and the requests of all nodes together are as even as those of one.

While a node measures, it keeps an eye on the others: as soon as one of them fails, all of them end the run, and wait
for node 0 to give up or to go on with another load; as soon as one goes away, all of them end.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from aml_tool_core.errors import ToolError
from aml_tool_core.profiling import engine as engines
from aml_tool_core.profiling import rendezvous, side_by_side
from aml_tool_core.profiling.dealing import delay_ns, lead_ns, share
from aml_tool_core.profiling.engine import OVERTIME_SEC, Installed, Plan, StartMissed
from aml_tool_core.profiling.load import Load
from aml_tool_core.profiling.node_place import WAIT_SEC, WAIT_VARIABLE, Place, place_of
from aml_tool_core.profiling.payload import Payload
from aml_tool_core.profiling.rendezvous import Channel, Clock, PeerLost
from aml_tool_core.profiling.result import NodePart, Result
from aml_tool_core.profiling.result_wire import load_as_json, load_of, result_as_json, result_of
from aml_tool_core.profiling.watch import Watch

T = TypeVar("T")
log = logging.getLogger(__name__)

_ANSWER_SEC = 30.0
_LATER = 2  # where a node was not ready in time, all of them are given so many times as long, once

Measure = Callable[[Installed, Plan, "Watch | None"], Result]
Keep = Callable[[int, Plan, Result], None]  # a run's number, this node's share of it, and what came of that


class _Stopped(Exception):
    """Node 0 wants no more of this run."""


class Crew:
    """All nodes of a job, as node 0 sees them."""

    def __init__(self, others: Mapping[int, Channel], number: Callable[[], int], keep: Keep) -> None:
        self._others = dict(sorted(others.items()))
        self._number = number
        self._keep = keep

    @property
    def count(self) -> int:
        """How many nodes there are, this one included."""
        return len(self._others) + 1

    def forget(self, first: int) -> None:
        """Let the others remove what they have written of a run and those after it: these were others."""
        for rank, channel in self._others.items():
            _on(rank, channel.send, {"do": "forget", "first": first})

    def measure(self, tool: Installed, plan: Plan, watch: Watch | None = None) -> Result:
        """Do what `engine.measure` does, on all nodes at once. Raises ToolError where one of them fails."""
        assert watch is None, "no node sees all requests"
        plans = [
            replace(plan, load=share(plan.load, rank, self.count, whole_rates=tool.engine.whole_rates))
            for rank in range(self.count)
        ]
        number = self._number()
        before = self._clocks()
        lead = lead_ns(plan.load, plan.payload)
        try:
            results = self._together(tool, plans, plan.load, number, before, lead)
        except StartMissed as error:
            log.warning("%s; once more, with %.0f s to get ready", error, _LATER * lead / 1e9)
            before = self._clocks()
            results = self._together(tool, plans, plan.load, number, before, _LATER * lead)
        self._keep(number, plans[0], results[0])
        parts = _parts(plans, results, before, self._clocks())
        whole = replace(side_by_side.together(results), nodes=parts)
        return replace(whole, notes=(*whole.notes, *_notes(tool, plan.load, whole)))

    def _together(
        self,
        tool: Installed,
        plans: Sequence[Plan],
        load: Load,
        number: int,
        clocks: Mapping[int, Clock],
        lead: int,
    ) -> list[Result]:
        """Measure once, and return what each node measured. Raises StartMissed where one was not ready to begin."""
        start_ns = time.monotonic_ns() + lead
        for rank, channel in self._others.items():
            plan, there_ns = plans[rank], start_ns + delay_ns(load, rank) + clocks[rank].ahead_ns
            told = {"do": "run", "number": number, "load": load_as_json(plan.load), "start_at_ns": there_ns}
            _on(rank, channel.send, {**told, "payload_sha256": plan.payload.sha256})
        answers: dict[int, Result] = {}

        def look() -> None:
            for rank, channel in self._others.items():
                if rank not in answers and channel.has_word():
                    answers[rank] = _answer(rank, channel, _ANSWER_SEC)

        try:
            own = engines.measure(tool, replace(plans[0], start_at_ns=start_ns), None, look)
            for rank, channel in self._others.items():
                if rank not in answers:
                    answers[rank] = _answer(rank, channel, OVERTIME_SEC + load.timeout_sec + _ANSWER_SEC)
        except NodeLost:
            raise
        except ToolError as error:
            self._stop(error.rank if isinstance(error, _NodeLate | _NodeFailed) else 0, answers)
            raise
        return [own, *(answers[rank] for rank in self._others)]

    def _stop(self, over: int, answers: Mapping[int, Result]) -> None:
        """End a run everywhere but where it is over; every node that was told to run has answered then."""
        still = [rank for rank in self._others if rank != over and rank not in answers]
        for rank in still:
            _on(rank, self._others[rank].send, {"do": "stop"})
        for rank in still:
            try:
                _answer(rank, self._others[rank], OVERTIME_SEC)
            except (StartMissed, _Stopped, _NodeFailed):
                continue

    def _clocks(self) -> dict[int, Clock]:
        return {rank: _on(rank, channel.clock, _ANSWER_SEC) for rank, channel in self._others.items()}


class _NodeLate(StartMissed):
    """Another node was not ready."""

    def __init__(self, rank: int, why: str) -> None:
        super().__init__(f"node {rank}: {why}")
        self.rank = rank


class _NodeFailed(ToolError):
    """Another node could not measure its share."""

    def __init__(self, rank: int, why: str) -> None:
        super().__init__(f"node {rank}: {why}")
        self.rank = rank


def _answer(rank: int, channel: Channel, timeout_sec: float) -> Result:
    """Return what another node measured. Raises _NodeFailed where it could not, StartMissed, _Stopped, NodeLost."""
    answer = _on(rank, channel.receive, timeout_sec)
    if "late" in answer:
        raise _NodeLate(rank, answer["late"])
    if "stopped" in answer:
        raise _Stopped
    if "error" in answer:
        raise _NodeFailed(rank, answer["error"])
    return result_of(answer["result"])


def _parts(
    plans: Sequence[Plan], results: Sequence[Result], before: Mapping[int, Clock], after: Mapping[int, Clock]
) -> tuple[NodePart, ...]:
    """Return what each node did, for the report."""
    return tuple(
        NodePart(
            rank=rank,
            connections=plan.load.connections,
            target_rps=plan.load.target_rps,
            sent=result.sent,
            completed=result.completed,
            succeeded=result.succeeded,
            clock_error_ms=before[rank].error_ns / 1e6 if rank else 0.0,
            clock_drift_ms=(after[rank].ahead_ns - before[rank].ahead_ns) / 1e6 if rank else 0.0,
        )
        for rank, (plan, result) in enumerate(zip(plans, results, strict=True))
    )


def _notes(tool: Installed, load: Load, whole: Result) -> Iterator[str]:
    if whole.timeline:
        yield side_by_side.NO_SECOND_PERCENTILES.format(count=len(whole.nodes))
    if load.target_rps is None:
        return
    if not tool.engine.starts_at:
        yield (
            f"{tool.engine.name} cannot be told when to begin: the nodes' schedules lie beside one another as it "
            "happens, and the whole is not even; metronome keeps one schedule over all nodes"
        )
        return
    interval_ms = 1e3 / load.target_rps
    unsure_ms = max(part.clock_error_ms + abs(part.clock_drift_ms) for part in whole.nodes)
    if unsure_ms > interval_ms / 2:
        yield (
            f"the nodes' clocks are known to {unsure_ms:.2f} ms, and requests are due every {interval_ms:.2f} ms: "
            "the rate is exact, but which node's request comes first is not"
        )


@contextmanager
def crew(place: Place, facts: Mapping[str, str], number: Callable[[], int], keep: Keep) -> Iterator[Crew]:
    """Wait for the other nodes, yield all of them together, and let them go in the end. Raises ToolError.

    `facts` are what must be alike on all nodes, by the words in which a difference is told; `number` is that of the
    run that is made next.
    """
    assert place.rank == 0, "node 0 leads"
    joined: dict[int, Channel] = {}
    try:
        _gather(place, facts, joined)
        yield Crew(joined, number, keep)
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


def _gather(place: Place, facts: Mapping[str, str], joined: dict[int, Channel]) -> None:
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


def follow(
    place: Place,
    facts: Mapping[str, str],
    tool: Installed,
    plan: Plan,
    payloads: Sequence[Payload],
    keep: Keep,
    forget: Callable[[int], None],
) -> None:
    """Measure what node 0 says until it has its answer. Raises ToolError where it, or this node, fails."""
    began = time.monotonic()
    log.info("node %d of %d: calling node 0 at %s:%d", place.rank, place.count, place.host, place.port)
    hello = {"rank": place.rank, "facts": dict(facts)}
    channel = rendezvous.call(place.host, place.port, place.secret, hello, began + place.wait_sec)
    # Node 0 may still wait for others, or for Azure's figures of the run before, and its own share may take it longer
    # than this node's; it never sends nothing.
    patience_sec = max(place.wait_sec, WAIT_SEC) + OVERTIME_SEC + _ANSWER_SEC
    by_hash = {payload.sha256: payload for payload in payloads}
    failed: ToolError | None = None  # in the last run
    try:
        while True:
            message = _on(0, channel.receive, patience_sec)
            if message["do"] == "ping":
                _on(0, channel.answer_ping)
            elif message["do"] == "run":
                payload, load = by_hash[message["payload_sha256"]], load_of(message["load"])
                failed = _serve(channel, message, tool, replace(plan, payload=payload, load=load), keep)
            elif message["do"] == "forget":
                forget(message["first"])
            elif message["do"] == "stop":
                continue  # of a run that was over when it came
            elif message["do"] == "fail":
                raise failed or _given_up(message)
            else:
                log.info("node 0 has all it needs")
                return
    finally:
        channel.close()


def _serve(channel: Channel, message: Mapping[str, Any], tool: Installed, plan: Plan, keep: Keep) -> ToolError | None:
    """Measure what node 0 said and answer it, once, unless it is gone. Return why that failed."""

    def look() -> None:
        if channel.has_word():
            heard = _on(0, channel.receive, _ANSWER_SEC)
            if heard["do"] == "fail":
                raise _given_up(heard)
            raise _Stopped

    log.info("run %d: %d %ss, %d s", message["number"], plan.load.connections, plan.load.sender, plan.load.duration_sec)
    try:
        result = engines.measure(tool, replace(plan, start_at_ns=message["start_at_ns"]), None, look)
    except _Stopped:
        log.warning("run %d: stopped by node 0", message["number"])
        _on(0, channel.send, {"stopped": True})
        return None
    except StartMissed as error:
        log.warning("run %d: %s", message["number"], error)
        _on(0, channel.send, {"late": str(error)})
        return None
    except NodeLost:
        raise
    except ToolError as error:
        log.warning("run %d failed: %s", message["number"], error)
        _on(0, channel.send, {"error": str(error)})
        return error
    keep(message["number"], plan, result)
    _on(0, channel.send, {"result": result_as_json(result)})
    return None


class NodeLost(ToolError):
    """Another node went away or gave up: there is nobody to tell."""


def _given_up(message: Mapping[str, Any]) -> NodeLost:
    return NodeLost(f"node 0 gave up: {message['why']}")


def _on(rank: int, action: Callable[..., T], *arguments: Any) -> T:
    """Do something with another node; its name is in the error."""
    try:
        return action(*arguments)
    except PeerLost as error:
        raise NodeLost(f"node {rank} was lost: {error}; see its log") from None


@contextmanager
def measuring(
    place: Place | None, facts: Mapping[str, str], number: Callable[[], int], keep: Keep, *, first: int
) -> Iterator[Measure]:
    """Yield what measures: this machine alone, or node 0 with the others.

    What the nodes have written of the `first` run and those after it is of others that once had their numbers.
    """
    if place is None:
        yield engines.measure
        return
    with crew(place, facts, number, keep) as whole:
        whole.forget(first)
        yield whole.measure


def this_place() -> Place | None:
    """Return this process's place in its job."""
    return place_of(os.environ)
