"""Runs command jobs: image, inputs, container, log, outputs; takes up again what a killed plane has left running."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from azureml_local.cloud import LOOPBACK_HOSTS, client_environment
from azureml_local.exceptions import InvalidRequestError, JobError
from azureml_local.files import tail_lines
from azureml_local.home import Home, Settings
from azureml_local.models import placeholders
from azureml_local.models.jobs import CommandSpec, parse_command
from azureml_local.models.resource_ids import last_name
from azureml_local.models.store import Resource, Store
from azureml_local.runtime.blobs import discard
from azureml_local.runtime.containers import ContainerSpec, ContainerState, Engine
from azureml_local.runtime.job_files import STD_LOG, JobFiles, JobFolder

T = TypeVar("T")
LOG_END_LIMIT_SEC = 10.0
CONTAINER_NAME_LIMIT = 60


@dataclass(frozen=True)
class Outcome:
    """How a job has ended."""

    status: str
    error: dict[str, str] | None = None


def failed(code: str, message: str) -> Outcome:
    """Return the outcome of a job that failed."""
    return Outcome("Failed", {"code": code, "message": message})


CANCELED = Outcome("Canceled", {"code": "JobCanceled", "message": "The job was canceled on request."})


class CommandJobs:
    """Runs one command job at a time per call."""

    def __init__(
        self, home: Home, settings: Settings, workspace_id: str, store: Store, files: JobFiles, engine: Engine
    ):
        self._home = home
        self._settings = settings
        self._workspace_id = workspace_id
        self._store = store
        self._files = files
        self._engine = engine

    def folder(self, job: Resource) -> JobFolder:
        """Return a job's folder."""
        return JobFolder(self._home.jobs_dir / job.name, job.name)

    def container_name(self, job: Resource) -> str:
        """Return the name of a job's container; the home's id keeps two planes of one machine apart."""
        name = job.name
        if len(name) > CONTAINER_NAME_LIMIT:
            name = f"{name[:CONTAINER_NAME_LIMIT]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
        return f"azureml_local-{self._settings.home_id[:8]}-{name}"

    async def run(self, job: Resource, canceled: asyncio.Event, say: Callable[[str], None]) -> Outcome:
        """Run a job from its beginning; `say` is told each new status."""
        folder, name = self.folder(job), self.container_name(job)
        spec = parse_command(job.properties)
        say("Preparing")
        folder.make()
        try:
            await self._prepare(job, spec, folder, canceled)
            if canceled.is_set():
                return CANCELED
            paths = await self._files.stage(spec, self._code(spec), folder)
            if canceled.is_set():
                return CANCELED
            job.internal["paths"] = paths
            await self._engine.remove(name)
            await self._engine.create(await self._container(job, spec, folder, paths))
            # An empty log, there from the beginning, so that whoever follows finds it.
            folder.std_log.touch()
            await self._engine.start(name)
            job.internal["started"] = time.time()
            say("Running")
            folder.note("the command runs")
            return await self._attend(job, spec, folder, canceled, say)
        except JobError as error:
            folder.note(f"{error.code}: {error.message}")
            with contextlib.suppress(JobError):
                await self._files.collect(spec, job.internal.get("paths", {}), folder)
            raise
        finally:
            await self.clear(job)

    async def resume(self, job: Resource, canceled: asyncio.Event, say: Callable[[str], None]) -> Outcome | None:
        """Take up a job whose container a killed plane has left behind; None when there is none."""
        folder, name = self.folder(job), self.container_name(job)
        state = await self._engine.state(name)
        if state is None or not state.started or "paths" not in job.internal:
            return None
        folder.note("the control plane has come back")
        # All of it is read again from the container.
        folder.std_log.unlink(missing_ok=True)
        folder.std_log.touch()
        try:
            return await self._attend(job, parse_command(job.properties), folder, canceled, say)
        finally:
            await self.clear(job)

    async def clear(self, job: Resource) -> None:
        """Leave no container and no files behind."""
        if "paths" in job.internal:
            await self._engine.remove(self.container_name(job))
            job.internal.pop("paths")
        await asyncio.to_thread(discard, self.folder(job).root)

    async def _prepare(self, job: Resource, spec: CommandSpec, folder: JobFolder, canceled: asyncio.Event) -> None:
        await self._engine.require()
        image = self._image(spec)
        if not await self._engine.has_image(image):
            folder.note(f"image {image}: not on this machine, pulling it")
            await unless(canceled, self._engine.pull(image))
        folder.note(f"image {image}")

    def _image(self, spec: CommandSpec) -> str:
        environment = self._store.find(spec.environment_id)
        if environment is None:
            raise JobError("EnvironmentNotFound", f"The environment {spec.environment_id} does not exist here.")
        image = environment.properties.get("image")
        if environment.properties.get("build") or environment.properties.get("condaFile") or not image:
            raise JobError(
                "EnvironmentNotSupported",
                f"The environment {last_name(spec.environment_id)} has to be built (a conda file or a Docker build "
                "context), and jobs run in images as they are: build the image, and name it alone.",
            )
        return str(image)

    def _code(self, spec: CommandSpec) -> Resource | None:
        if spec.code_id is None:
            return None
        code = self._store.find(spec.code_id)
        if code is None:
            raise JobError("CodeNotFound", f"The code {spec.code_id} does not exist here.")
        return code

    async def _container(
        self, job: Resource, spec: CommandSpec, folder: JobFolder, paths: Mapping[str, str]
    ) -> ContainerSpec:
        try:
            command = placeholders.resolve(spec.command, {**spec.literal_values, **paths})
        except InvalidRequestError as error:
            raise JobError("InvalidCommand", error.message) from error
        # The engine would make a missing source itself, as root.
        mounts = [
            (folder.work_dir, folder.container_work_dir, "rw"),
            (folder.data_dir, folder.container_data_dir, "rw"),
            (folder.home_dir, folder.container_home, "rw"),
            (self._home.bundle_path, folder.container_bundle, "ro"),
        ]
        inputs = {folder.data_dir / f"INPUT_{entry.name}" for entry in spec.data}
        mounts += [(path, f"{folder.container_data_dir}/{path.name}", "ro") for path in sorted(inputs)]
        return ContainerSpec(
            name=self.container_name(job),
            job=job.name,
            image=self._image(spec),
            command=command,
            work_dir=folder.container_work_dir,
            variables=self._variables(job, spec, folder, paths),
            mounts=mounts,
            user=await self._engine.user(),
            arguments=[*(["--shm-size", spec.shm_size] if spec.shm_size else []), *spec.docker_arguments],
        )

    def _variables(
        self, job: Resource, spec: CommandSpec, folder: JobFolder, paths: Mapping[str, str]
    ) -> dict[str, str]:
        settings, properties = self._settings, job.properties
        root = str(job.internal.get("root") or job.name)
        files = {
            f"AZURE_ML_{reference.partition('.')[0].upper().removesuffix('S')}_{reference.partition('.')[2]}": path
            for reference, path in paths.items()
        }
        return {
            "HOME": folder.container_home,
            "PYTHONUNBUFFERED": "1",
            **client_environment(self._home, settings, {}),
            **dict.fromkeys(("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE"), folder.container_bundle),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), ",".join(LOOPBACK_HOSTS)),
            "AZUREML_ARM_PROJECT_NAME": str(properties["experimentName"]),
            "AZUREML_EXPERIMENT_NAME": str(properties["experimentName"]),
            "AZUREML_EXPERIMENT_SCOPE": f"{self._workspace_id}/experiments/{properties['experimentName']}",
            "AZUREML_WORKSPACE_SCOPE": self._workspace_id,
            "AZUREML_WORKSPACE_NAME": settings.workspace_name,
            "AZUREML_RUN_ID": job.name,
            "AZUREML_ROOT_RUN_ID": root,
            "AZUREML_SERVICE_ENDPOINT": settings.arm_url,
            "AZUREML_RUN_HISTORY_SERVICE_ENDPOINT": settings.arm_url,
            "AZUREML_DISCOVERY_SERVICE_ENDPOINT": f"{settings.arm_url}/discovery",
            "AZUREML_JOB_TYPE": str(properties["jobType"]),
            **files,
            **spec.environment_variables,
        }

    async def _attend(
        self, job: Resource, spec: CommandSpec, folder: JobFolder, canceled: asyncio.Event, say: Callable[[str], None]
    ) -> Outcome:
        """Follow a started container to its end, and send up what it has written."""
        name, paths = self.container_name(job), job.internal["paths"]
        log_ended = asyncio.Event()
        follower = await self._engine.follow(name, folder.std_log)
        streaming = asyncio.create_task(self._files.stream_log(folder, log_ended))
        job.internal["logs"] = [STD_LOG]
        reason: Outcome | None = None
        try:
            try:
                await asyncio.wait_for(unless(canceled, self._engine.wait(name)), _left_sec(job, spec))
            except asyncio.TimeoutError:
                message = f"The job ran longer than its limit of {spec.timeout_sec:g} s (limits.timeout)."
                reason = Outcome("Canceled", {"code": "JobTimeout", "message": message})
            if canceled.is_set():
                reason = CANCELED
            if reason is not None:
                await self._engine.stop(name)
            state = await self._engine.state(name)
            say("Finalizing")
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(follower.wait(), LOG_END_LIMIT_SEC)
        finally:
            await follower.stop(grace_sec=0)
            log_ended.set()
            await streaming
        outcome = reason or _judge(state, folder)
        folder.note(f"{outcome.status}{': ' + outcome.error['message'] if outcome.error else ''}")
        await self._files.collect(spec, paths, folder)
        return outcome

    async def discard_strays(self, wanted: set[str]) -> None:
        """Remove this home's containers of jobs that are not among the wanted."""
        for name, job in (await self._engine.owned()).items():
            if job not in wanted:
                await self._engine.remove(name)


def _left_sec(job: Resource, spec: CommandSpec) -> float | None:
    """Return what is left of a job's time limit."""
    return None if spec.timeout_sec is None else max(0.0, spec.timeout_sec - (time.time() - job.internal["started"]))


def _judge(state: ContainerState | None, folder: JobFolder) -> Outcome:
    if state is None:
        return failed("ContainerLost", "The job's container was removed by somebody else while it ran.")
    if state.out_of_memory:
        return failed("OutOfMemory", "The command was killed because it used more memory than its container may.")
    if state.exit_code == 0:
        return Outcome("Completed")
    last = next((line for line in reversed(tail_lines(folder.std_log, 20).splitlines()) if line.strip()), "")
    told = f" Its last line: {last}" if last else ""
    return failed(
        "UserError",
        f"Execution failed. The command exited with status code {state.exit_code}; see {STD_LOG}.{told}",
    )


async def unless(canceled: asyncio.Event, work: Awaitable[T]) -> T | None:
    """Await work, but give it up when the job is canceled."""
    task = asyncio.ensure_future(work)
    watch = asyncio.create_task(canceled.wait())
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for entry in (task, watch):
            entry.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)
