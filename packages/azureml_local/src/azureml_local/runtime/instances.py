"""Scoring servers: one process tree per instance, kept ready."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from azureml_local.exceptions import DeploymentError, PlaneError
from azureml_local.files import make_private_dir
from azureml_local.home import free_port
from azureml_local.models.deployments import DeploymentSpec
from azureml_local.models.store import now_text
from azureml_local.runtime.children import Child, Children
from azureml_local.runtime.confinement import Cell, Confinement
from azureml_local.runtime.environments import BuiltEnvironment
from azureml_local.runtime.haproxy_config import Server
from azureml_local.runtime.service import FIRST_PAUSE_SEC, next_pause_sec

LOGGER = logging.getLogger(__name__)

LAUNCHER = Path(__file__).with_name("launcher.py")
STOP_GRACE_SEC = 10.0
MEMORY_WATCH_SEC = 1.0
OUT_OF_MEMORY = "OutOfMemory"
LONGEST_LOG_BYTES = 32 * 1024 * 1024
KEPT_LOG_BYTES = 1024 * 1024
# An Azure container sees nothing of the shell that deployed it; these make it work on this machine at all.
PASSED_VARIABLES = (
    *("LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)
CRASHED = (
    "User container has crashed or terminated. Please see troubleshooting guide, available here: "
    "https://aka.ms/oe-tsg#error-resourcenotready"
)


@dataclass(frozen=True)
class ServerFiles:
    """What an instance runs: its environment, code, model, and where it may write."""

    environment: BuiltEnvironment
    app_root: Path
    model_dir: Path | None
    work_dir: Path


def server_environment(
    spec: DeploymentSpec, files: ServerFiles, home: Path, outer: Mapping[str, str]
) -> dict[str, str]:
    """Return an instance's environment variables: the deployment's own, and those that Azure sets."""
    passed = {name: outer[name] for name in PASSED_VARIABLES if name in outer}
    bin_dir = files.environment.folder / "bin"
    fixed = {
        "PATH": f"{bin_dir}:{outer.get('PATH', os.defpath)}",
        "VIRTUAL_ENV": str(files.environment.folder),
        "HOME": str(home),
        "PYTHONUNBUFFERED": "1",
        "AML_APP_ROOT": str(files.app_root),
    }
    if files.model_dir is not None:
        fixed["AZUREML_MODEL_DIR"] = str(files.model_dir)
    return {**passed, "WORKER_COUNT": "1", **dict(spec.environment_variables), **fixed}


class Instance:
    """One scoring server."""

    def __init__(
        self, name: str, spec: DeploymentSpec, files: ServerFiles, children: Children, confinement: Confinement
    ) -> None:
        self.name = name
        self.port = 0
        self.ready = False
        self.child: Child | None = None
        self.cell: Cell | None = None
        self._confinement = confinement
        self._spec = spec
        self._files = files
        self._children = children
        self.log = files.work_dir / f"{name}.log"

    async def start(self) -> None:
        """Start the process on a port that is free now, inside the limits of its size."""
        self.ready = False
        self.port = free_port()
        self.cell = self._confinement.admit(self.name, self._spec.size, self._spec.instance_count)
        home = make_private_dir(self._files.work_dir / f"{self.name}.home")
        script = self._files.app_root / self._spec.scoring_script
        self.child = await self._children.start(
            f"instance {self._spec.endpoint_name}/{self._spec.name}/{self.name}",
            self.cell.command(
                [
                    str(self._files.environment.python),
                    str(LAUNCHER),
                    "--entry_script",
                    str(script),
                    "--port",
                    str(self.port),
                ]
            ),
            log=self.log,
            env=server_environment(self._spec, self._files, home, os.environ),
            cwd=self._files.app_root,
        )
        self.cell.follow(self.child.pid)

    def out_of_memory(self) -> str | None:
        """Say in words that the instance has met its memory limit; None when it has not."""
        if self.cell is None or not self.cell.out_of_memory():
            return None
        words = self.cell.out_of_memory_words
        with self.log.open("a") as stream:
            stream.write(f"{now_text()} {OUT_OF_MEMORY}: {words}\n")
        return words

    async def probe(self, client: httpx.AsyncClient, timeout_sec: float) -> bool:
        """Ask the server for its health."""
        try:
            answer = await client.get(f"http://127.0.0.1:{self.port}/", timeout=timeout_sec)
        except httpx.HTTPError:
            return False
        return answer.status_code == 200

    async def wait_ready(self, client: httpx.AsyncClient) -> None:
        """Wait until the server is healthy; raises DeploymentError when it ends first or takes too long."""
        probe = self._spec.readiness
        limit_sec = probe.initial_delay_sec + probe.period_sec * probe.failure_threshold
        deadline = time.monotonic() + limit_sec
        pause_sec = 0.05
        while time.monotonic() < deadline:
            healthy = await self.probe(client, probe.timeout_sec)
            # First: a server's parent lives on when the kernel has killed its worker, and would try again for ever.
            if words := self.out_of_memory():
                raise DeploymentError(OUT_OF_MEMORY, words)
            if healthy:
                self.ready = True
                return
            if self.child is None or not self.child.running:
                raise DeploymentError("ResourceNotReady", CRASHED)
            await asyncio.sleep(pause_sec)
            pause_sec = min(0.5, pause_sec * 1.5)
        raise DeploymentError("ResourceNotReady", f"The readiness probe has failed for {limit_sec:g} s. {CRASHED}")

    def trim_log(self) -> None:
        """Keep the log from filling the disk: at its limit, only its end stays."""
        if not self.log.exists() or self.log.stat().st_size <= LONGEST_LOG_BYTES:
            return
        with self.log.open("r+b") as stream:
            stream.seek(-KEPT_LOG_BYTES, os.SEEK_END)
            kept = stream.read()
            # The server writes in append mode, so after this it goes on at the new end.
            stream.seek(0)
            stream.truncate()
            stream.write(kept[kept.find(b"\n") + 1 :])

    async def stop(self, grace_sec: float = STOP_GRACE_SEC) -> None:
        """Stop the server, letting it finish what it is at."""
        self.ready = False
        if self.child is not None:
            await self.child.stop(grace_sec)
        if self.cell is not None:
            await self.cell.close()


class Fleet:
    """All instances of one deployment, of one generation."""

    def __init__(
        self,
        spec: DeploymentSpec,
        files: ServerFiles,
        children: Children,
        confinement: Confinement,
        changed: Callable[[], Awaitable[None]],
    ) -> None:
        generation = secrets.token_hex(4)
        self.spec = spec
        self.files = files
        self.instances = [
            Instance(f"{spec.name}-{generation}-{number}", spec, files, children, confinement)
            for number in range(spec.instance_count)
        ]
        self._changed = changed
        self._client = httpx.AsyncClient(trust_env=False)
        self._keepers: list[asyncio.Task[None]] = []

    @property
    def servers(self) -> tuple[Server, ...]:
        """Return the servers that are ready."""
        return tuple(Server(entry.name, entry.port) for entry in self.instances if entry.ready)

    async def start(self) -> None:
        """Start all instances and wait until all are ready; on failure all are stopped again."""
        try:
            for instance in self.instances:
                await instance.start()
            await asyncio.gather(*(instance.wait_ready(self._client) for instance in self.instances))
        except BaseException:
            await self.stop()
            raise

    def keep(self) -> None:
        """Watch the instances from now on, and start again those that end."""
        self._keepers = [asyncio.create_task(self._keep(instance)) for instance in self.instances]

    async def _keep(self, instance: Instance) -> None:
        pause_sec = FIRST_PAUSE_SEC / 2
        started = time.monotonic()
        while True:
            try:
                if not instance.ready:
                    await instance.start()
                    await instance.wait_ready(self._client)
                    await self._changed()
                    started = time.monotonic()
                out_of_memory = await self._watch(instance)
                # The gateway first: a server that is alive but stuck takes its time to end.
                instance.ready = False
                await self._changed()
                if out_of_memory:
                    await instance.stop(grace_sec=0)
            except (DeploymentError, PlaneError, OSError) as error:
                LOGGER.error("%s/%s: %s: %s", self.spec.endpoint_name, self.spec.name, instance.name, error)
            await instance.stop()
            pause_sec = next_pause_sec(pause_sec, time.monotonic() - started)
            LOGGER.error("%s: ended; starting it again in %.1f s", instance.name, pause_sec)
            await asyncio.sleep(pause_sec)

    async def _watch(self, instance: Instance) -> bool:
        """Return when the instance has ended or fails its liveness probe; True when it has met its memory limit."""
        child = instance.child
        if child is None:
            return False
        probe = self.spec.liveness
        failures = 0
        next_probe = time.monotonic() + probe.period_sec
        ended = asyncio.create_task(child.wait())
        try:
            while True:
                pause_sec = min(MEMORY_WATCH_SEC, max(0.0, next_probe - time.monotonic()))
                done, _ = await asyncio.wait({ended}, timeout=pause_sec)
                if words := instance.out_of_memory():
                    LOGGER.error("%s: %s: %s", instance.name, OUT_OF_MEMORY, words)
                    return True
                if done:
                    return False
                if time.monotonic() < next_probe:
                    continue
                next_probe = time.monotonic() + probe.period_sec
                instance.trim_log()
                failures = 0 if await instance.probe(self._client, probe.timeout_sec) else failures + 1
                if failures >= probe.failure_threshold:
                    LOGGER.error("%s: %d liveness probes have failed in a row", instance.name, failures)
                    return False
        finally:
            ended.cancel()

    async def stop(self) -> None:
        """Stop all instances."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await asyncio.gather(*(instance.stop() for instance in self.instances))
        await self._client.aclose()
