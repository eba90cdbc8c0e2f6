"""All jobs: begun, canceled, taken up again after a restart; parents and their children."""

from __future__ import annotations

import asyncio
import logging
import os
import traceback
from collections.abc import Mapping
from typing import Any

from azureml_local.exceptions import AzureError, ConflictError, DeploymentError, InvalidRequestError, JobError
from azureml_local.models.computes import SERVERLESS, capacity
from azureml_local.models.jobs import (
    CommandSpec,
    compute_name,
    is_terminal,
    job_kind,
    node_count,
    parse_command,
    put_job,
    with_places,
)
from azureml_local.models.pipelines import parse_pipeline
from azureml_local.models.store import Resource, Store, now_text
from azureml_local.models.sweeps import parse_sweep, trial_properties
from azureml_local.runtime.command_jobs import CANCELED, CommandJobs, Outcome, failed
from azureml_local.runtime.job_files import JobFiles
from azureml_local.runtime.parents import Family, run_pipeline, run_sweep
from azureml_local.runtime.slots import Slots

LOGGER = logging.getLogger(__name__)


class Jobs:
    """The jobs of one workspace."""

    def __init__(self, store: Store, files: JobFiles, commands: CommandJobs, workspace_id: str) -> None:
        self.files = files
        self._store = store
        self._commands = commands
        self._computes = f"{workspace_id}/computes"
        self._collection = f"{workspace_id}/jobs"
        self._slots = Slots()
        self._family = Family(store, files, self._begin_child, self.wait, self.cancel)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._canceled: dict[str, asyncio.Event] = {}

    def all(self) -> list[Resource]:
        """Return all jobs, children of other jobs included."""
        return self._store.children(self._collection)

    def children(self, job: Resource) -> list[Resource]:
        """Return a job's children."""
        return [entry for entry in self.all() if entry.internal.get("parent") == job.name]

    def submit(self, resource_id: str, body: dict[str, Any], parent: Resource | None = None) -> Resource:
        """Check, create and begin a job."""
        internal = {"parent": parent.name, "root": parent.internal.get("root", parent.name)} if parent else {}
        job = put_job(self._store, resource_id, body, internal)
        try:
            self._check(job.name, job.properties)
        except Exception:
            # Also what only a defect here raises must leave no job behind that never begins.
            self._store.remove(job.id)
            raise
        self._begin(job)
        return job

    def _check(self, name: str, properties: Mapping[str, Any]) -> None:
        """Refuse what could not run."""
        kind = job_kind(properties)
        if kind == "command":
            spec = parse_command(properties)
            self._check_outputs(spec)
            wanted = spec.node_count
            compute, nodes = self._capacity(properties)
            if wanted > nodes:
                raise InvalidRequestError(
                    f"resources.instance_count is {wanted}, and the compute '{compute}' has {nodes} "
                    f"node{'s' if nodes > 1 else ''} at most; ask for fewer, or for a compute with more max_instances."
                )
        elif kind == "sweep":
            # All trials differ in values alone.
            sweep = parse_sweep(properties)
            for number in range(len(sweep.trials)):
                self._check_free(name, f"{name}_{number}")
            trial = trial_properties(properties, sweep, 0, display_name=name)
            self._check(name, {**trial, "outputs": with_places(name, trial["outputs"])})
        else:
            for step in parse_pipeline(self._store, name, properties):
                self._check_free(name, step.job_name)
                self._check(step.job_name, step.properties)

    def _check_free(self, parent: str, child: str) -> None:
        """Refuse a parent whose child's name another job has already."""
        if self._store.find(f"{self._collection}/{child}") is not None:
            raise ConflictError(
                f"The job '{parent}' needs a child named '{child}', and another job has that name already; give it "
                "another name.",
                "UserError",
            )

    def _check_outputs(self, spec: CommandSpec) -> None:
        """Refuse an output that has no place to go to, before the command has run for nothing."""
        for output in spec.outputs:
            try:
                self.files.place(output.uri)
            except JobError as error:
                raise InvalidRequestError(f"outputs.{output.name}: {error.message}", error.code) from error

    def _capacity(self, properties: Mapping[str, Any]) -> tuple[str, int]:
        """Return the compute that a job runs on and its number of nodes."""
        name = compute_name(properties)
        if name is None or name.lower() == SERVERLESS:
            return SERVERLESS, os.cpu_count() or 1
        return name.lower(), capacity(self._store, self._computes, name)

    def _begin_child(self, parent: Resource, name: str, properties: Mapping[str, Any]) -> Resource:
        """Begin a child, or find the one that was begun before a restart."""
        child_id = f"{self._collection}/{name}"
        found = self._store.find(child_id)
        if found is None:
            return self.submit(child_id, {"properties": properties}, parent)
        if found.internal.get("parent") != parent.name:
            self._check_free(parent.name, name)
        return found

    def _begin(self, job: Resource, *, again: bool = False) -> None:
        key = job.id.lower()
        self._canceled[key] = asyncio.Event()
        self._tasks[key] = asyncio.create_task(self._attend(job, again=again))

    async def _attend(self, job: Resource, *, again: bool) -> None:
        """Run a job and write its end down."""
        key = job.id.lower()
        try:
            outcome = await self._run(job, self._canceled[key], again=again)
        except asyncio.CancelledError:
            # What has not begun, and what only waits for its children, is taken up again by the next start.
            if job.properties["status"] == "Queued" or job_kind(job.properties) != "command":
                raise
            outcome = failed("ControlPlaneStopped", "The local control plane was stopped while the job ran.")
        except JobError as error:
            outcome = failed(error.code, error.message)
        except (AzureError, DeploymentError) as error:
            outcome = failed(error.code, error.message)
        except Exception as error:  # the top of a background task: whatever happens must end the job
            LOGGER.error("job %s: %s", job.name, traceback.format_exc())
            outcome = failed("InternalServerError", f"{type(error).__name__}: {error}")
        finally:
            self._tasks.pop(key, None)
        self._end(job, outcome)

    def _end(self, job: Resource, outcome: Outcome) -> None:
        job.internal |= {"error": outcome.error, "ended_at": now_text()}
        self._say(job, outcome.status)

    def _say(self, job: Resource, status: str) -> None:
        if status == "Running":
            job.internal.setdefault("started_at", now_text())
        # A request to cancel is shown until it is carried out.
        if not (job.properties["status"] == "CancelRequested" and status in ("Preparing", "Running", "Finalizing")):
            job.properties["status"] = status
        self._store.save()

    async def _run(self, job: Resource, canceled: asyncio.Event, *, again: bool) -> Outcome:
        kind = job_kind(job.properties)
        if kind != "command":
            self._say(job, "Running")
            try:
                return await (run_sweep if kind == "sweep" else run_pipeline)(job, canceled, self._family)
            except Exception:
                # Nobody would wait for its children any more.
                await asyncio.gather(*(self.cancel(child) for child in self.children(job)))
                raise
        compute, nodes = self._capacity(job.properties)
        async with self._slots.hold(compute, nodes, canceled, node_count(job.properties)) as held:
            if not held:
                return CANCELED
            if again:
                outcome = await self._commands.resume(job, canceled, lambda status: self._say(job, status))
                if outcome is not None:
                    return outcome
                if job.properties["status"] not in ("Queued", "Preparing"):
                    await self._commands.clear(job)
                    return failed("ContainerLost", "The control plane was killed, and the job's container with it.")
            return await self._commands.run(job, canceled, lambda status: self._say(job, status))

    async def cancel(self, job: Resource) -> None:
        """Cancel a job with its children, and wait until all have ended."""
        if is_terminal(job):
            return
        self._say(job, "CancelRequested")
        if (event := self._canceled.get(job.id.lower())) is not None:
            event.set()
            await self._slots.wake()
        await asyncio.gather(*(self.cancel(child) for child in self.children(job)))
        await self.wait(job)

    async def wait(self, job: Resource) -> None:
        """Wait until a job has ended."""
        task = self._tasks.get(job.id.lower())
        if task is not None:
            await asyncio.wait({task})

    def remove(self, job: Resource) -> None:
        """Forget a job that has ended, with its children."""
        if not is_terminal(job):
            raise ConflictError(f"The job '{job.name}' has not ended; cancel it first.")
        for child in self.children(job):
            self.remove(child)
        self._store.remove(job.id)

    async def restore(self) -> None:
        """Take up what was under way when the plane ended, and leave no container of an ended job."""
        open_jobs = [job for job in self.all() if not is_terminal(job)]
        if not open_jobs:
            return
        try:
            await self._commands.discard_strays({job.name for job in open_jobs})
        except JobError as error:
            LOGGER.error("containers of earlier jobs: %s", error.message)
        for job in open_jobs:
            if job.properties["status"] == "CancelRequested":
                job.properties["status"] = "Running"
            self._begin(job, again=True)

    async def stop(self) -> None:
        """Stop all jobs."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
