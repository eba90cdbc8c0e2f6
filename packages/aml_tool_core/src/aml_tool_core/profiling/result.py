"""What a run yielded, in one shape for every engine. What an engine cannot know is None, never a stand-in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aml_tool_core.profiling.histogram import Histogram

TOO_MANY_REQUESTS = 429


@dataclass(frozen=True)
class Errors:
    """Requests that went wrong, by kind; `status` counts answers that are not 2xx by their code."""

    connect: int = 0
    read: int = 0
    write: int = 0
    timeout: int = 0
    status: Mapping[int, int] | None = None  # None where the engine does not tell codes apart
    unknown_status: int = 0  # answers that were not 2xx, of an engine that does not tell their codes

    @property
    def refused(self) -> int:
        """Answers 429: the concurrency limit was reached, which is not a failure of the model."""
        return (self.status or {}).get(TOO_MANY_REQUESTS, 0)

    @property
    def unanswered(self) -> int:
        """Requests without an answer in time, and so in no histogram.

        More than there were of wrk2, which counts a connection that waits too long again every two seconds.
        """
        return self.connect + self.read + self.write + self.timeout

    @property
    def failed(self) -> int:
        """Every request that went wrong, 429 apart."""
        answered = sum(count for code, count in (self.status or {}).items() if code != TOO_MANY_REQUESTS)
        return self.unanswered + answered + self.unknown_status


def percent_of_requests(part: int, sent: int, wrong: int, good: int) -> float | None:
    """Return a part of the requests, so many of which were sent, went wrong and went well; None where there were none.

    A connection that cannot be made is an error of wrk's, but no request that it sent: what went wrong was tried.
    """
    tried = max(sent, wrong + good)
    return 100 * part / tried if tried else None


@dataclass(frozen=True)
class Schedule:
    """How well an open-loop generator kept its own schedule."""

    timely_sends_percent: float
    late: int
    missed: int
    max_delay_ms: float | None = None
    late_busy: int | None = None  # of the late: because every connection still waited for an answer
    own_delay_ms_99: float | None = None  # of all sends, what the generator itself lost
    own_delay_ms_max: float | None = None


@dataclass(frozen=True)
class Second:
    """One second of the run."""

    t_sec: int
    requests_per_sec: float
    errors: int
    latency_us_50: int | None = None
    latency_us_99: int | None = None


@dataclass(frozen=True)
class Generator:
    """What the generator itself used: a starved one measures itself."""

    cpu_sec: float
    cpu_percent_of_threads: float
    run_queue_wait_percent: float | None = None  # of its threads' time: could have run, but others had the CPU


@dataclass(frozen=True)
class NodePart:
    """What one of several nodes did in a run."""

    rank: int
    connections: int
    target_rps: float | None  # None in a closed loop
    sent: int
    completed: int
    succeeded: int
    clock_error_ms: float  # how exactly its clock was known to node 0 when the run began
    clock_drift_ms: float  # how far it had moved against node 0's when the run was over


@dataclass(frozen=True)
class Result:
    """The outcome of a run. Times are the engine's; `duration_sec` is what rates are counted over."""

    duration_sec: float
    sent: int
    completed: int
    succeeded: int
    errors: Errors
    bytes_read: int | None
    bytes_written: int | None
    latency: Histogram
    service_time: Histogram | None = None  # None where it is the same thing: the closed loop
    planned: int | None = None
    schedule: Schedule | None = None
    timeline: tuple[Second, ...] = ()
    generator: Generator | None = None
    notes: tuple[str, ...] = ()
    stopped_early: str | None = None  # why, where it was not run to its end
    nodes: tuple[NodePart, ...] = ()  # where several made the load

    @property
    def error_percent(self) -> float | None:
        """Failed requests, 429 apart, in percent; None where there were no requests."""
        return self._percent(self.errors.failed)

    @property
    def refused_percent(self) -> float | None:
        """Answers 429 in percent; None where there were no requests."""
        return self._percent(self.errors.refused)

    def _percent(self, part: int) -> float | None:
        return percent_of_requests(part, self.sent, self.errors.failed + self.errors.refused, self.succeeded)

    @property
    def requests_per_sec(self) -> float:
        """Answers per second, whatever they said."""
        return self.completed / self.duration_sec

    @property
    def succeeded_per_sec(self) -> float:
        """Good answers per second."""
        return self.succeeded / self.duration_sec
