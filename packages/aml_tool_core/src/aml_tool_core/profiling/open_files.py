"""How many connections one process may open: each takes an open file, and its address a port."""

from __future__ import annotations

import resource
from pathlib import Path

_SPARE = 72  # what a load generator opens beside its connections; metronome counts with as many
_MOST_PORTS = 60_000  # of 65,535 from one address to another, less those that others hold
_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")  # of IPv6 too


def most_connections() -> int:
    """Return how many connections a load generator can open here, once its limit is raised as far as it may be."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ports = _ports(_PORT_RANGE)
    return ports if hard == resource.RLIM_INFINITY else max(0, min(ports, hard - _SPARE))


def _ports(path: Path) -> int:
    """Return how many ports one address has for connections to another; as many as may be where nobody tells."""
    try:
        first, last = map(int, path.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return _MOST_PORTS
    return max(0, min(_MOST_PORTS, last - first + 1))


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
