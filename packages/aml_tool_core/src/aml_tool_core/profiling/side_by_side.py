"""Runs of several generators that loaded one target at the same time, taken together: what all of them did in all.

`repeats` is its counterpart for runs one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from aml_tool_core.profiling.histogram import Histogram
from aml_tool_core.profiling.result import Generator, Result, Schedule, Second
from aml_tool_core.profiling.sums import errors, total, worst

NO_SECOND_PERCENTILES = (
    "added up over {count} generators: percentiles of single seconds cannot be added, so the timeline has none"
)


def together(parts: Sequence[Result]) -> Result:
    """Return the whole: counts and histograms added bucket by bucket, rates over the longest part's window."""
    services = [part.service_time for part in parts if part.service_time is not None]
    return Result(
        duration_sec=max(part.duration_sec for part in parts),
        sent=sum(part.sent for part in parts),
        completed=sum(part.completed for part in parts),
        succeeded=sum(part.succeeded for part in parts),
        errors=errors([part.errors for part in parts]),
        bytes_read=total([part.bytes_read for part in parts]),
        bytes_written=total([part.bytes_written for part in parts]),
        latency=_added([part.latency for part in parts]),
        service_time=_added(services) if len(services) == len(parts) else None,
        planned=total([part.planned for part in parts]),
        schedule=_schedule(parts),
        timeline=_timeline(parts),
        generator=_generator(parts),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        stopped_early=next((part.stopped_early for part in parts if part.stopped_early is not None), None),
    )


def _added(histograms: Sequence[Histogram]) -> Histogram:
    """Add the counts; mean and standard deviation follow exactly from the parts' own, which may be finer than those."""
    filled = [one for one in histograms if one.total]
    if not filled:
        return Histogram.of(())
    count = sum(one.total for one in filled)
    mean_us = math.fsum(one.mean_us * one.total for one in filled) / count
    # The sum of squares about the whole's mean is what lies within the parts and what lies between their means.
    within = math.fsum(one.stdev_us**2 * (one.total - 1) for one in filled)
    between = math.fsum(one.total * (one.mean_us - mean_us) ** 2 for one in filled)
    stdev_us = math.sqrt((within + between) / (count - 1)) if count > 1 else 0.0
    return Histogram.of((pair for one in filled for pair in one.counts), mean_us=mean_us, stdev_us=stdev_us)


def _schedule(parts: Sequence[Result]) -> Schedule | None:
    schedules = [part.schedule for part in parts if part.schedule is not None]
    if len(schedules) != len(parts):
        return None
    weights = [part.sent for part in parts]  # what metronome's percentages are of; those missed are counted apart
    timely = math.fsum(one.timely_sends_percent * weight for one, weight in zip(schedules, weights, strict=True))
    return Schedule(
        timely_sends_percent=min(timely / sum(weights), 100.0) if sum(weights) else 0.0,
        late=sum(one.late for one in schedules),
        missed=sum(one.missed for one in schedules),
        max_delay_ms=worst([one.max_delay_ms for one in schedules]),
        late_busy=total([one.late_busy for one in schedules]),
        own_delay_ms_99=worst([one.own_delay_ms_99 for one in schedules]),
        own_delay_ms_max=worst([one.own_delay_ms_max for one in schedules]),
    )


def _timeline(parts: Sequence[Result]) -> tuple[Second, ...]:
    """Add the seconds up; of a single part, they keep their percentiles."""
    if len(parts) == 1:
        return parts[0].timeline
    seconds: dict[int, Second] = {}
    for part in parts:
        for one in part.timeline:
            before = seconds.get(one.t_sec, Second(one.t_sec, 0, 0))
            rate, errors = before.requests_per_sec + one.requests_per_sec, before.errors + one.errors
            seconds[one.t_sec] = Second(one.t_sec, rate, errors)
    return tuple(seconds[t_sec] for t_sec in sorted(seconds))


def _generator(parts: Sequence[Result]) -> Generator | None:
    """Add the CPU seconds; the shares are those of the busiest generator, as one starved one spoils the whole."""
    generators = [part.generator for part in parts if part.generator is not None]
    if not generators:
        return None
    busiest = max(generators, key=lambda one: one.cpu_percent_of_threads + (one.run_queue_wait_percent or 0.0))
    return Generator(
        cpu_sec=math.fsum(one.cpu_sec for one in generators),
        cpu_percent_of_threads=busiest.cpu_percent_of_threads,
        run_queue_wait_percent=busiest.run_queue_wait_percent,
    )
