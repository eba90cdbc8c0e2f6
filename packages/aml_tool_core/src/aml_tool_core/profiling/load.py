"""How much load: the profiler's configuration with its defaults, and the concurrency rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from aml_tool_core import documents
from aml_tool_core.errors import InputError
from aml_tool_core.profiling import sweep
from aml_tool_core.profiling.target import Target

# wrk's and wrk2's configuration has no timeout of its own; labench's default serves them too.
DEFAULT_TIMEOUT_SEC = 10.0


class LoadModel(Enum):
    """What makes a generator send its next request."""

    CLOSED = "closed"  # the answer to the last one
    OPEN = "open"  # the clock


class SendSchedule(Enum):
    """Whose clock it is, in an open loop."""

    CONNECTION = "connection"  # every connection keeps an even schedule of its own
    CLOCK = "clock"  # one even clock serves all clients


@dataclass(frozen=True)
class Load:
    """The load of one run."""

    model: LoadModel
    duration_sec: int
    connections: int
    threads: int
    timeout_sec: float
    target_rps: float | None = None
    warmup_sec: int = 0
    schedule: SendSchedule | None = None  # None in a closed loop

    @property
    def sender(self) -> str:
        """What the users of this load model call one of those that send: a clock serves clients."""
        return "client" if self.schedule is SendSchedule.CLOCK else "connection"


def with_defaults(config: Mapping[str, Any], schema: str) -> dict[str, Any]:
    """Return `profiler_config` with the defaults that its schema states filled in."""
    properties = documents.schemas()[schema]["properties"]["profiler_config"]["properties"]
    defaults = {key: rule["default"] for key, rule in properties.items() if "default" in rule}
    return {**defaults, **config}


def concurrency(given: int | None, target: Target, *, required: bool, place: str) -> int:
    """Return the number of connections by the rule that all profilers share.

    The configuration's own number; else the target's max_concurrent_requests_per_instance; else its worker_count;
    else 1. With `required`, a target without endpoint information must come with a number: raises InputError.
    """
    if given is not None:
        return given
    if required and not target.has_endpoint:
        raise InputError(
            f"{place}: missing; it is required for a scoring target without endpoint_name and deployment_name, "
            "give the number of connections"
        )
    return target.max_concurrent_requests_per_instance or target.worker_count or 1


def load_of(
    model: LoadModel, schedule: SendSchedule | None, config: Mapping[str, Any], connections: int, source: str
) -> Load:
    """Build the load from a configuration that has its defaults. Raises InputError where its parts contradict.

    Where the configuration has several values of something, it is left open here: each run states its own.
    """
    threads = int(config.get("threads", 1))
    rate = config.get("target_rps")
    is_one_number = sweep.is_single(config.get("connections", connections)) and "search" not in config
    if is_one_number and threads > connections:  # of several numbers, the small ones are driven by fewer threads
        raise InputError(
            f"{source}: /profiler_config/threads: {threads} is more than the {connections} connections that they "
            "drive; lower it or raise the connections"
        )
    return Load(
        model=model,
        duration_sec=int(config["duration_sec"]),
        connections=connections,
        threads=threads,
        timeout_sec=float(config.get("timeout_sec", DEFAULT_TIMEOUT_SEC)),
        target_rps=float(rate) if isinstance(rate, int | float) else None,
        warmup_sec=int(config["warmup_sec"]),
        schedule=schedule,
    )
