"""Run a course: measure each load that it asks for, keep what is finished, and judge it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import cached_property
from typing import Any

from aml_tool_core.errors import InputError, Interrupted, ToolError
from aml_tool_core.profiling import course as courses
from aml_tool_core.profiling import deployment as deployments
from aml_tool_core.profiling import repeats, report, sla, standing, verdict
from aml_tool_core.profiling.checkpoint import Checkpoint, Measured, identity_of
from aml_tool_core.profiling.cost import Cost, cost_of, price_of
from aml_tool_core.profiling.deployment import Deployment, Usage
from aml_tool_core.profiling.engine import Installed, Plan
from aml_tool_core.profiling.nodes import Measure, NodeLost
from aml_tool_core.profiling.payload import Payload
from aml_tool_core.profiling.result import Result
from aml_tool_core.profiling.runs import Failure, Point, Purpose, Run
from aml_tool_core.profiling.search import Finding
from aml_tool_core.profiling.watch import Watch, watch_of

_FAILURES_IN_A_ROW = 2  # of a sweep's points: then it is not the load


@dataclass(frozen=True)
class Session:
    """What all runs of a measurement have in common."""

    log: logging.Logger
    config: Mapping[str, Any]  # with its defaults
    config_sha256: str
    engine: Installed
    plan: Plan  # of the first run; the others' differ by their points
    payloads: Mapping[str | None, Payload]  # by class; None where they are not divided
    deployment: Deployment
    demands: Mapping[str, float]
    objective: str
    is_several: bool

    @property
    def repeat(self) -> int:
        """How often each load is measured."""
        return int(self.config["repeat"])

    @property
    def price(self) -> float | None:
        """What a machine costs per hour, where the configuration states it."""
        price: float | None = self.config.get("instance_price_per_hour")
        return price

    @cached_property
    def vcpus(self) -> tuple[int | None, str | None]:
        """The vCPUs of the target's machines, asked once."""
        return deployments.vcpus(self.deployment)

    def cost(self, result: Result) -> Cost:
        """Return what a result's load costs."""
        target = self.deployment.target
        cost = cost_of(target, *self.vcpus, result.succeeded_per_sec)
        if self.price is None:
            return cost
        return replace(cost, price_per_million_requests=price_of(target, self.price, result.succeeded_per_sec))

    def plan_at(self, point: Point) -> Plan:
        """Return the plan of one run."""
        return replace(self.plan, load=point.of(self.plan.load), payload=self.payloads[point.payload_class])

    def watch(self, plan: Plan, point: Point) -> Watch | None:
        """Return what watches the runs of a load where the configuration asks for it."""
        if not self.config.get("abort_on_fail"):
            return None
        demands = dict(self.demands)
        if point.purpose is not Purpose.POINT:  # a small load of a search misses a rate and holds
            demands = {metric: limit for metric, limit in demands.items() if metric not in sla.AT_LEAST}
        return watch_of(demands, plan.load, self.repeat)


@dataclass(frozen=True)
class Made:
    """What came of a course."""

    runs: tuple[Run, ...]
    finding: Finding | None = None  # of a search
    failures: tuple[Failure, ...] = ()  # of a sweep


class GaveUp(ToolError):
    """A sweep that ended before its end, but not without a run."""

    def __init__(self, why: str, made: Made) -> None:
        super().__init__(why)
        self.made = made


def runs_of(session: Session, plan: courses.Plan, measure: Measure, kept: Checkpoint) -> Made:
    """Run a course to its end. A sweep goes on past a point that fails; raises GaveUp after two of them in a row.

    Raises ToolError where there is no run.
    """
    try:
        if isinstance(plan, courses.Sweep) and plan.is_several:
            return _swept(session, plan, measure, kept)
        return _followed(session, plan, measure, kept)
    except GaveUp:
        raise  # what is kept is told with the report that it has
    except (Interrupted, ToolError):
        if kept.kept_words:
            session.log.info("%s", kept.kept_words)
        raise


def _followed(session: Session, plan: courses.Plan, measure: Measure, kept: Checkpoint) -> Made:
    made: list[Run] = []
    course = plan.course(_earlier(session, plan, kept)) if isinstance(plan, courses.Search) else plan.course()
    point = next(course)
    try:
        while True:
            made.append(_run(session, point, len(made) + 1, measure, kept))
            point = course.send(made[-1])
    except StopIteration as end:
        return Made(tuple(made), end.value)


def _earlier(session: Session, plan: courses.Search, kept: Checkpoint) -> list[Point]:
    """Return what is on disk and could be of this search, in the order in which it was made.

    That is what differs in nothing but the load that is searched and the length, and was measured as often as asked.
    """
    begun: list[tuple[Point, int, bool]] = []  # with how many of its measurements there are, and whether that is all
    for identity, stopped in kept.waiting:
        varied = (int(identity.load[courses.CONNECTIONS]), identity.load.get(courses.RATE))
        number, rate = varied if plan.axis == courses.CONNECTIONS else (plan.base.connections, varied[1])
        point = replace(
            plan.base,
            purpose=Purpose.PROBE,
            connections=number,
            duration_sec=int(identity.load["duration_sec"]),
            target_rps=rate,
        )
        wanted = session.plan_at(point)
        if not identity.fits(identity_of(wanted, identity.repeat, session.watch(wanted, point)), stopped):
            continue
        one = (point, identity.repeat - 1, False)
        if identity.repeat > 1 and one not in begun:
            continue
        place = begun.index(one) if one in begun else len(begun)
        begun[place : place + 1] = [(point, identity.repeat, stopped or identity.repeat == session.repeat)]
    return [point for point, _, is_whole in begun if is_whole]


def _swept(session: Session, plan: courses.Sweep, measure: Measure, kept: Checkpoint) -> Made:
    made: list[Run] = []
    failures: list[Failure] = []
    in_a_row = 0
    points = plan.points()
    for number, point in enumerate(points, 1):
        try:
            made.append(_run(session, point, len(made) + 1, measure, kept, place=number))
            in_a_row = 0
            continue
        except InputError:
            raise  # bad input is not the point's own
        except ToolError as error:
            in_a_row += 1
            failures.append(Failure(point, str(error)))
            goes_on = in_a_row < _FAILURES_IN_A_ROW and not isinstance(error, NodeLost)
            if goes_on and number < len(points):
                session.log.warning("this point failed, going on with the next: %s", error)
                continue
            if not made:
                raise
            if not goes_on:
                why = "a node was lost" if isinstance(error, NodeLost) else f"{in_a_row} points in a row failed"
                left = [Failure(one, f"not tried, as {why}") for one in points[number:]]
                raise GaveUp(str(error), Made(tuple(made), None, (*failures, *left))) from error
    return Made(tuple(made), None, tuple(failures))


def _run(
    session: Session, point: Point, number: int, measure: Measure, kept: Checkpoint, *, place: int | None = None
) -> Run:
    """Make a run. `place` is its point's in the list; points that fail have one too, but are no runs."""
    plan = session.plan_at(point)
    _announce(session, plan, point, place or number)
    measured = _measured(session, plan, point, measure, kept)
    parts = tuple(one.result for one in measured)
    started_at, ended_at = measured[0].started_at, measured[-1].ended_at
    result = repeats.together(parts)
    # Azure's figures are waited for, so they are asked for here only where the run is judged by them.
    usage = deployments.usage(session.deployment, started_at, ended_at) if sla.CPU_MAX in session.demands else None
    criteria = sla.judge(session.demands, result, usage or Usage(None, ()))
    return Run(
        number=number,
        point=point,
        load=plan.load,
        payload=plan.payload,
        started_at=started_at,
        ended_at=ended_at,
        repeats=parts,
        result=result,
        verdict=verdict.judge(plan.load, result, parts, session.demands),
        usage=usage,
        cost=session.cost(result),
        criteria=criteria if session.demands else None,
        standing=standing.stand(plan.load, result, criteria, session.objective),
    )


def _measured(session: Session, plan: Plan, point: Point, measure: Measure, kept: Checkpoint) -> list[Measured]:
    """Measure one load as often as asked, or take what is on disk of it."""
    watched = session.watch(plan, point)
    measured: list[Measured] = []
    for number in range(1, session.repeat + 1):
        if session.repeat > 1:
            session.log.info("run %d of %d", number, session.repeat)
        identity = identity_of(plan, number, watched)
        found = kept.recorded(identity)
        if found is None:
            started_at = datetime.now(timezone.utc)
            result = measure(session.engine, plan, watched)
            found = Measured(result, started_at, datetime.now(timezone.utc))
            kept.keep(identity, found)
        else:
            session.log.info("measured already, %s", report.timestamp(found.started_at))
            if watched is not None:
                watched.take(found.result)
        measured.append(found)
        if found.result.stopped_early is not None:
            break
    return measured


def _announce(session: Session, plan: Plan, point: Point, number: int) -> None:
    load, engine = plan.load, session.engine
    if number == 1:
        session.log.info(
            "%s %s: %s %s, %s loop",
            engine.engine.name, engine.version, plan.payload.method, plan.target.shown_uri, load.model.value,
        )  # fmt: skip
    said = [f"{load.connections} {load.sender}{'s' if load.connections > 1 else ''}", f"{load.duration_sec} s"]
    if load.target_rps is not None:
        said.insert(0, f"{load.target_rps:g} requests/s")
    if point.payload_class is not None:
        said.append(f"payload class {point.payload_class}")
    session.log.info("%s: %s", f"{point.purpose.value} {number}" if session.is_several else "load", ", ".join(said))
