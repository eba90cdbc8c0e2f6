"""The Docker engine, through its command line: that honours contexts, DOCKER_HOST and logins to registries alike."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from azureml_local.exceptions import JobError, PlaneError
from azureml_local.runtime.children import Child, Children

# Every container carries these, so that none is lost sight of, whatever becomes of the plane.
HOME_LABEL = "azureml_local.home"
JOB_LABEL = "azureml_local.job"

COMMAND_LIMIT_SEC = 60.0
CREATE_LIMIT_SEC = 300.0
PULL_LIMIT_SEC = 3600.0
# Between the polite signal and the other one; AzureML gives as long.
STOP_GRACE_SEC = 10
# AzureML runs the command with bash; an image without one still has a POSIX shell.
SHELL = 'if command -v bash >/dev/null; then exec bash -c "$0"; else exec sh -c "$0"; fi'


@dataclass(frozen=True)
class ContainerSpec:
    """A container to make."""

    name: str
    job: str
    image: str
    command: str
    work_dir: str
    variables: Mapping[str, str]
    # (path on this machine, path in the container, "rw" or "ro")
    mounts: Sequence[tuple[Path, str, str]]
    user: str
    arguments: Sequence[str] = ()


@dataclass(frozen=True)
class ContainerState:
    """How a container is."""

    status: str
    exit_code: int
    out_of_memory: bool
    error: str
    started: bool


@dataclass(frozen=True)
class _Done:
    code: int
    out: str
    err: str

    @property
    def reason(self) -> str:
        lines = [line for line in self.err.splitlines() if line.strip()]
        # The client closes some of its errors with a hint at its own help.
        told = [line for line in lines if not line.startswith(("See '", "Run '"))]
        return told[-1].removeprefix("docker: ").removeprefix("Error response from daemon: ") if told else "no reason"


def find_docker() -> str | None:
    """Return the docker client on PATH."""
    return shutil.which("docker")


class Engine:
    """The containers of one home."""

    def __init__(self, home_id: str, children: Children) -> None:
        self._home_id = home_id
        self._children = children
        self._rootless: bool | None = None

    async def require(self) -> None:
        """Raise JobError, in words, when no engine answers."""
        done = await self._docker("version", "--format", "{{.Server.Version}}")
        if done.code != 0:
            raise JobError(
                "DockerEngineUnavailable",
                f"Jobs run in containers, and no Docker engine answers: {done.reason} Start one, or point DOCKER_HOST "
                "at it before 'azureml-local up'.",
            )

    async def user(self) -> str:
        """Return the user whose files in a mounted folder belong to the plane's own."""
        if self._rootless is None:
            done = await self._docker("info", "--format", "{{json .SecurityOptions}}")
            self._rootless = "rootless" in done.out
        # A rootless engine's root is the user who runs it.
        return "0:0" if self._rootless else f"{os.getuid()}:{os.getgid()}"

    async def has_image(self, image: str) -> bool:
        """Say whether the engine has an image."""
        return (await self._docker("image", "inspect", "--format", "{{.Id}}", image)).code == 0

    async def pull(self, image: str) -> None:
        """Get an image from its registry; raises JobError with the engine's reason."""
        done = await self._docker("pull", "--quiet", image, limit_sec=PULL_LIMIT_SEC)
        if done.code != 0:
            raise JobError(
                "ImageNotFound", f"The image {image} is not on this machine and cannot be pulled: {done.reason}"
            )

    async def create(self, spec: ContainerSpec) -> None:
        """Make a container; raises JobError with the engine's reason."""
        words = ["create", "--name", spec.name, "--init", "--network", "host", "--user", spec.user]
        words += ["--workdir", spec.work_dir, "--pull", "never", "--entrypoint", "sh"]
        words += ["--label", f"{HOME_LABEL}={self._home_id}", "--label", f"{JOB_LABEL}={spec.job}"]
        for source, target, mode in spec.mounts:
            # Unlike --volume, it takes colons in a path.
            readonly = ",readonly" if mode == "ro" else ""
            words += ["--mount", f"type=bind,source={source},target={target}{readonly}"]
        # Names alone: the values, secrets among them, go through the client's environment, where ps does not show them;
        # save for those that the client needs for itself, such as PATH.
        own = _client_variables()
        for name, value in spec.variables.items():
            words += ["--env", f"{name}={value}" if name in own else name]
        words += [*spec.arguments, spec.image, "-c", SHELL, spec.command]
        done = await self._docker(*words, variables=spec.variables, limit_sec=CREATE_LIMIT_SEC)
        if done.code != 0:
            raise JobError("ContainerNotCreated", f"The container for {spec.image} cannot be made: {done.reason}")

    async def start(self, name: str) -> None:
        """Start a container; raises JobError with the engine's reason."""
        done = await self._docker("start", name)
        if done.code != 0:
            raise JobError("ContainerNotStarted", f"The container cannot be started: {done.reason}")

    async def follow(self, name: str, log: Path) -> Child:
        """Write a container's output, from its beginning, to a file until it ends."""
        return await self._children.start("job log", [_client(), "logs", "--follow", name], log=log, env=os.environ)

    async def wait(self, name: str) -> None:
        """Wait until a container has ended; raises JobError when the engine goes away meanwhile."""
        done = await self._docker("wait", name, limit_sec=None)
        if done.code != 0:
            raise JobError("DockerEngineLost", f"The engine has gone away while the job ran: {done.reason}")

    async def state(self, name: str) -> ContainerState | None:
        """Say how a container is; None when there is none of this name."""
        done = await self._docker("container", "inspect", "--format", "{{json .State}}", name)
        if done.code != 0:
            if "no such container" in done.err.lower():
                return None
            raise JobError("DockerEngineUnavailable", f"The engine does not say how the job is: {done.reason}")
        state = json.loads(done.out)
        return ContainerState(
            status=state["Status"],
            exit_code=int(state["ExitCode"]),
            out_of_memory=bool(state.get("OOMKilled")),
            error=str(state.get("Error") or ""),
            started=not state["StartedAt"].startswith("0001-"),
        )

    async def stop(self, name: str) -> None:
        """Stop a container: asked first, killed after the grace time."""
        await self._docker("stop", "--time", str(STOP_GRACE_SEC), name)

    async def remove(self, name: str) -> None:
        """Remove a container, running or not; one that is not there is no error."""
        done = await self._docker("rm", "--force", "--volumes", name)
        if done.code != 0 and "no such container" not in done.err.lower():
            raise JobError("ContainerNotRemoved", f"The container {name} cannot be removed: {done.reason}")

    async def owned(self) -> dict[str, str]:
        """Return the names of the home's containers, running or not, and the job of each."""
        form = f'{{{{.Names}}}} {{{{.Label "{JOB_LABEL}"}}}}'
        done = await self._docker("ps", "--all", "--filter", f"label={HOME_LABEL}={self._home_id}", "--format", form)
        if done.code != 0:
            raise JobError("DockerEngineUnavailable", f"The engine does not list containers: {done.reason}")
        pairs = (line.split(" ", 1) for line in done.out.splitlines() if line)
        return {name: "".join(job) for name, *job in pairs}

    async def _docker(
        self, *words: str, variables: Mapping[str, str] | None = None, limit_sec: float | None = COMMAND_LIMIT_SEC
    ) -> _Done:
        process = await asyncio.create_subprocess_exec(
            _client(),
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**(variables or {}), **_client_variables()},
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), limit_sec)
        except asyncio.TimeoutError:
            process.kill()
            await process.wait()
            return _Done(124, "", f"docker {words[0]}: not done in {limit_sec:g} s")
        except BaseException:
            if process.returncode is None:
                process.kill()
            raise
        return _Done(process.returncode or 0, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


def remove_containers(jobs_dir: Path, home_id: str) -> int:
    """Remove the containers that a killed plane has left behind; returns how many there were.

    Where no job has left a folder, there is none, and the engine is not asked.
    """
    client = find_docker()
    if client is None or not jobs_dir.is_dir() or not any(jobs_dir.iterdir()):
        return 0
    wanted = ["ps", "--all", "--quiet", "--filter", f"label={HOME_LABEL}={home_id}"]
    try:
        found = subprocess.run([client, *wanted], capture_output=True, text=True, timeout=COMMAND_LIMIT_SEC, check=True)
        names = found.stdout.split()
        if names:
            subprocess.run(
                [client, "rm", "--force", "--volumes", *names],
                capture_output=True,
                timeout=COMMAND_LIMIT_SEC,
                check=True,
            )
    except subprocess.SubprocessError as error:
        raise PlaneError(
            f"the containers of jobs that ran here cannot be removed: {error}; once the engine answers: docker rm "
            f"--force $(docker ps --all --quiet --filter label={HOME_LABEL}={home_id})"
        ) from error
    return len(names)


def _client() -> str:
    found = find_docker()
    if found is None:
        raise JobError(
            "DockerClientNotFound",
            "Jobs run in containers, and there is no docker client on the PATH of 'azureml-local up'; install one "
            "(Debian, Ubuntu: apt-get install docker.io).",
        )
    return found


def _client_variables() -> dict[str, str]:
    wanted = ("PATH", "HOME", "XDG_RUNTIME_DIR", "SSH_AUTH_SOCK", "LANG")
    return {name: value for name, value in os.environ.items() if name in wanted or name.startswith("DOCKER_")}
