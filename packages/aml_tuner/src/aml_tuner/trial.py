"""One trial: deploy a variant, profile it, delete it; each by its own tool, chained by files alone."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from aml_tool_core import documents, outputs, processes
from aml_tool_core.deployment_variant import ENDPOINT_NAME
from aml_tool_core.errors import InputError, ToolError
from aml_tool_core.profiling.tracking import RUN_VARIABLE
from aml_tool_core.scratch import scratch_folder

from aml_tuner import objective
from aml_tuner.configuration import DELETER, DEPLOYER, Plan
from aml_tuner.space import Point

log = logging.getLogger("aml_tuner")

SCHEMA = "tuning_trial"
FILE_NAME = "trial.json"
_SETTINGS = "deployment_settings.json"
NOTES = "deploy/outputs/deployment_settings*.json"  # what a deployer leaves for the deleter, finished or not
_REPORT = "report.json"
_WRITTEN = (0, 3)  # a profiler's exit codes with a report: 3 says that a demand is missed
_NOWHERE = "http://127.0.0.1:1/"  # nothing listens on port 1 (tcpmux, RFC 1078)
_POLL_SEC = 0.2
_CHECK_SEC = 120.0
_DELETIONS = 3
_BETWEEN_DELETIONS_SEC = 5.0


class Stopped(Exception):
    """The tuning is being stopped; what the trial deployed is deleted."""


class BadLoad(InputError):
    """The profiler cannot use what it is given, which is the same in every trial."""


class NotDeleted(ToolError):
    """A trial's endpoint still stands."""


@dataclass(frozen=True)
class Trial:
    """A trial's folder and what is run in it."""

    plan: Plan
    point: Point
    folder: Path

    @staticmethod
    def of(plan: Plan, point: Point, trials: Path) -> Trial:
        """Return the trial of a point, below the folder of all trials."""
        return Trial(plan, point, trials / plan.trial_id(point))

    @property
    def variant(self) -> dict[str, Any]:
        """The settings that it tries."""
        return self.plan.space.variant(self.point)


def finished(trial: Trial) -> dict[str, Any] | None:
    """Return what came of a trial that an earlier tuning finished; None where there is none, or it failed."""
    path = trial.folder / FILE_NAME
    if not path.is_file():
        return None
    document: dict[str, Any] = documents.read_json(path, SCHEMA)
    return document if document["error"] is None else None


def run(trial: Trial, stop: threading.Event) -> dict[str, Any]:
    """Run a trial and return what came of it, which is on disk then. Raises Stopped, BadLoad, and NotDeleted.

    A deployment that fails, or that cannot be profiled, is a result as well: it has an `error` and no metrics.
    """
    began = time.monotonic()
    started_at = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    (trial.folder / FILE_NAME).unlink(missing_ok=True)
    log.info("trial %s: %s", trial.folder.name, shown(trial.variant))
    report, error = None, None
    try:
        try:
            report = _measured(trial, stop)
        except BadLoad:
            raise
        except ToolError as failure:
            error = str(failure)
            log.warning("trial %s: %s", trial.folder.name, error)
    finally:
        delete(trial)
    judged = None if report is None else objective.judge(report, trial.plan.objective)
    document: dict[str, Any] = {
        "version": "1.0",
        "id": trial.folder.name,
        "variant": trial.variant,
        "started_at": started_at,
        "seconds": round(time.monotonic() - began, 3),
        "inputs_sha256": trial.plan.inputs_sha256,
        "error": error,
        "feasible": judged is not None and judged.feasible,
        "misses": [] if judged is None else list(judged.misses),
        "metrics": {} if judged is None else dict(judged.metrics),
        "excess": 0.0 if judged is None else judged.excess,
        "unconfirmed": None if judged is None else judged.unconfirmed,
        "valid": judged is not None and judged.valid,
        "reasons": [] if judged is None else list(judged.reasons),
        "target": {} if report is None else _target(report),
    }
    if report is not None and (answer := report.get("search", {}).get("answer")) is not None:
        document["answer"] = {"axis": report["search"]["axis"], **{key: answer[key] for key in ("value", "interval")}}
    if judged is not None and judged.payload_class is not None:
        document["payload_class"] = judged.payload_class
    outputs.write_json(trial.folder / FILE_NAME, document, SCHEMA)
    return document


def _target(report: Mapping[str, Any]) -> dict[str, Any]:
    wanted = ("sku", "instance_count", "worker_count", "max_concurrent_requests_per_instance")
    return {key: report["target"][key] for key in wanted if key in report["target"]}


def _measured(trial: Trial, stop: threading.Event) -> dict[str, Any]:
    """Deploy and profile; return the report. Raises ToolError where a tool fails."""
    plan = trial.plan
    variant = {**trial.variant, ENDPOINT_NAME: plan.trial_endpoint(trial.point)}
    flags = {**plan.deployer_flags, **plan.workspace_flags, "--variant": json.dumps(variant)}
    _tool(trial, "deploy", DEPLOYER, flags, stop, (0,))
    config = trial.folder / "profiler_config.json"
    outputs.write_json(config, plan.trial_config(trial.point))
    flags = {
        "--config_path": str(config.resolve()),
        "--scoring_target_path": str((trial.folder / "deploy" / "outputs" / _SETTINGS).resolve()),
        **plan.profiler_flags,
    }
    _tool(trial, "profile", plan.profiler, flags, stop, _WRITTEN)
    report: dict[str, Any] = documents.read_json(trial.folder / "profile" / "outputs" / _REPORT, "report")
    return report


def delete(trial: Trial) -> None:
    """Delete the trial's endpoint, if a deployer has left word of one. Raises NotDeleted where it stands all the same.

    It is not stopped by what stops the tuning: an endpoint that stands costs money. Raises InputError for a note that
    names another endpoint than a trial's own: that is not this tuning's to delete.
    """
    for note in sorted(trial.folder.glob(NOTES)):
        name = documents.read_json(note, "deployment_settings")["deployment_settings"].get(ENDPOINT_NAME, "")
        if not name.endswith(f"-{trial.folder.name}"):
            raise InputError(
                f"{note}: names endpoint {name!r}, which is not trial {trial.folder.name}'s; remove that file"
            )
        flags = {"--config_path": str(note.resolve()), "--delete_endpoint": "True"}
        for attempt in range(1, _DELETIONS + 1):
            try:
                _tool(trial, "delete", DELETER, flags, threading.Event(), (0,))
                note.rename(note.with_suffix(".deleted"))
                break
            except (ToolError, OSError) as failure:
                if attempt == _DELETIONS:
                    command = f"python -m {DELETER} --config_path {note} --delete_endpoint True"
                    raise NotDeleted(f"{failure}; the endpoint may still stand; to remove it: {command}") from None
                log.warning("%s; trying again", failure)
                time.sleep(_BETWEEN_DELETIONS_SEC)


def check_profiler(plan: Plan, trials: Path) -> None:
    """Have the profiler read its inputs, before anything is deployed. Raises InputError where it refuses them.

    It is asked to load an address at which nothing listens, so it ends before it has sent anything.
    """
    trial = Trial.of(plan, plan.space.middle(), trials)
    outputs.make_folder(trials)
    with scratch_folder(".check.", trials.resolve()) as folder:
        config = plan.trial_config(trial.point)
        load = config["profiler_config"]
        # Of an address that is no endpoint, the number of connections must be stated.
        load.setdefault(plan.concurrency_key, load.get("threads", 1))
        if load.get("objective") == objective.CORE_HOURS:
            del load["objective"]  # what it needs, the machine size and its vCPUs, is known of what is deployed
        outputs.write_json(folder / "config.json", config)
        target = {"version": "1.0", "deployment_settings": {"scoring_uri": _NOWHERE, "instance_count": 1}}
        outputs.write_json(folder / "target.json", target)
        flags = {
            "--config_path": str(folder / "config.json"),
            "--scoring_target_path": str(folder / "target.json"),
            **plan.profiler_flags,
        }
        words = [word for flag, value in flags.items() for word in (flag, value)]
        log_path = folder / "log.txt"
        with (
            log_path.open("wb") as written,
            processes.running(
                [sys.executable, "-m", plan.profiler, *words], stdout=written, stderr=written, env=_env(), cwd=folder
            ) as process,
        ):
            try:
                code = process.wait(_CHECK_SEC)
            except subprocess.TimeoutExpired:
                raise ToolError(f"{plan.profiler}: has not read its inputs within {_CHECK_SEC:.0f} s") from None
        if code == InputError.exit_code:
            said = _last_error(log_path, plan.profiler, code)
            raise InputError(said.replace(str(folder / "config.json"), plan.profiler_source))


def _env() -> dict[str, str]:
    """Return the environment of a trial's tools: a trial's figures are not those of the job that tunes."""
    return {name: value for name, value in os.environ.items() if name != RUN_VARIABLE}


def left_over(trials: Path, plan: Plan) -> list[Trial]:
    """Return the trials below a folder that were cut short with something deployed, whichever tuning they are of."""
    notes = sorted(trials.glob(f"[!.]*/{NOTES}"))
    return [Trial(plan, plan.space.middle(), folder) for folder in dict.fromkeys(note.parents[2] for note in notes)]


def _tool(
    trial: Trial, step: str, tool: str, flags: Mapping[str, str], stop: threading.Event, good: Sequence[int]
) -> None:
    """Run a tool in its step's folder, its log in log.txt. Raises ToolError with its own last error, and Stopped."""
    folder = trial.folder / step
    outputs.make_folder(folder)
    words = [word for flag, value in flags.items() for word in (flag, value)]
    with (
        (folder / "log.txt").open("wb") as written,
        processes.running(
            [sys.executable, "-m", tool, *words], stdout=written, stderr=written, env=_env(), cwd=folder
        ) as process,
    ):
        while (code := process.poll()) is None:
            if stop.wait(_POLL_SEC):
                raise Stopped(f"{step} of trial {trial.folder.name}")
    if code not in good:
        # What the profiler refuses it refuses in every trial.
        failure = BadLoad if step == "profile" and code == InputError.exit_code else ToolError
        raise failure(f"trial {trial.folder.name}: {step}: {_last_error(folder / 'log.txt', tool, code)}")


def _last_error(path: Path, tool: str, code: int) -> str:
    lines = path.read_text("utf-8", "replace").splitlines()
    marker = f"{tool}: error: "
    said = [line.removeprefix(marker) for line in lines if line.startswith(marker)]
    return f"{said[-1]} (exit code {code})" if said else f"exit code {code}; see {path}"


def said(document: Mapping[str, Any]) -> str:
    """Return what speaks against a trial, in words; nothing where nothing does."""
    if document["error"] is not None:
        return f"failed: {document['error']}"
    if (why := document.get("unconfirmed")) is not None:
        return f"not confirmed: {why}"
    return f"misses: {'; '.join(document['misses'])}" if document["misses"] else ""


def shown(variant: Mapping[str, Any]) -> str:
    """Return a variant as a person reads it."""
    return ", ".join(f"{name} {value}" for name, value in variant.items())
