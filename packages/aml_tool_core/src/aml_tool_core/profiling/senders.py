"""Whether a search's answer is the target's, or that of the load generator's own connections (its senders)."""

from __future__ import annotations

from collections.abc import Sequence

from aml_tool_core.profiling import verdict
from aml_tool_core.profiling.deployment import Usage
from aml_tool_core.profiling.histogram import Histogram
from aml_tool_core.profiling.runs import Run
from aml_tool_core.profiling.sla import AT_LEAST, judge, latency_demand
from aml_tool_core.profiling.standing import reading

_AS_QUICK = 1.25  # times the least mean service time of all runs: a target that is asked too much takes longer


def bound_by_senders(runs: Sequence[Run], answer: float | None) -> str | None:
    """Return, in words, that above the answer of an open loop's search requests waited for a sender; None otherwise.

    Told by the run that failed nearest to the answer: its requests, once sent, were answered as quickly as any, and
    quickly enough; what it misses, it misses by what they waited before they were sent.
    """
    timed = [(run, service) for run in runs if run.standing.usable and (service := _service_time(run)) is not None]
    failed = [(run, service) for run, service in timed if _rate(run) > (answer or 0.0) and _fails(run)]
    if not failed:
        return None
    run, service = min(failed, key=lambda one: _rate(one[0]))
    if service.mean_us > _AS_QUICK * min(one.mean_us for _, one in timed) or not _waited(run):
        return None
    load, service_sec = run.load, service.mean_us / 1e6
    senders = f"own {load.connections} {load.sender}s" if load.connections > 1 else f"only {load.sender}"
    return (
        f"above it requests waited for the load generator's {senders} and not for the target: at its service time "
        f"of {service_sec * 1e3:.2f} ms that is {load.connections / service_sec:.1f} requests/s at most; more "
        f"{load.sender}s may find more"
    )


def _service_time(run: Run) -> Histogram | None:
    found = run.result.service_time
    return found if found is not None and found.total else None


def _rate(run: Run) -> float:
    return run.load.target_rps or 0.0


def _fails(run: Run) -> bool:
    return reading(run.load, run.result, run.criteria or (), run.standing).holds is False


def _waited(run: Run) -> bool:
    """Tell whether all that a run misses is missed before its requests were sent."""
    schedule, criteria = run.result.schedule, run.criteria or ()
    if schedule is not None and schedule.late_busy == 0:
        return False
    demands = {criterion.metric: criterion.limit for criterion in criteria}
    if (run.result.error_percent or 0.0) > verdict.most_percent("error_percent", demands):
        return False
    missed = [criterion for criterion in criteria if not criterion.met and criterion.metric not in AT_LEAST]
    sent = {
        criterion.metric.replace("latency_ms", "service_time_ms"): criterion.limit
        for criterion in missed
        if latency_demand(criterion.metric) is not None
    }
    return len(sent) == len(missed) and all(one.met for one in judge(sent, run.result, Usage(None, ())))
