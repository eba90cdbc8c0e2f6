"""A profiler is a declaration; this runs it: a single load, a sweep or a search, on one machine or several."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aml_tool_core import outputs, processes
from aml_tool_core.errors import CriteriaMissed, InputError, Interrupted, ToolError
from aml_tool_core.profiling import checkpoint as checkpoints
from aml_tool_core.profiling import course as courses
from aml_tool_core.profiling import deployment as deployments
from aml_tool_core.profiling import engine as engines
from aml_tool_core.profiling import load as loads
from aml_tool_core.profiling import node_reports, nodes, reach, report, summary, sweep, tracking
from aml_tool_core.profiling import payload as payloads
from aml_tool_core.profiling.checkpoint import identity_of
from aml_tool_core.profiling.cost import cost_of
from aml_tool_core.profiling.dealing import borne, dealt
from aml_tool_core.profiling.engine import Engine, Plan
from aml_tool_core.profiling.load import LoadModel, SendSchedule
from aml_tool_core.profiling.measurement import GaveUp, Session, runs_of
from aml_tool_core.profiling.node_place import Place
from aml_tool_core.profiling.node_reports import NodeReports
from aml_tool_core.profiling.payload import Payload
from aml_tool_core.profiling.survey import Survey, survey_of, words
from aml_tool_core.report_page import render_report
from aml_tool_core.tool import Flag, Job, Kind, Tool

TARGET_SCHEMA = "deployment_settings"
REPORT_SCHEMA = "report"


@dataclass(frozen=True)
class Profiler:
    """What one profiler does differently from the others."""

    name: str
    version: str
    summary: str
    config_schema: str
    model: LoadModel
    concurrency_key: str  # the configuration's name for the number of connections
    concurrency_required: bool  # for a target without endpoint information
    engines: Mapping[str, Engine]  # by the configuration's `engine`; the first is the default
    schedule: SendSchedule | None = None  # of an open loop


def profiler_tool(profiler: Profiler) -> Tool:
    """Return the command-line tool of a profiler."""
    return Tool(
        name=profiler.name,
        version=profiler.version,
        summary=profiler.summary,
        flags=(
            Flag(
                "--config_path",
                "the load: a JSON file with profiler_config",
                Kind.FILE,
                required=True,
                schema=profiler.config_schema,
            ),
            Flag(
                "--scoring_target_path",
                "where to: a deployment_settings.json, or a JSON file with a scoring_uri",
                Kind.FILE,
                required=True,
                schema=TARGET_SCHEMA,
            ),
            Flag(
                "--payload_path",
                "request bodies, one per line (JSON Lines), sent in rotation; else profiler_config/payload, else GET; "
                "a folder of such files with payload_classes",
                Kind.PATH,
            ),
            Flag(
                "--resume_path",
                "the outputs of an interrupted sweep or search, brought from elsewhere: go on where it was; those in "
                "./outputs are found without it",
                Kind.FOLDER,
            ),
        ),
        run=lambda job: run(profiler, job),
        epilog="Writes ./outputs/report.json and report.html.",
        outputs=(report.FILE_NAME, report.PAGE_NAME),
    )


def run(profiler: Profiler, job: Job) -> None:
    """Profile the target and write report.json."""
    log = logging.getLogger(profiler.name)
    session, course = _prepared(profiler, job, log)
    node = nodes.this_place()
    if node is not None:
        course = _on_nodes(session, course, node)  # what cannot be is refused before the others are waited for
    key = f"{session.plan.config_source}: /profiler_config/{profiler.concurrency_key}"
    course = borne(course, 1 if node is None else node.count, key)
    reach.check(session.plan.target)
    shares = NodeReports(
        job.outputs / node_reports.FOLDER,
        0 if node is None else node.rank,
        (profiler.name, profiler.version),
        session.engine,
        session.config_sha256,
        session.deployment,
    )
    if node is not None and node.rank > 0:
        facts = _facts(profiler, session)
        payloads_here = list(session.payloads.values())
        job.begin()
        nodes.follow(
            node, facts, session.engine, session.plan, payloads_here, shares.keep,
            lambda first: node_reports.clear(shares.folder, first),
        )  # fmt: skip
        return
    with outputs.alone(job.outputs):
        survey, kept = _report(profiler, job, session, course, node, shares, log)
    if survey.failures:
        raise _unfinished(survey, job.outputs / report.FILE_NAME, kept, log)
    if misses := survey.misses():
        raise CriteriaMissed(misses)


def _report(
    profiler: Profiler,
    job: Job,
    session: Session,
    course: courses.Plan,
    node: Place | None,
    shares: NodeReports,
    log: logging.Logger,
) -> tuple[Survey, checkpoints.Checkpoint]:
    """Make all runs and write what they showed."""
    facts = _facts(profiler, session)
    kept = _checkpoint(profiler, job, session, node, log)
    job.begin()
    first = _kept_in_place(session, course, kept) + 1
    node_reports.clear(shares.folder, first)
    try:
        with nodes.measuring(node, facts, lambda: kept.count + 1, shares.keep, first=first) as measure:
            made = runs_of(session, course, measure, kept)
    except GaveUp as end:
        made = end.made
    if kept.reused_words:
        log.info("%s", kept.reused_words)
    survey = survey_of(course, made.runs, made.finding, made.failures)
    about = survey.about
    document = report.Report(
        report.Provenance(profiler.name, profiler.version, session.engine, about.started_at, session.config_sha256),
        session.deployment,
        about.load,
        about.payload,
        about.result,
        about.verdict,
        about.usage or deployments.usage(session.deployment, about.started_at, about.ended_at),
        about.cost,
        about.repeats,
        about.criteria,
        session.price,
        survey if session.is_several else None,
    ).document()
    with processes.too_late_to_stop():
        _write(log, job.outputs, document)
        if not survey.failures:
            kept.finish()
        summary.show(document)
    try:
        tracking.publish(document)
    except Interrupted as stop:
        stop.left = f"{job.outputs / report.FILE_NAME} is whole"
        raise
    return survey, kept


def _kept_in_place(session: Session, course: courses.Plan, kept: checkpoints.Checkpoint) -> int:
    """Return how many of the runs on disk still have the numbers that the nodes know them by.

    None of another list's, or of those brought from elsewhere. In a sweep, whatever stands behind a point that failed,
    or whose run is damaged, moves on when that is made up for.
    """
    if kept.taken_over:
        return 0
    if isinstance(course, courses.Search):
        return kept.on_disk
    plans = [(session.plan_at(point), point) for point in course.points()]
    turns = range(1, session.repeat + 1)
    return kept.leading(identity_of(plan, turn, session.watch(plan, point)) for plan, point in plans for turn in turns)


def _unfinished(survey: Survey, path: Path, kept: checkpoints.Checkpoint, log: logging.Logger) -> ToolError:
    """Return the failure of a sweep of which some points are not measured."""
    for miss in survey.misses():
        log.warning("%s", miss)
    first = survey.failures[0]
    load = words(first.point.of(survey.about.load), first.point)
    count = len(survey.failures)
    return ToolError(
        f"{count} of {count + len(survey.runs)} points could not be measured, the first of them ({load}): "
        f"{first.reason}; {path} is about the others; {kept.kept_words}"
    )


def _prepared(profiler: Profiler, job: Job, log: logging.Logger) -> tuple[Session, courses.Plan]:
    """Read the inputs and ask Azure what they leave open. Raises InputError, ToolError."""
    config_source, target_source = str(job.path("config_path")), str(job.path("scoring_target_path"))
    config = loads.with_defaults(job.documents["config_path"]["profiler_config"], profiler.config_schema)
    settings = job.documents["scoring_target_path"]["deployment_settings"]
    given = config.get(profiler.concurrency_key)

    def place(key: str) -> str:
        return f"{config_source}: /profiler_config/{key}"

    content_type = payloads.content_type(settings.get("scoring_headers", {}))
    divided = payloads.classes(job.values["payload_path"], config, config_source, content_type)
    parts = divided or (payloads.read(job.values["payload_path"], config, config_source, content_type),)
    deployment = deployments.resolve(settings, target_source, concurrency_given=given is not None)
    target = deployment.target
    connections = loads.concurrency(
        int(given) if sweep.is_single(given) else None,
        target,
        required=profiler.concurrency_required and given is None,
        place=place(profiler.concurrency_key),
    )
    generator = profiler.engines[config.get("engine", next(iter(profiler.engines)))]
    course = courses.plan_of(
        config,
        profiler.model,
        connections,
        [str(part.name) for part in divided],
        place,
        concurrency_key=profiler.concurrency_key,
        whole_rates=generator.whole_rates,
    )
    load = loads.load_of(profiler.model, profiler.schedule, config, course.first.connections, config_source)
    engine = engines.installed(generator)
    user_agent = f"{profiler.name}/{profiler.version}"
    session = Session(
        log=log,
        config=config,
        config_sha256=_sha256(config),
        engine=engine,
        plan=Plan(target, parts[0], load, user_agent, reach.ca_file(), config_source, target_source),
        payloads={part.name: part for part in parts},
        deployment=deployment,
        demands=course.limits if isinstance(course, courses.Search) else config.get("sla", {}),
        objective=course.objective,
        is_several=course.is_several,
    )
    _check_watchable(session)
    if isinstance(course, courses.Sweep) and course.is_several:
        _check_objective(session)
    return session, course


def _check_watchable(session: Session) -> None:
    """Raise InputError where the engine is mute and is to be watched."""
    if session.config.get("abort_on_fail") and session.engine.engine.progress is None:
        raise InputError(
            f"{session.plan.config_source}: /profiler_config/abort_on_fail: engine {session.engine.engine.name} tells "
            "nothing before its end; leave `engine` or `abort_on_fail` out"
        )


def _check_objective(session: Session) -> None:
    """Raise InputError, ToolError where it is clear beforehand that the objective will not be known of any run."""
    target, place = session.plan.target, f"{session.plan.config_source}: /profiler_config/objective"
    if session.objective == "price_per_million_requests":
        if session.price is None:
            raise InputError(f"{place}: {session.objective} needs instance_price_per_hour; state it beside")
        if target.instance_count is None:
            raise InputError(
                f"{place}: {session.objective} needs the instance_count of the scoring target; state it in "
                f"{session.plan.target_source}, or choose another objective"
            )
    if session.objective == "core_hour_per_million_requests":
        needed = ("sku", "location", "instance_count")
        if missing := [key for key in needed if getattr(target, key) is None]:
            raise InputError(
                f"{place}: {session.objective} needs {', '.join(missing)} of the scoring target; state it in "
                f"{session.plan.target_source}, or choose another objective"
            )
        cost = cost_of(target, *session.vcpus, 1.0)
        if cost.core_hour_per_million_requests is None:
            raise ToolError(f"{place}: {session.objective} cannot be known: {cost.reason}; choose another objective")


def _on_nodes(session: Session, course: courses.Plan, node: Place) -> courses.Plan:
    """Return the course as several nodes can run it. Raises InputError where they cannot."""
    place = f"{session.plan.config_source}: /profiler_config"
    if session.config.get("abort_on_fail"):
        raise InputError(
            f"{place}/abort_on_fail: not on {node.count} nodes, of which none sees all requests; leave it out"
        )
    return dealt(course, session.plan.load, node.count, place, whole_rates=session.engine.engine.whole_rates)


def _checkpoint(
    profiler: Profiler, job: Job, session: Session, node: Place | None, log: logging.Logger
) -> checkpoints.Checkpoint:
    """Return where finished runs are kept: nowhere, of a measurement that is one run."""
    resume: Path | None = job.values["resume_path"]
    if not session.is_several and session.repeat == 1:
        if resume is not None:
            raise InputError(
                f"--resume_path: {session.plan.config_source} asks for a single run, which cannot be gone on with; "
                "leave the flag out"
            )
        return checkpoints.Checkpoint(None)
    made_from: checkpoints.Facts = {
        checkpoints.CONFIGURATION: session.config_sha256,
        checkpoints.PAYLOAD: {str(part.name): part.sha256 for part in session.payloads.values()},
        checkpoints.TARGET: deployments.target_facts(session.deployment),
        "the profiler": f"{profiler.name} {profiler.version}",
        "the load generator": f"{session.engine.engine.name} {session.engine.version}",
        "the number of nodes": str(1 if node is None else node.count),
    }
    return checkpoints.opened(job.outputs / checkpoints.FOLDER, made_from, resume, log)


def _facts(profiler: Profiler, session: Session) -> dict[str, str]:
    """Return what must be alike on all nodes of a job, by the words in which a difference is told."""
    return {
        "profiler": f"{profiler.name} {profiler.version}",
        "configuration": session.config_sha256,
        "payload": _payloads_sha256(list(session.payloads.values())),
        "scoring target": session.plan.target.shown_uri,
    }


def _write(log: logging.Logger, folder: Path, document: dict[str, Any]) -> None:
    outputs.write_json(folder / report.FILE_NAME, document, REPORT_SCHEMA)
    outputs.write_text(folder / report.PAGE_NAME, render_report(document))
    log.info("%s and %s written", folder / report.FILE_NAME, report.PAGE_NAME)


def _sha256(config: Mapping[str, Any]) -> str:
    """Hash the load that was asked for, defaults included; the payload has a hash of its own."""
    asked = {key: value for key, value in config.items() if key != "payload"}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _payloads_sha256(parts: Sequence[Payload]) -> str:
    named = [[part.name, part.sha256] for part in parts]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()
