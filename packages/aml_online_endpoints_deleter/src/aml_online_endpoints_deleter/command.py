"""The tool: its flags, and what a settings file, or the marks of orphans, say is to go."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aml_tool_core import Flag, InputError, Job, Kind, Tool, ToolError

if TYPE_CHECKING:
    from aml_tool_core.azure.removal import Outcome
    from azure.ai.ml import MLClient

NAME = "aml_online_endpoints_deleter"
_log = logging.getLogger(NAME)
_WORKSPACE_FLAGS = ("subscription_id", "resource_group", "workspace_name")
_SWEEP_FLAGS = ("older_than", "expired", "tag")


def run(job: Job) -> None:
    """Delete what the settings name, or sweep what the marks say; with --dry_run print it."""
    sweeping = [f"--{name}" for name in _SWEEP_FLAGS if job.values[name]]
    if job.values["config_path"] is None:
        if not sweeping:
            raise InputError(
                "--config_path: is missing; it names what is to be deleted (or sweep what the deployer has left, with "
                "--older_than, --expired or --tag)"
            )
        _sweep(job)
        return
    if sweeping:
        raise InputError(f"{sweeping[0]}: sweeps what the deployer has left; leave it or --config_path out")
    if job.values["delete_endpoint"] is None:
        raise InputError(
            "--delete_endpoint: is missing; True: the endpoint with all in it, False: the deployment alone"
        )
    _delete(job)


def _delete(job: Job) -> None:
    whole = job.values["delete_endpoint"]
    target = job.documents["config_path"]["deployment_settings"]
    run_mark = target.get("run")
    endpoint_name = _name(target, "endpoint_name", job.path("config_path"))
    alone = not whole or run_mark is not None
    deployment_name = _name(target, "deployment_name", job.path("config_path")) if alone else None
    client, deadline = _client(job, target)

    from aml_tool_core.azure import removal, sdk_output, traffic

    if job.values["dry_run"]:
        with sdk_output.diverted():
            lines = plan(client, endpoint_name, deployment_name if not whole else None, run_mark)
        print("\n".join(lines))
        return
    with sdk_output.diverted():
        outcomes: Mapping[str, Outcome]
        if deployment_name is None:
            outcomes = {named(endpoint_name, None): removal.remove_endpoint(client, endpoint_name, deadline)}
        elif run_mark is None:
            outcome = removal.remove_deployment(client, endpoint_name, deployment_name, deadline)
            outcomes = {named(endpoint_name, deployment_name): outcome}
        else:
            moved = target.get("traffic_moved")
            move = None if moved is None else traffic.read_move(moved)
            names = endpoint_name, deployment_name
            outcomes = removal.remove_run(client, *names, run_mark, deadline, endpoint_too=bool(whole), move=move)
    for what, became in outcomes.items():
        _log.info("%s: %s", what, _SAID[became.name])


def _sweep(job: Job) -> None:
    """List what the deployer has left and the flags describe, then delete it. Raises ToolError where some stays."""
    from aml_online_endpoints_deleter import sweep

    wanted = sweep.Wanted(
        older_than=None if job.values["older_than"] is None else timedelta(seconds=job.values["older_than"]),
        expired=job.values["expired"],
        tags=_tags(job.values["tag"] or ()),
    )
    client, deadline = _client(job, {name: job.values[name] for name in _WORKSPACE_FLAGS})

    from aml_tool_core.azure import sdk_output
    from aml_tool_core.azure.removal import Outcome

    with sdk_output.diverted():
        orphans = sweep.find(client, wanted, datetime.now(timezone.utc))
    for orphan in orphans:
        print(f"{named(orphan.endpoint_name, orphan.deployment_name)} ({orphan.marks})", flush=True)
    if not orphans:
        print(f"nothing: {NAME} finds none of the deployer's that {wanted.words}")
    if job.values["dry_run"]:
        return
    failures: list[str] = []
    with sdk_output.diverted():
        for orphan in sweep.tops(orphans):
            what = named(orphan.endpoint_name, orphan.deployment_name)
            try:
                outcome = sweep.remove(client, orphan, wanted, datetime.now(timezone.utc), deadline)
                said = _NO_LONGER if outcome is Outcome.LEFT else _SAID[outcome.name]
                _log.info("%s: %s", what, said)
            except ToolError as error:  # the others can go all the same; what stays is told at the end
                _log.error("%s", error)
                failures.append(what)
    if failures:
        raise ToolError(f"not deleted: {', '.join(failures)}; the reasons are above")


def _client(job: Job, target: Mapping[str, Any]) -> tuple[MLClient, float]:
    from aml_tool_core.azure import credential
    from aml_tool_core.azure import workspace as workspaces

    workspace = workspaces.resolve(*(target.get(key) for key in _WORKSPACE_FLAGS))
    deadline = time.monotonic() + job.values["timeout_sec"]
    token = target.get("identity_access_token")
    return workspaces.client(workspace, credential.credential(token, deadline), deadline), deadline


def _tags(texts: list[str] | tuple[str, ...]) -> dict[str, str]:
    tags = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not (name and sign):
            raise InputError(f"--tag: {text!r} is not a tag; write it like job=my-job")
        tags[name] = value
    return tags


def plan(client: MLClient, endpoint_name: str, deployment_name: str | None, run_mark: str | None = None) -> list[str]:
    """Return what a run would delete, a line each; one line that says so when there is nothing.

    Without a deployment's name it is the endpoint with all in it. With a run's mark it is only what that run created.
    """
    from aml_tool_core.azure import marks, removal
    from aml_tool_core.azure.failures import asking

    endpoint = removal.find_endpoint(client, endpoint_name)
    if endpoint is None:
        removal.require_workspace(client)
        return [f"nothing: endpoint {endpoint_name} is not there"]
    with asking(f"endpoint {endpoint_name}: deployments"):
        found = {str(one.name): one for one in client.online_deployments.list(endpoint_name)}
    meant = {name for name, one in found.items() if run_mark is None or marks.of_run(one, run_mark)}
    if deployment_name is None:
        lines = [named(endpoint_name, one) for one in sorted(meant)]
        if len(meant) == len(found) and (run_mark is None or marks.of_run(endpoint, run_mark)):
            lines.append(named(endpoint_name, None))
        return lines or [f"nothing: endpoint {endpoint_name} and its deployments are not of the run that left the note"]
    if deployment_name not in meant:
        why = "is not of the run that left the note" if deployment_name in found else "is not there"
        return [f"nothing: {named(endpoint_name, deployment_name)} {why}"]
    return [f"{named(endpoint_name, deployment_name)} (traffic {(endpoint.traffic or {}).get(deployment_name, 0)} %)"]


def named(endpoint_name: str, deployment_name: str | None) -> str:
    """Return how log lines call an endpoint or a deployment."""
    return f"endpoint {endpoint_name}" + ("" if deployment_name is None else f": deployment {deployment_name}")


def _name(target: Mapping[str, Any], key: str, config_path: Path) -> str:
    name = target.get(key)
    if name is None:
        raise InputError(f"{config_path}: /deployment_settings/{key}: is missing; it names what is to be deleted")
    return str(name)


_SAID = {
    "REMOVED": "deleted, and verified gone",
    "ABSENT": "is not there already; nothing to delete",
    "LEFT": "is not of the run that left the note; it stands as it was",
}
_NO_LONGER = "has changed since it was listed, and is not meant any more; it stands"

TOOL = Tool(
    name=NAME,
    version=version("aml-online-endpoints-deleter"),
    summary="Delete the online endpoint that a deployment_settings.json names, or its deployment alone, and verify "
    "that it is gone; or sweep what the deployer has left.",
    flags=(
        Flag(
            "--config_path",
            "what to delete: the deployer's deployment_settings.json, or its note of a run that was cut short",
            Kind.FILE,
            schema="deployment_settings",
        ),
        Flag(
            "--delete_endpoint",
            "with --config_path: True: the endpoint with all its deployments; False: the named deployment alone",
            Kind.BOOLEAN,
        ),
        Flag("--older_than", "sweep what the deployer has deployed longer ago than this, e.g. 2h", Kind.DURATION),
        Flag("--expired", "sweep what the deployer was told to let expire, and has", Kind.SWITCH),
        Flag("--tag", "sweep only what has this tag too, e.g. job=my-job; may stand several times", Kind.TEXTS),
        Flag("--subscription_id", "of the workspace to sweep; default: that of the running AzureML job"),
        Flag("--resource_group", "of the workspace to sweep; default: that of the running AzureML job"),
        Flag("--workspace_name", "workspace to sweep; default: that of the running AzureML job"),
        Flag("--timeout_sec", "how long to wait for Azure, in all (default: 1800)", Kind.SECONDS, default="1800"),
        Flag("--dry_run", "print what would be deleted, and delete nothing", Kind.SWITCH),
    ),
    run=run,
)
