"""A run that is repeated: its runs taken together, and how far they lie apart."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from aml_tool_core.profiling.histogram import PERCENTILES, Histogram
from aml_tool_core.profiling.result import Generator, NodePart, Result, Schedule, Second
from aml_tool_core.profiling.sums import errors, total, worst


@dataclass(frozen=True)
class Spread:
    """One metric over the runs."""

    minimum: float
    median: float
    maximum: float


def together(runs: Sequence[Result]) -> Result:
    """Return the runs as one: counts added, histograms added, one timeline after the other."""
    if len(runs) == 1:
        return runs[0]
    services = [run.service_time for run in runs if run.service_time is not None]
    return Result(
        duration_sec=math.fsum(run.duration_sec for run in runs),
        planned=total([run.planned for run in runs]),
        sent=sum(run.sent for run in runs),
        completed=sum(run.completed for run in runs),
        succeeded=sum(run.succeeded for run in runs),
        errors=errors([run.errors for run in runs]),
        bytes_read=total([run.bytes_read for run in runs]),
        bytes_written=total([run.bytes_written for run in runs]),
        latency=_added([run.latency for run in runs]),
        service_time=_added(services) if len(services) == len(runs) else None,
        schedule=_schedule(runs),
        timeline=_timeline(runs),
        generator=_generator(runs),
        notes=tuple(dict.fromkeys(note for run in runs for note in run.notes)),
        stopped_early=runs[-1].stopped_early,
        nodes=_nodes(runs),
    )


def spreads(runs: Sequence[Result]) -> dict[str, Spread]:
    """Return the spread of the rates and of each percentile between the runs."""
    found = {
        "requests_per_sec": _spread(runs, lambda run: run.requests_per_sec),
        "succeeded_per_sec": _spread(runs, lambda run: run.succeeded_per_sec),
    }
    if all(run.latency.total for run in runs):
        for percent in PERCENTILES:
            found[f"latency_ms_{percent:g}"] = _spread(runs, _percentile_ms(percent))
    return found


def _percentile_ms(percent: float) -> Callable[[Result], float]:
    return lambda run: run.latency.percentile(percent).value_us / 1000


def _spread(runs: Sequence[Result], metric: Callable[[Result], float]) -> Spread:
    values = [metric(run) for run in runs]
    return Spread(min(values), statistics.median(values), max(values))


def _added(histograms: Sequence[Histogram]) -> Histogram:
    return Histogram.of(pair for histogram in histograms for pair in histogram.counts)


def _schedule(runs: Sequence[Result]) -> Schedule | None:
    schedules = [run.schedule for run in runs if run.schedule is not None]
    if len(schedules) != len(runs):
        return None
    sent = [run.sent for run in runs]
    timely = sum(schedule.timely_sends_percent * count for schedule, count in zip(schedules, sent, strict=True))
    return Schedule(
        timely_sends_percent=timely / max(sum(sent), 1),
        late=sum(schedule.late for schedule in schedules),
        missed=sum(schedule.missed for schedule in schedules),
        max_delay_ms=worst([schedule.max_delay_ms for schedule in schedules]),
        late_busy=total([schedule.late_busy for schedule in schedules]),
        own_delay_ms_99=worst([schedule.own_delay_ms_99 for schedule in schedules]),
        own_delay_ms_max=worst([schedule.own_delay_ms_max for schedule in schedules]),
    )


def _timeline(runs: Sequence[Result]) -> tuple[Second, ...]:
    seconds: list[Second] = []
    start = 0
    for run in runs:
        seconds += [replace(second, t_sec=start + second.t_sec) for second in run.timeline]
        start += len(run.timeline)
    return tuple(seconds)


def _generator(runs: Sequence[Result]) -> Generator | None:
    generators = [run.generator for run in runs if run.generator is not None]
    if len(generators) != len(runs):
        return None
    weights = [run.duration_sec for run in runs]
    waits = [generator.run_queue_wait_percent for generator in generators]
    known = [wait for wait in waits if wait is not None]
    return Generator(
        cpu_sec=math.fsum(generator.cpu_sec for generator in generators),
        cpu_percent_of_threads=_mean([generator.cpu_percent_of_threads for generator in generators], weights),
        run_queue_wait_percent=_mean(known, weights) if len(known) == len(waits) else None,
    )


def _nodes(runs: Sequence[Result]) -> tuple[NodePart, ...]:
    """Add up what each node did; its clock is told as it was at its worst."""
    return tuple(
        replace(
            parts[0],
            sent=sum(part.sent for part in parts),
            completed=sum(part.completed for part in parts),
            succeeded=sum(part.succeeded for part in parts),
            clock_error_ms=max(part.clock_error_ms for part in parts),
            clock_drift_ms=max((part.clock_drift_ms for part in parts), key=abs),
        )
        for parts in zip(*(run.nodes for run in runs), strict=True)
    )


def _mean(values: Sequence[float], weights: Sequence[float]) -> float:
    return math.fsum(value * weight for value, weight in zip(values, weights, strict=True)) / math.fsum(weights)
