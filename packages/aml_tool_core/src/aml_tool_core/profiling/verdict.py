"""Whether a run may be believed, and if not, why: LaBench's rules for reading its results, made checkable, and more."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from aml_tool_core.profiling.intervals import needed
from aml_tool_core.profiling.load import Load, LoadModel
from aml_tool_core.profiling.result import Result, Schedule, Second
from aml_tool_core.profiling.sla import latency_demand

TIMELY_PERCENT = 99.9
_MOST_WAITED = 0.5
RATE_SHORTFALL = 0.01
_MOST_PERCENT = 1.0  # of failures, and of refusals, where no more are allowed by a demand
CPU_PERCENT = 95.0
WAIT_PERCENT = 20.0  # a core that the generator waits for longer is not its own, and what it measures is the queue
WAIT_NOTED_PERCENT = 5.0
HALVES_APART = 0.2
P99_REQUESTS = needed(0.99)
_NOTHING_DEMANDED: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True)
class Verdict:
    """Valid without reasons; the notes qualify a run, valid or not."""

    reasons: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def valid(self) -> bool:
        """Tell whether nothing speaks against the run."""
        return not self.reasons


def judge(
    load: Load, result: Result, runs: Sequence[Result] = (), demands: Mapping[str, float] = _NOTHING_DEMANDED
) -> Verdict:
    """Hold a result against the rules; `runs` are those that it is made of, where they were repeated.

    Of what is demanded, the rules take the failures that it allows, and the percentiles that the run is to show.
    """
    schedule = _schedule_reasons(load, result, demands)
    reasons = [
        *_stop_reasons(result),
        # The cause before its consequences: senders that cannot carry the rate are late, and then time out.
        *(_too_few_senders(load, result) if schedule else ()),
        *_failure_reasons(result, demands),
        *schedule,
        *_generator_reasons(load, result),
        *_too_few_requests(result, demands),
    ]
    notes = (
        *_load_notes(load),
        *_refusal_notes(result),
        *_timeout_notes(load, result),
        *_generator_notes(result),
        *(note for run in runs or (result,) for note in _steadiness_notes(run.timeline)),
    )
    return Verdict(tuple(reasons), (*notes, *result.notes))


def is_starved(load: Load, result: Result) -> bool:
    """Tell whether the load generator ran out of CPU, or sent nothing: the run then says nothing about its target."""
    return bool(_generator_reasons(load, result)) or not result.sent


def shortfalls(load: Load, result: Result, demands: Mapping[str, float]) -> list[str]:
    """Return why the target did not carry the load, whatever it took for an answer: failures, a rate not reached."""
    return [*_stop_reasons(result), *_failure_reasons(result, demands), *_rate_reasons(load, result, demands)]


def most_percent(metric: str, demands: Mapping[str, float]) -> float:
    """Return how many percent may fail, or be refused, of a load that is carried: more where a demand allows more."""
    return max(_MOST_PERCENT, demands.get(metric, 0.0))


def overdue(load: Load, result: Result, *, waits_are_judged: bool) -> list[str]:
    """Return that too many requests were not sent on time as every sender waited for an answer: nothing where few.

    A request that waited has its wait in its latency from the due time, and where a demand judges that, the wait needs
    no judgement of its own; else a load is not carried when most requests wait. What was never sent has no latency.
    """
    schedule = result.schedule
    if schedule is None:
        return []
    planned = result.planned or result.sent
    waited = schedule.late if schedule.late_busy is None else schedule.late_busy
    too_many_waited = not waits_are_judged and waited > _MOST_WAITED * planned
    if not too_many_waited and 100 * schedule.missed <= (100 - TIMELY_PERCENT) * planned * (1 + 1e-9):
        return []
    return [
        f"{waited + schedule.missed} of {planned} requests were sent late or never, as every {load.sender} was busy: "
        "more of them, or faster answers, are needed"
    ]


def clients_needed(target_rps: float, service_time_sec: float) -> int:
    """Return how many requests are in flight at a rate, by Little's law, as a number of clients that carries it."""
    return math.floor(target_rps * service_time_sec) + 1


def _stop_reasons(result: Result) -> list[str]:
    if result.stopped_early is None:
        return []
    return [f"stopped early, after {result.duration_sec:.1f} s, as abort_on_fail asks: {result.stopped_early}"]


def _schedule_reasons(load: Load, result: Result, demands: Mapping[str, float]) -> list[str]:
    schedule = result.schedule
    reasons = []
    if schedule is not None and schedule.timely_sends_percent < TIMELY_PERCENT:
        reasons.append(
            f"{schedule.timely_sends_percent:.2f} % of the requests were sent on time ({_late(load, schedule)}, "
            f"{schedule.missed} never), less than {TIMELY_PERCENT} %{_own_lateness(schedule)}"
        )
    return [*reasons, *_rate_reasons(load, result, demands)]


def _rate_reasons(load: Load, result: Result, demands: Mapping[str, float]) -> list[str]:
    if load.target_rps is None:
        return []
    reached = (result.completed + _allowed_to_be_lost(result, demands)) / result.duration_sec
    if reached >= load.target_rps * (1 - RATE_SHORTFALL):
        return []
    return [
        f"{result.requests_per_sec:.2f} requests/s were reached, more than {RATE_SHORTFALL:.0%} below the "
        f"{load.target_rps:g} asked for"
    ]


def _allowed_to_be_lost(result: Result, demands: Mapping[str, float]) -> float:
    """Return how many requests were sent, and not answered, as a demand allows: what is a failure is no lower rate.

    What was never sent, as no sender was free, is not among them. Of wrk2, which counts a waiting connection as a
    timeout again and again, no more are than it sent without an answer.
    """
    unanswered = min(result.errors.unanswered, max(result.sent - result.completed, 0))
    return min(unanswered, result.sent * most_percent("error_percent", demands) / 100)


def _late(load: Load, schedule: Schedule) -> str:
    if schedule.late_busy is None:
        return f"{schedule.late} late"
    own = schedule.late - schedule.late_busy
    return f"{schedule.late_busy} late as every {load.sender} was busy, {own} by the load generator's own fault"


def _own_lateness(schedule: Schedule) -> str:
    """Return what the generator's own lateness was and means; nothing where it was on time, or where nobody knows."""
    own = schedule.late - (schedule.late if schedule.late_busy is None else schedule.late_busy)
    if own <= 0:
        return ""
    bound = "latency, from the due time, is an upper bound"
    if own <= schedule.late - own + schedule.missed:
        return f"; {bound}"
    delays = {"at p99": schedule.own_delay_ms_99, "at most": schedule.own_delay_ms_max}
    told = ", ".join(f"{delay_ms:.2f} ms {words}" for words, delay_ms in delays.items() if delay_ms is not None)
    return f"{told and f'; its own delay is {told}'}; give it a core that nothing else uses; {bound}"


def _too_few_senders(load: Load, result: Result) -> list[str]:
    """Hold the number of connections, or clients, against Little's law."""
    if load.target_rps is None or result.service_time is None or not result.service_time.total or not result.succeeded:
        return []
    service_sec = result.service_time.mean_us / 1e6
    needed = clients_needed(load.target_rps, service_sec)
    if needed <= load.connections:
        return []
    return [
        f"{load.connections} {load.sender}{'s carry' if load.connections > 1 else ' carries'} at most "
        f"{load.connections / service_sec:.1f} requests/s at the mean "
        f"service time of {service_sec * 1e3:.2f} ms; {load.target_rps:g} requests/s need {needed}"
    ]


def _failure_reasons(result: Result, demands: Mapping[str, float]) -> list[str]:
    if result.succeeded == 0:
        return [f"no request succeeded ({_kinds(result)})"]
    failed, most = result.error_percent or 0.0, most_percent("error_percent", demands)
    if failed > most:
        return [f"{failed:.1f}% of the requests failed ({_kinds(result)}), more than {most:g}%"]
    return []


def _too_few_requests(result: Result, demands: Iterable[str]) -> list[str]:
    """Hold the number of requests against p99 and what else is demanded; the percentile that needs most is named."""
    samples = {"p99": (P99_REQUESTS, result.latency.total)}
    for metric in demands:
        demand = latency_demand(metric)
        if demand is not None and demand.percent is not None:
            samples[metric] = needed(demand.percent / 100), demand.count(result)
    short = {metric: sample for metric, sample in samples.items() if sample[1] < sample[0]}
    if not short:
        return []
    metric = max(short, key=lambda one: short[one][0])
    least, count = short[metric]
    return [f"{count} requests were measured, too few for {metric}, which needs {least}; let the run last longer"]


def _kinds(result: Result) -> str:
    errors = result.errors
    kinds = {"connect": errors.connect, "read": errors.read, "write": errors.write, "timeout": errors.timeout}
    kinds |= {f"status {code}": count for code, count in sorted((errors.status or {}).items())}
    kinds["status not 2xx"] = errors.unknown_status
    return ", ".join(f"{kind}: {count}" for kind, count in kinds.items() if count) or "nothing was answered"


def _generator_reasons(load: Load, result: Result) -> list[str]:
    generator = result.generator
    if generator is None:
        return []
    waited = generator.run_queue_wait_percent or 0.0
    if generator.cpu_percent_of_threads + waited >= CPU_PERCENT:
        return [
            f"the load generator ran out of CPU: its {load.threads} thread(s) ran "
            f"{generator.cpu_percent_of_threads:.0f} % of the time and waited for a core {waited:.0f} %, so it, not "
            "the target, may be what was measured; give it more threads or cores"
        ]
    if waited > WAIT_PERCENT:
        return [
            f"the load generator ran out of CPU: it waited for a core {waited:.0f} % of the time, more than "
            f"{WAIT_PERCENT:.0f} %, so the latencies are in part its own waiting; give it a core that nothing else "
            "uses, or another machine than what it loads"
        ]
    return []


def _timeout_notes(load: Load, result: Result) -> list[str]:
    if not result.errors.timeout:
        return []
    return [
        f"{result.errors.timeout} requests took longer than the timeout of {load.timeout_sec:g} s; the percentiles are "
        "of the others"
    ]


def _generator_notes(result: Result) -> list[str]:
    waited = None if result.generator is None else result.generator.run_queue_wait_percent
    if waited is None or not WAIT_NOTED_PERCENT <= waited <= WAIT_PERCENT:
        return []
    return [f"the load generator waited for a core {waited:.0f} % of the time; a part of the latencies may be that"]


def _load_notes(load: Load) -> list[str]:
    if load.model is LoadModel.OPEN:
        return []
    return [
        "closed loop: a slow answer delays the requests behind it, so they are not sent while the target is slow and "
        "its slowness is underrepresented; the percentiles say how long answers took at this concurrency, not how long "
        "users arriving at a given rate would wait"
    ]


def _refusal_notes(result: Result) -> list[str]:
    refused = result.errors.refused
    if not refused:
        return []
    return [
        f"{refused} requests ({refused / max(result.completed, 1):.1%}) were refused with 429: the concurrency limit "
        "was reached; their latencies are in the histogram too"
    ]


def _steadiness_notes(timeline: Sequence[Second]) -> list[str]:
    """Hold a run's first half against its second; an engine without a timeline tells neither, so there is no note."""
    size = len(timeline) // 2
    if not size:
        return []
    halves = (timeline[:size], timeline[-size:])
    first, second = (math.fsum(one.requests_per_sec for one in half) for half in halves)
    apart = abs(first - second)
    # Few requests lie so far apart by chance: three standard deviations of a difference of Poisson counts.
    if apart <= HALVES_APART * max(first, second) or apart <= 3 * math.sqrt(first + second):
        return []
    return [
        f"not steady: {first / size:.1f} requests/s in the first half of the run, {second / size:.1f} in the second, "
        f"more than {HALVES_APART:.0%} apart; the figures mix both: let it warm up longer (warmup_sec), or look for "
        "what else the target or the load generator did"
    ]
