"""How many connections one process may open: each takes an open file, and its address a port."""

from __future__ import annotations

import resource

_SPARE = 72  # what a load generator opens beside its connections; metronome counts with as many
_MOST_PORTS = 60_000  # of 65,535 from one address to another, less those that others hold


def most_connections() -> int:
    """Return how many connections a load generator can open here, once its limit is raised as far as it may be."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_PORTS if hard == resource.RLIM_INFINITY else min(_MOST_PORTS, hard - _SPARE)


def allow(connections: int) -> None:
    """Raise this process's limit of open files, which a load generator inherits, where so many need more.

    No farther: a limit in the millions makes some programs slow.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _SPARE
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
