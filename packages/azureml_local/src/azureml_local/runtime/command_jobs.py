"""Runs command jobs: image, inputs, containers, logs, outputs; takes up again what a killed plane has left running."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from azureml_local.cloud import LOOPBACK_HOSTS, client_environment, tracking_environment
from azureml_local.exceptions import InvalidRequestError, JobError
from azureml_local.files import tail_lines
from azureml_local.home import Home, Settings, free_port
from azureml_local.models import placeholders
from azureml_local.models.jobs import CommandSpec, node_count, parse_command
from azureml_local.models.resource_ids import last_name
from azureml_local.models.store import Resource, Store
from azureml_local.runtime.blobs import discard
from azureml_local.runtime.containers import ContainerSpec, ContainerState, Engine
from azureml_local.runtime.job_files import OUTPUT_NOT_UPLOADED, JobFiles, JobFolder

T = TypeVar("T")
LOG_END_LIMIT_SEC = 10.0
CONTAINER_NAME_LIMIT = 60
JOB_TIMEOUT = "JobTimeout"


@dataclass(frozen=True)
class Outcome:
    """How a job has ended."""

    status: str
    error: dict[str, str] | None = None


def failed(code: str, message: str) -> Outcome:
    """Return the outcome of a job that failed."""
    return Outcome("Failed", {"code": code, "message": message})


@dataclass(frozen=True)
class Node:
    """One node of a job: its folder and the name of its container."""

    folder: JobFolder
    container: str


def node_variables(spec: CommandSpec, rank: int, master_port: int) -> dict[str, str]:
    """Return what tells a node its place among the others.

    All containers are on the network of this machine, so node 0 is at the loopback address.
    """
    common = {"AZUREML_NODE_COUNT": str(spec.node_count)}
    if spec.distribution == "mpi":
        return {
            **common,
            "OMPI_COMM_WORLD_RANK": str(rank),
            "OMPI_COMM_WORLD_SIZE": str(spec.node_count),
            "OMPI_COMM_WORLD_LOCAL_RANK": "0",
            "OMPI_COMM_WORLD_LOCAL_SIZE": "1",
            "AZ_BATCH_MASTER_NODE": f"127.0.0.1:{master_port}",
            "AZ_BATCHAI_MPI_MASTER_NODE": "127.0.0.1",
        }
    return {
        **common,
        "NODE_RANK": str(rank),
        "RANK": str(rank),
        "LOCAL_RANK": "0",
        "WORLD_SIZE": str(spec.node_count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(master_port),
    }


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

    def nodes(self, job: Resource) -> list[Node]:
        """Return a job's nodes; the home's id in their containers' names keeps two planes of one machine apart."""
        root, count = self._home.jobs_dir / job.name, node_count(job.properties)
        name = self._container_name(job)
        if count == 1:
            return [Node(JobFolder(root, job.name), name)]
        return [Node(JobFolder(root, job.name, rank), f"{name}-{rank}") for rank in range(count)]

    def _container_name(self, job: Resource) -> str:
        name = job.name
        if len(name) > CONTAINER_NAME_LIMIT:
            name = f"{name[:CONTAINER_NAME_LIMIT]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
        return f"azureml_local-{self._settings.home_id[:8]}-{name}"

    async def run(self, job: Resource, canceled: asyncio.Event, say: Callable[[str], None]) -> Outcome:
        """Run a job from its beginning; `say` is told each new status."""
        nodes = self.nodes(job)
        folders = [node.folder for node in nodes]
        spec = parse_command(job.properties)
        say("Preparing")
        for folder in folders:
            folder.make()
        try:
            await self._prepare(job, spec, folders[0], canceled)
            if canceled.is_set():
                return CANCELED
            paths = await self._files.stage(spec, self._code(spec), folders)
            if canceled.is_set():
                return CANCELED
            job.internal["paths"] = paths
            master_port = free_port() if len(nodes) > 1 else None
            for node in nodes:
                await self._engine.remove(node.container)
                await self._engine.create(await self._container(job, spec, node, paths, master_port))
                # An empty log, there from the beginning, so that whoever follows finds it.
                node.folder.std_log.touch()
            for node in nodes:
                await self._engine.start(node.container)
            job.internal["started"] = time.time()
            say("Running")
            folders[0].note("the command runs" if len(nodes) == 1 else f"the command runs on {len(nodes)} nodes")
            return await self._attend(job, spec, nodes, canceled, say)
        except JobError as error:
            await self._collect_despite(error, job, spec, folders)
            raise
        finally:
            await self.clear(job)

    async def resume(self, job: Resource, canceled: asyncio.Event, say: Callable[[str], None]) -> Outcome | None:
        """Take up a job whose containers a killed plane has left behind; None when one is missing."""
        nodes = self.nodes(job)
        states = [await self._engine.state(node.container) for node in nodes]
        if "paths" not in job.internal or not all(state is not None and state.started for state in states):
            return None
        nodes[0].folder.note("the control plane has come back")
        for node in nodes:
            # All of it is read again from the container.
            node.folder.std_log.unlink(missing_ok=True)
            node.folder.std_log.touch()
        spec = parse_command(job.properties)
        try:
            return await self._attend(job, spec, nodes, canceled, say)
        except JobError as error:
            await self._collect_despite(error, job, spec, [node.folder for node in nodes])
            raise
        finally:
            await self.clear(job)

    async def _collect_despite(
        self, error: JobError, job: Resource, spec: CommandSpec, folders: Sequence[JobFolder]
    ) -> None:
        """Send up what is there of a job that has failed; unless that is what has failed, and all that could go has."""
        folders[0].note(f"{error.code}: {error.message}")
        if error.code != OUTPUT_NOT_UPLOADED:
            with contextlib.suppress(JobError):
                await self._files.collect(spec, job.internal.get("paths", {}), folders)

    async def clear(self, job: Resource) -> None:
        """Leave no container and no files behind."""
        if "paths" in job.internal:
            for node in self.nodes(job):
                await self._engine.remove(node.container)
            job.internal.pop("paths")
        await asyncio.to_thread(discard, self._home.jobs_dir / job.name)

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
        self, job: Resource, spec: CommandSpec, node: Node, paths: Mapping[str, str], master_port: int | None
    ) -> ContainerSpec:
        folder = node.folder
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
            name=node.container,
            job=job.name,
            image=self._image(spec),
            command=command,
            work_dir=folder.container_work_dir,
            variables=self._variables(job, spec, folder, paths, master_port),
            mounts=mounts,
            user=await self._engine.user(),
            arguments=[*(["--shm-size", spec.shm_size] if spec.shm_size else []), *spec.docker_arguments],
        )

    def _variables(
        self,
        job: Resource,
        spec: CommandSpec,
        folder: JobFolder,
        paths: Mapping[str, str],
        master_port: int | None,
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
            **tracking_environment(self._home, settings, self._workspace_id, job.name),
            **files,
            **({} if master_port is None else node_variables(spec, folder.node or 0, master_port)),
            **spec.environment_variables,
        }

    async def _attend(
        self,
        job: Resource,
        spec: CommandSpec,
        nodes: Sequence[Node],
        canceled: asyncio.Event,
        say: Callable[[str], None],
    ) -> Outcome:
        """Follow started containers to their end, and send up what they have written."""
        paths, folders = job.internal["paths"], [node.folder for node in nodes]
        log_ended = asyncio.Event()
        followers = [await self._engine.follow(node.container, node.folder.std_log) for node in nodes]
        streaming = asyncio.gather(*(self._files.stream_log(folder, log_ended) for folder in folders))
        job.internal["logs"] = [folder.log_name for folder in folders]
        reason: Outcome | None = None
        first_failed: Node | None = None
        try:
            try:
                first_failed = await asyncio.wait_for(unless(canceled, self._first_failed(nodes)), _left_sec(job, spec))
            except asyncio.TimeoutError:
                message = f"The job ran longer than its limit of {spec.timeout_sec:g} s (limits.timeout)."
                reason = Outcome("Canceled", {"code": JOB_TIMEOUT, "message": message})
            if canceled.is_set():
                reason = CANCELED
            if reason is not None or first_failed is not None:
                # As on AzureML: when one node fails, the others have nothing left to do.
                await asyncio.gather(*(self._engine.stop(node.container) for node in nodes if node is not first_failed))
            judged = first_failed or nodes[0]
            state = await self._engine.state(judged.container)
            say("Finalizing")
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.gather(*(one.wait() for one in followers)), LOG_END_LIMIT_SEC)
        finally:
            for follower in followers:
                await follower.stop(grace_sec=0)
            log_ended.set()
            await streaming
        outcome = reason or _judge(state, judged.folder)
        folders[0].note(f"{outcome.status}{': ' + outcome.error['message'] if outcome.error else ''}")
        await self._files.collect(spec, paths, folders)
        return outcome

    async def _first_failed(self, nodes: Sequence[Node]) -> Node | None:
        """Wait until all nodes have ended well, or one of them has not, and return that one."""
        waiting = {asyncio.create_task(self._engine.wait(node.container)): node for node in nodes}
        try:
            while waiting:
                ended, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    task.result()
                    node = waiting.pop(task)
                    state = await self._engine.state(node.container)
                    if state is None or state.out_of_memory or state.exit_code != 0:
                        return node
            return None
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

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
    where = "" if folder.node is None else f" on node {folder.node}"
    return failed(
        "UserError",
        f"Execution failed. The command exited with status code {state.exit_code}{where}; see {folder.log_name}.{told}",
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
