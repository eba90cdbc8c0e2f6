"""A profiler is a declaration; this runs it."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

from aml_tool_core import outputs
from aml_tool_core.errors import CriteriaMissed, InputError
from aml_tool_core.profiling import deployment as deployments
from aml_tool_core.profiling import engine as engines
from aml_tool_core.profiling import load as loads
from aml_tool_core.profiling import nodes, reach, repeats, report, sla, summary, tracking, verdict
from aml_tool_core.profiling import payload as payloads
from aml_tool_core.profiling.cost import cost_of, price_of
from aml_tool_core.profiling.engine import Engine, Installed, Plan
from aml_tool_core.profiling.load import Load, LoadModel, SendSchedule
from aml_tool_core.profiling.nodes import Measure
from aml_tool_core.profiling.result import Result
from aml_tool_core.profiling.target import Target
from aml_tool_core.profiling.watch import Watch, watch_of
from aml_tool_core.report_page import render_report
from aml_tool_core.tool import Flag, Job, Kind, Tool

TARGET_SCHEMA = "deployment_settings"
REPORT_SCHEMA = "report"
NODES_FOLDER = "nodes"  # in ./outputs: what each node of a job with several did


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
                "request bodies, one per line (JSON Lines), sent in rotation; else profiler_config/payload, else GET",
                Kind.FILE,
            ),
        ),
        run=lambda job: run(profiler, job),
        epilog="Writes ./outputs/report.json and report.html.",
        outputs=(report.FILE_NAME, report.PAGE_NAME),
    )


def run(profiler: Profiler, job: Job) -> None:
    """Profile the target and write report.json."""
    log = logging.getLogger(profiler.name)
    config_source, target_source = str(job.path("config_path")), str(job.path("scoring_target_path"))
    config = loads.with_defaults(job.documents["config_path"]["profiler_config"], profiler.config_schema)
    settings = job.documents["scoring_target_path"]["deployment_settings"]
    given = config.get(profiler.concurrency_key)

    content_type = payloads.content_type(settings.get("scoring_headers", {}))
    payload = payloads.read(job.values["payload_path"], config, config_source, content_type)
    deployment = deployments.resolve(settings, target_source, concurrency_given=given is not None)
    target = deployment.target
    connections = loads.concurrency(
        None if given is None else int(given),
        target,
        required=profiler.concurrency_required,
        place=f"{config_source}: /profiler_config/{profiler.concurrency_key}",
    )
    load = loads.load_of(profiler.model, profiler.schedule, config, connections, config_source)
    engine = engines.installed(profiler.engines[config.get("engine", next(iter(profiler.engines)))])
    user_agent = f"{profiler.name}/{profiler.version}"
    plan = Plan(target, payload, load, user_agent, reach.ca_file(), config_source, target_source)
    watched = _watch(config, engine, plan)
    place = nodes.this_place()
    facts = _facts(profiler, config, payload, target)
    keep = partial(_keep_share, profiler, job.outputs, config, engine, deployment, payload, place)
    if place is not None:
        nodes.share(load, place.rank, place.count)  # refused now, rather than after the others were waited for
    reach.check(target)
    if place is not None and place.rank > 0:
        nodes.follow(place, facts, engine, plan, keep)
        return

    log.info(
        "%s %s: %s %s, %s loop, %d %ss, %d s",
        engine.engine.name, engine.version, payload.method, target.shown_uri, load.model.value, connections,
        load.sender, load.duration_sec,
    )  # fmt: skip
    started_at = datetime.now(timezone.utc)
    members: list[dict[str, Any]] = []
    with nodes.measuring(place, facts, keep, members) as measure:
        runs = _runs(log, measure, engine, plan, int(config["repeat"]), watched)
    ended_at = datetime.now(timezone.utc)

    result = repeats.together(runs)
    usage = deployments.usage(deployment, started_at, ended_at)
    cost = cost_of(target, *deployments.vcpus(deployment), result.succeeded_per_sec)
    price = config.get("instance_price_per_hour")
    if price is not None:
        cost = replace(cost, price_per_million_requests=price_of(target, price, result.succeeded_per_sec))
    judged = verdict.judge(load, result, runs)
    criteria = sla.judge(config["sla"], result, usage) if "sla" in config else None
    provenance = report.Provenance(profiler.name, profiler.version, engine, started_at, _sha256(config))
    document = report.Report(
        provenance, deployment, load, payload, result, judged, usage, cost, runs, criteria, price
    ).document()
    if members:
        document["nodes"] = members
    _write(log, job.outputs, document)
    tracking.publish(document)
    summary.show(document)
    if criteria is not None:
        misses = [criterion.miss for criterion in criteria if not criterion.met]
        misses += [f"the run is not valid: {reason}" for reason in judged.reasons]
        if misses:
            raise CriteriaMissed(misses)


def _watch(config: Mapping[str, Any], engine: Installed, plan: Plan) -> Watch | None:
    """Return what watches the runs where the configuration asks for it. Raises InputError where the engine is mute."""
    if not config.get("abort_on_fail"):
        return None
    if engine.engine.progress is None:
        raise InputError(
            f"{plan.config_source}: /profiler_config/abort_on_fail: engine {engine.engine.name} tells nothing before "
            "its end; leave `engine` or `abort_on_fail` out"
        )
    return watch_of(config["sla"], plan.load, int(config["repeat"]))


def _runs(
    log: logging.Logger, measure: Measure, engine: Installed, plan: Plan, count: int, watched: Watch | None
) -> tuple[Result, ...]:
    runs: list[Result] = []
    for number in range(1, count + 1):
        if count > 1:
            log.info("run %d of %d", number, count)
        runs.append(measure(engine, plan, watched))
        if runs[-1].stopped_early is not None:
            break
    return tuple(runs)


def _facts(
    profiler: Profiler, config: Mapping[str, Any], payload: payloads.Payload, target: Target
) -> dict[str, str | None]:
    """Return what must be alike on all nodes of a job, by the words in which a difference is told."""
    return {
        "profiler": f"{profiler.name} {profiler.version}",
        "configuration": _sha256(config),
        nodes.PAYLOAD: payload.sha256,
        "scoring target": target.shown_uri,
    }


def _keep_share(
    profiler: Profiler,
    folder: Path,
    config: Mapping[str, Any],
    engine: Installed,
    deployment: deployments.Deployment,
    payload: payloads.Payload,
    place: nodes.Place | None,
    number: int,
    load: Load,
    result: Result,
) -> None:
    """Write the report of what this node alone did in one run, under a name that no other node's has."""
    assert place is not None, "one machine has no shares"
    started_at = datetime.now(timezone.utc) - timedelta(seconds=load.warmup_sec + load.duration_sec)
    provenance = report.Provenance(profiler.name, profiler.version, engine, started_at, _sha256(config))
    share = report.Report(
        provenance,
        deployment,
        load,
        payload,
        result,
        verdict.judge(load, result),
        deployments.Usage(None, ("node 0 asks for it, for all nodes",)),
        cost_of(deployment.target, None, None, result.succeeded_per_sec),
    )
    path = folder / NODES_FOLDER / f"node_{place.rank}_run_{number}.json"
    outputs.write_json(path, share.document(), REPORT_SCHEMA)


def _write(log: logging.Logger, folder: Path, document: dict[str, Any]) -> None:
    outputs.write_json(folder / report.FILE_NAME, document, REPORT_SCHEMA)
    outputs.write_text(folder / report.PAGE_NAME, render_report(document))
    log.info("%s and %s written", folder / report.FILE_NAME, report.PAGE_NAME)


def _sha256(config: Mapping[str, Any]) -> str:
    """Hash the load that was asked for, defaults included; the payload has a hash of its own."""
    asked = {key: value for key, value in config.items() if key != "payload"}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
