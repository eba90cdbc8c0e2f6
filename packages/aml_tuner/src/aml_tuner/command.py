"""The tool: its flags, and the run from a space of settings to what to deploy."""

from __future__ import annotations

import logging
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

from aml_tool_core import CriteriaMissed, Flag, Job, Kind, Tool, outputs
from aml_tool_core.profiling import tracking

from aml_tuner import configuration, deployment, summary, takeover, trial, tuning
from aml_tuner.configuration import Plan
from aml_tuner.models import model_of
from aml_tuner.page import render_summary

NAME = "aml_tuner"
_VERSION = version("aml-tuner")
CHOICE = "choice_"  # before the names of the metrics that are logged: those of the trial to take, and of no other
log = logging.getLogger(NAME)


def run(job: Job) -> None:
    """Make the trials and write summary.json and summary.html."""
    plan = configuration.plan_of(job)
    started_at = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    trials = job.values["trials_path"] or job.outputs / takeover.FOLDER
    log.info("%d of %d combinations, %s search", plan.max_trials, plan.space.size, plan.strategy)
    # Before anything is deployed: the optimizer's files may not be what they should be.
    sources = job.values["optimized_parameters_path"], job.values["candidates_path"]
    known = {plan.trial_id(point): model_of(*sources, plan.space.variant(point)) for point in plan.space.grid()}
    done, before = tuning.tune(plan, trials, job.values["resume_path"], job.begin)
    tuning.check_any_worked(done)
    document = summary.document(plan, summary.Made(done, before, known, started_at), NAME, _VERSION)
    outputs.write_json(job.outputs / summary.FILE_NAME, document, summary.SCHEMA)
    outputs.write_text(job.outputs / summary.PAGE_NAME, render_summary(document))
    log.info("%s and %s written", job.outputs / summary.FILE_NAME, summary.PAGE_NAME)
    choice = document["choice"]
    if choice is None:
        raise CriteriaMissed([_nothing_holds(plan, done)])
    outputs.write_text(job.outputs / deployment.FILE_NAME, choice["deployment_yml"])
    log.info("%s", choice["why"])
    log.info("to deploy it:\n%s", choice["command"])
    best = next(one for one in document["trials"] if one["id"] == choice["id"])
    tracking.log_metrics({f"{CHOICE}{name}": value for name, value in figures(best).items()})


def figures(best: dict[str, Any]) -> dict[str, float]:
    """Return the figures of a trial, and of its search what it found."""
    answer = best.get("answer", {})
    bounds = dict(zip(("low", "high"), answer.get("interval", ()), strict=False))
    found = {"search_answer": answer.get("value")} | {f"search_answer_{side}": one for side, one in bounds.items()}
    return {**best["metrics"], **{name: value for name, value in found.items() if value is not None}}


def _nothing_holds(plan: Plan, done: list[dict[str, Any]]) -> str:
    tried = [one for one in done if one["error"] is None]
    feasible = [one for one in tried if one["feasible"]]
    unconfirmed = [one for one in tried if one.get("unconfirmed") is not None]
    if feasible:
        names = [name for name in plan.objective if any(one["metrics"].get(name, 0.0) <= 0 for one in feasible)]
        return (
            f"{len(feasible)} of {len(done)} trials keep every constraint, but the objective is not known of any: "
            f"{', '.join(names)} is missing; see {summary.PAGE_NAME}"
        )
    nearest = min(tried, key=lambda one: float(one["excess"]))
    known = f", as far as is known: of {len(unconfirmed)} it is not confirmed" if unconfirmed else ""
    told = nearest["unconfirmed"] if nearest in unconfirmed else "; ".join(nearest["misses"])
    return (
        f"none of {len(done)} trials keeps every constraint{known}; the nearest, {trial.shown(nearest['variant'])}: "
        f"{told}; see {summary.PAGE_NAME}"
    )


TOOL = Tool(
    name=NAME,
    version=_VERSION,
    summary="Find the deployment settings to take: deploy variants, profile each, delete it, and say which is best.",
    flags=(
        Flag(
            "--config_path",
            "what to vary, and what is wanted: a JSON file with tuning_config",
            Kind.FILE,
            required=True,
            schema=configuration.SCHEMA,
        ),
        Flag("--endpoint_yaml_path", "the endpoint; each trial gets one of its own", Kind.FILE, required=True),
        Flag("--deployment_yaml_path", "the deployment that is varied", Kind.FILE, required=True),
        Flag("--profiler_config_path", "the load of every trial, or the search in it", Kind.FILE, required=True),
        Flag(
            "--payload_path",
            "request bodies, one per line (JSON Lines); a folder of such files with payload_classes",
            Kind.PATH,
        ),
        Flag("--model_folder_path", "as the deployer's", Kind.FOLDER),
        Flag("--environment_folder_path", "as the deployer's", Kind.FOLDER),
        Flag("--code_folder_path", "as the deployer's", Kind.FOLDER),
        Flag("--optimized_parameters_path", "as the deployer's; a folder where candidates are tried", Kind.PATH),
        Flag("--candidates_path", "the optimizer's OutputModels folder, for the candidates' accuracy", Kind.FOLDER),
        Flag(
            "--trials_path",
            "where trials are kept, and finished ones are found and not run again (default: ./outputs/trials)",
            Kind.OUTPUT_FOLDER,
        ),
        Flag(
            takeover.FLAG,
            "trials of earlier tunings, brought from elsewhere: a folder that holds their outputs; only read from",
            Kind.FOLDER,
        ),
        *(
            Flag(f"--{name}", "as the deployer's; default: that of the running AzureML job")
            for name in configuration.WORKSPACE_FLAGS
        ),
    ),
    run=run,
    outputs=(summary.FILE_NAME, summary.PAGE_NAME, deployment.FILE_NAME),
    epilog="Writes ./outputs/summary.json, summary.html, deployment.yml with the choice in it, and trials/, of which "
    "each is on disk as soon as it is done.",
)
