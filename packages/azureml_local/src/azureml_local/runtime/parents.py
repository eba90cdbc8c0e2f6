"""Jobs made of jobs: sweeps and pipelines."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from azureml_local.exceptions import DeploymentError
from azureml_local.models.jobs import is_terminal
from azureml_local.models.pipelines import continues_on_failure, parse_pipeline
from azureml_local.models.store import Resource, Store, now_text
from azureml_local.models.sweeps import SweepSpec, parse_sweep, trial_properties
from azureml_local.models.tracking import BEST_TRIAL_PROPERTY, best_trial
from azureml_local.runtime.command_jobs import CANCELED, Outcome, failed
from azureml_local.runtime.job_files import JobFiles

LOGGER = logging.getLogger(__name__)
PIPELINE_LOG = "logs/azureml/executionlogs.txt"
SWEEP_LOG = "azureml-logs/hyperdrive.txt"


@dataclass(frozen=True)
class Family:
    """What a parent needs of the jobs at large."""

    store: Store
    files: JobFiles
    # Begin a child of this name, or find the one that was begun before a restart.
    begin: Callable[[Resource, str, Mapping[str, Any]], Resource]
    # Wait until a job has ended.
    wait: Callable[[Resource], Awaitable[None]]
    cancel: Callable[[Resource], Awaitable[None]]


class Journal:
    """A parent's own log, in the blobs after every line."""

    def __init__(self, family: Family, job: Resource, name: str) -> None:
        self._family = family
        self._job = job
        self._name = name
        self._lines: list[str] = []
        # So that no line overtakes a later one on its way to the blobs.
        self._writing = asyncio.Lock()

    async def note(self, line: str) -> None:
        """Write a line."""
        self._lines.append(f"{now_text()} {line}")
        async with self._writing:
            try:
                await self._family.files.write_log(self._job.name, self._name, self._lines)
            except DeploymentError as error:
                # The children's work is not lost for a line about it; the next line brings this one along.
                LOGGER.warning("job %s: %s: %s", self._job.name, self._name, error.message)
                return
        self._job.internal["logs"] = [self._name]


async def run_sweep(job: Resource, canceled: asyncio.Event, family: Family) -> Outcome:
    """Run a sweep's trials, so many at a time."""
    spec = parse_sweep(job.properties)
    journal = Journal(family, job, SWEEP_LOG)
    places = asyncio.Semaphore(spec.max_concurrent_trials)
    expired = False

    async def trial(number: int) -> Resource | None:
        async with places:
            if canceled.is_set() or expired:
                return None
            name = f"{job.name}_{number}"
            body = trial_properties(job.properties, spec, number, display_name=name)
            child = family.begin(job, name, body)
            await journal.note(f"{name}: begun with {dict(spec.trials[number])}")
            await family.wait(child)
            await journal.note(f"{name}: {child.properties['status']}{_reason(child)}")
            return child

    running = [asyncio.create_task(trial(number)) for number in range(len(spec.trials))]
    try:
        done, late = await asyncio.wait(running, timeout=spec.timeout_sec, return_when=asyncio.FIRST_EXCEPTION)
        if late and not any(task.exception() for task in done):
            expired = True
            await journal.note(f"the sweep's limit of {spec.timeout_sec:g} s has passed")
            children = [family.store.find(f"{job.id}_{number}") for number in range(len(spec.trials))]
            await asyncio.gather(*(family.cancel(child) for child in children if child and not is_terminal(child)))
        trials = [child for child in await asyncio.gather(*running) if child is not None]
    finally:
        for task in running:
            task.cancel()
    if canceled.is_set():
        return CANCELED
    if any(child.properties["status"] == "Completed" for child in trials):
        await _note_best(job, spec, trials, journal)
        return Outcome("Completed")
    first = trials[0] if trials else None
    told = f" {first.name}: {first.properties['status']}{_reason(first)}" if first else ""
    return failed("UserError", f"None of the sweep's {len(trials)} trials has completed.{told}")


async def _note_best(job: Resource, spec: SweepSpec, trials: list[Resource], journal: Journal) -> None:
    if spec.objective is None:
        return
    best = best_trial(trials, spec.objective)
    if best is None:
        await journal.note(f"no best trial: none that has completed has logged {spec.objective.metric}")
        return
    trial, value = best
    job.properties["properties"] = {**job.properties["properties"], BEST_TRIAL_PROPERTY: trial.name}
    await journal.note(f"{trial.name}: the best trial, its {spec.objective.metric} is {value:g}")


async def run_pipeline(job: Resource, canceled: asyncio.Event, family: Family) -> Outcome:
    """Run a pipeline's steps, each as soon as all that it needs is there."""
    steps = parse_pipeline(family.store, job.name, job.properties)
    journal = Journal(family, job, PIPELINE_LOG)
    go_on = continues_on_failure(job.properties)
    ended: dict[str, asyncio.Task[str]] = {}
    broken = asyncio.Event()
    reasons: list[str] = []

    async def run_step(index: int) -> str:
        step = steps[index]
        before = [await asyncio.shield(ended[name]) for name in sorted(step.after)]
        if canceled.is_set() or (broken.is_set() and not go_on) or any(status != "Completed" for status in before):
            await journal.note(f"step {step.name}: not run")
            return "NotRun"
        child = family.begin(job, step.job_name, step.properties)
        await journal.note(f"step {step.name}: begun as {child.name}")
        await family.wait(child)
        status = str(child.properties["status"])
        await journal.note(f"step {step.name}: {status}{_reason(child)}")
        if status != "Completed":
            broken.set()
            reasons.append(f"step {step.name}: {status}{_reason(child)}")
        return status

    for index, step in enumerate(steps):
        ended[step.name] = asyncio.create_task(run_step(index))
    watch = asyncio.create_task(broken.wait())
    try:
        everything = asyncio.gather(*ended.values())
        first: set[asyncio.Future[Any]] = {everything, watch}
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if broken.is_set() and not go_on:
            children = [family.store.find(f"{job.id}_{step.name}") for step in steps]
            await asyncio.gather(*(family.cancel(child) for child in children if child and not is_terminal(child)))
        await everything
    finally:
        for task in (*ended.values(), watch):
            task.cancel()
    if canceled.is_set():
        return CANCELED
    return failed("UserError", "; ".join(reasons)) if reasons else Outcome("Completed")


def _reason(job: Resource) -> str:
    error = job.internal.get("error")
    return f": {error['message']}" if error else ""
