"""How a load is dealt out to several nodes: each node's share, its turn, when all begin, and how much they can bear."""

from __future__ import annotations

import logging
from dataclasses import replace

from aml_tool_core.errors import InputError
from aml_tool_core.profiling import open_files
from aml_tool_core.profiling.course import CONNECTIONS, Plan, Search
from aml_tool_core.profiling.load import Load
from aml_tool_core.profiling.payload import Payload

log = logging.getLogger(__name__)

SEARCHED_REACH = 1e4  # a search that is given no bound goes no farther than so many times its start
# From node 0's word to the first request: the generator starts, reads its payload, and opens its connections.
_LEAD_SEC = 3.0
_LEAD_SEC_PER_CONNECTION = 0.01
_LEAD_SEC_PER_BYTE = 1 / 20e6  # written to a file, read from there, and cut into requests, on a slow machine
_LONGEST_LEAD_SEC = 60.0


def share(load: Load, rank: int, count: int, *, whole_rates: bool = False) -> Load:
    """Return what one of the nodes drives: the rate and the connections are dealt out, the threads are each node's own.

    A thread that has no connection to drive is left out. Raises InputError where a node would have no connection.
    """
    if load.connections < count:
        raise InputError(
            f"{load.connections} {load.sender}{'s' if load.connections > 1 else ''} for {count} nodes: each needs one "
            f"at least; ask for {count} or more, or for fewer nodes"
        )
    connections = _dealt(load.connections, rank, count)
    rate = load.target_rps
    if rate is not None and whole_rates:
        if rate < count or rate != int(rate):
            raise InputError(
                f"{rate:g} requests/s for {count} nodes: the engine takes whole numbers, and of each node one at least"
            )
        rate = float(_dealt(int(rate), rank, count))
    elif rate is not None:
        rate /= count
    return replace(load, connections=connections, threads=min(load.threads, connections), target_rps=rate)


def _dealt(number: int, rank: int, count: int) -> int:
    return number // count + (1 if rank < number % count else 0)


def dealt(course: Plan, load: Load, count: int, place: str, *, whole_rates: bool) -> Plan:
    """Return the course for so many nodes: a search goes no lower than they can. Raises InputError, before any run."""
    if isinstance(course, Search) and (whole_rates or course.axis == CONNECTIONS):
        course = _no_lower(course, count, place)
    points = [course.first] if isinstance(course, Search) else course.points()
    try:
        for point in points:
            share(point.of(load), 0, count, whole_rates=whole_rates)
    except InputError as error:
        raise InputError(f"{place}: {error}") from None
    return course


def _no_lower(course: Search, count: int, place: str) -> Search:
    question = course.question
    if question.highest is not None and question.highest < count:
        raise InputError(
            f"{place}/{course.axis}: up to {question.highest:g} for {count} nodes: each needs one at least; raise "
            "`to`, or ask for fewer nodes"
        )
    lowest = float(max(count, question.lowest or 1.0))
    return replace(course, question=replace(question, lowest=lowest, start=max(lowest, question.start)))


def borne(course: Plan, count: int, place: str) -> Plan:
    """Return the course as so many nodes can open its connections: a search that would go farther gets a bound.

    Raises InputError, before any run, where a load has more connections than that.
    """
    most = count * open_files.most_connections()
    is_searched = isinstance(course, Search) and course.axis == CONNECTIONS
    if isinstance(course, Search):
        asked = max(course.question.start, course.question.highest or 0.0) if is_searched else course.first.connections
    else:
        asked = max(point.connections for point in course.points())
    if asked > most:
        raise InputError(
            f"{place}: {asked:g} are more than the {most} connections that can be open here; raise the limit of open "
            "files (ulimit -Hn), or ask for fewer"
        )
    if not isinstance(course, Search) or not is_searched or course.question.highest is not None:
        return course
    if course.question.start * SEARCHED_REACH <= most:
        return course
    log.info("the search goes up to %d connections: no more can be open here", most)
    return replace(course, question=replace(course.question, highest=float(most)))


def delay_ns(load: Load, rank: int) -> int:
    """Return how long after the common start a node sends its first request: its turn in the whole's even schedule."""
    return 0 if load.target_rps is None else round(1e9 * rank / load.target_rps)


def lead_ns(load: Load, payload: Payload) -> int:
    """Return how long before the first request the nodes are told of it."""
    size_bytes = sum(len(body) for body in payload.bodies)
    lead_sec = _LEAD_SEC + _LEAD_SEC_PER_CONNECTION * load.connections + _LEAD_SEC_PER_BYTE * size_bytes
    return round(1e9 * min(lead_sec, _LONGEST_LEAD_SEC))
