"""A real control plane for the session, in a temporary home, and the unmodified SDKs pointed at it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

UP_LIMIT_SEC = 600


@dataclass(frozen=True)
class PlaneHandle:
    """A running control plane: where its home is and the variables that `env` prints."""

    home: Path
    variables: dict[str, str]

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `azureml-local ARGUMENTS` on this home."""
        done = subprocess.run(
            [sys.executable, "-m", "azureml_local", *arguments, "--home", str(self.home)],
            capture_output=True,
            text=True,
            timeout=UP_LIMIT_SEC,
            check=False,
        )
        if check and done.returncode != 0:
            pytest.fail(f"azureml-local {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done


def read_variables(printed: str) -> dict[str, str]:
    """Read the lines that `azureml-local env` prints."""
    return dict(re.findall(r"^export (\w+)='?(.*?)'?$", printed, re.MULTILINE))


@pytest.fixture(scope="session")
def plane() -> Iterator[PlaneHandle]:
    """Start a control plane, and stop it at the end of the session.

    AZUREML_LOCAL_ENV_CACHE names a folder of built environments that outlives the session.
    """
    home = Path(tempfile.mkdtemp(prefix="azureml_local-"))
    handle = PlaneHandle(home, {})
    patch = pytest.MonkeyPatch()
    try:
        handle.command("up")
        handle.variables.update(read_variables(handle.command("env").stdout))
        for name, value in handle.variables.items():
            patch.setenv(name, value)
        yield handle
    finally:
        patch.undo()
        handle.command("down", check=False)
        if os.environ.get("AZUREML_LOCAL_KEEP_HOME"):
            print(f"kept: {home}")
        else:
            shutil.rmtree(home)


@pytest.fixture(scope="session")
def credential(plane: PlaneHandle) -> Any:
    """The credential that AzureML computes use."""
    from azure.identity import ManagedIdentityCredential

    return ManagedIdentityCredential()


@pytest.fixture(scope="session")
def client(plane: PlaneHandle, credential: Any) -> Any:
    """The unmodified SDK's client of the workspace."""
    from azure.ai.ml import MLClient

    return MLClient(
        credential,
        plane.variables["AZUREML_ARM_SUBSCRIPTION"],
        plane.variables["AZUREML_ARM_RESOURCEGROUP"],
        plane.variables["AZUREML_ARM_WORKSPACE_NAME"],
    )
