"""Python environments: built from a conda file's pip part, once per content and Python version."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from azureml_local.exceptions import DeploymentError
from azureml_local.files import tail_lines, write_atomic
from azureml_local.runtime.children import Children

SERVER_PACKAGE = "azureml-inference-server-http"
# azureml-defaults depends on the server package.
SERVER_BEARERS = {SERVER_PACKAGE, "azureml-defaults"}
BUILD_LIMIT_SEC = 1800.0
REQUIREMENT_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
CONDA_PYTHON = re.compile(r"python\s*(?:(?:==?|~=|>=)?\s*(\d+\.\d+))?.*")


@dataclass(frozen=True)
class EnvironmentSpec:
    """What of a conda file is built, and what is not."""

    python_version: str | None
    requirements: tuple[str, ...]
    not_installed: tuple[str, ...]


@dataclass(frozen=True)
class BuiltEnvironment:
    """A finished environment."""

    folder: Path
    notes: tuple[str, ...]

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"


def parse_conda_file(text: str | None) -> EnvironmentSpec:
    """Read a conda file; raises DeploymentError when it is not one."""
    try:
        document: Any = yaml.safe_load(text) if text else {}
    except yaml.YAMLError as error:
        raise DeploymentError("InvalidCondaFile", f"The conda file is not YAML: {error}") from error
    dependencies = document.get("dependencies", []) if isinstance(document, dict) else None
    if not isinstance(dependencies, list):
        raise DeploymentError("InvalidCondaFile", "The conda file has no list of dependencies.")
    python_version: str | None = None
    requirements: list[str] = []
    not_installed: list[str] = []
    for entry in dependencies:
        if isinstance(entry, dict) and isinstance(entry.get("pip"), list):
            requirements += [str(line).strip() for line in entry["pip"]]
        elif isinstance(entry, str) and (match := CONDA_PYTHON.fullmatch(entry.strip())) and _name(entry) == "python":
            python_version = match[1]
        elif isinstance(entry, str) and _name(entry) != "pip":
            not_installed.append(entry)
        elif not isinstance(entry, str):
            raise DeploymentError("InvalidCondaFile", f"The conda file's dependency {entry!r} is not understood.")
    if not SERVER_BEARERS & {_name(line) for line in requirements}:
        requirements.append(SERVER_PACKAGE)
    return EnvironmentSpec(python_version, tuple(requirements), tuple(not_installed))


def _name(requirement: str) -> str:
    match = REQUIREMENT_NAME.match(requirement)
    return re.sub(r"[._-]+", "-", match[1]).lower() if match else ""


async def find_python(version: str | None) -> tuple[str, str, tuple[str, ...]]:
    """Return an interpreter, its full version, and a note when it is not of the wanted version."""
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    if version and version != own and (found := shutil.which(f"python{version}")):
        full = await _version_of(found)
        if full is not None and full.startswith(f"{version}."):
            return found, full, ()
    full = ".".join(map(str, sys.version_info[:3]))
    differs = version is not None and version != own
    note = f"python {version}: not found on this machine; the environment has python {full} instead"
    return sys.executable, full, (note,) if differs else ()


async def _version_of(python: str) -> str | None:
    # A version manager's shim is on PATH for versions that it does not have, and fails when it is run.
    process = await asyncio.create_subprocess_exec(
        python,
        "-c",
        "import ensurepip, platform, venv; print(platform.python_version())",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    output, _ = await process.communicate()
    return output.decode().strip() if process.returncode == 0 else None


def environment_hash(requirements: tuple[str, ...], python_version: str) -> str:
    """Return the name under which an environment is cached."""
    lines = [python_version, *sorted(requirements)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:24]


async def ensure_environment(
    spec: EnvironmentSpec, cache: Path, children: Children, environ: Mapping[str, str]
) -> BuiltEnvironment:
    """Return the environment, building it where it is missing; raises DeploymentError with pip's last words."""
    python, version, notes = await find_python(spec.python_version)
    notes += tuple(f"{name}: a conda package, not installed (only pip's part is)" for name in spec.not_installed)
    digest = environment_hash(spec.requirements, version)
    folder = cache / digest
    # Written last: a folder without it is the rest of an interrupted build.
    complete = folder / ".complete"
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with _locked(cache / f"{digest}.lock"):
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            log = cache / f"{digest}.log"
            log.unlink(missing_ok=True)
            requirements = cache / f"{digest}.txt"
            write_atomic(requirements, "".join(f"{line}\n" for line in spec.requirements))
            # pip's own configuration holds here as anywhere: its variables and files are passed on.
            env = {name: value for name, value in environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
            await _step([python, "-m", "venv", str(folder)], log, env, children)
            pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
            await _step([*pip, "-r", str(requirements)], log, env, children)
            write_atomic(complete, version)
    return BuiltEnvironment(folder, notes)


async def _step(argv: list[str], log: Path, env: Mapping[str, str], children: Children) -> None:
    child = await children.start("environment-build", argv, log=log, env=env)
    try:
        code = await asyncio.wait_for(child.wait(), BUILD_LIMIT_SEC)
    except asyncio.TimeoutError as error:
        raise DeploymentError(
            "EnvironmentBuildFailed", f"Building the environment took more than {BUILD_LIMIT_SEC:g} s; see {log}"
        ) from error
    finally:
        if child.running:
            await child.stop(grace_sec=2)
    if code != 0:
        lines = tail_lines(log, 200).splitlines()
        told = [line for line in lines if line.startswith("ERROR")] or lines
        raise DeploymentError(
            "EnvironmentBuildFailed",
            f"Building the environment failed: {' '.join(line.strip() for line in told[-3:])} (log: {log})",
        )


@asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(0.2)
        yield
    finally:
        os.close(descriptor)
