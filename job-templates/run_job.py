#!/usr/bin/env python3
"""Submit a filled job template, show its log, and download what it made: `az ml job create --stream` and `download`.

For whoever has azure-ai-ml but not the az CLI, and for the local control plane. The workspace is the one that the
AZUREML_ARM_* variables name, Azure's or the local control plane's alike (`azureml-local env` prints them).
Exit codes: 0, the job is Completed; 1, it is not, or the workspace says no; 2, wrong arguments, a missing variable or a
YAML file that is no job's; 130, interrupted, and the job runs on.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PLACEHOLDER = re.compile(r"\$([A-Z][A-Z0-9_]*)")


class MissingVariable(Exception):
    """A placeholder or a setting that the environment does not fill."""


class BadJob(Exception):
    """A YAML file that azure-ai-ml takes for no job."""


class JobInterrupted(KeyboardInterrupt):
    """Interrupted while a job runs."""


def workspace() -> Any:
    """Return the client of the workspace that the environment names."""
    from azure.ai.ml import MLClient
    from azure.identity import DefaultAzureCredential

    names = ("AZUREML_ARM_SUBSCRIPTION", "AZUREML_ARM_RESOURCEGROUP", "AZUREML_ARM_WORKSPACE_NAME")
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        raise MissingVariable(f"{', '.join(missing)}: not set in the environment")
    return MLClient(DefaultAzureCredential(), *(os.environ[name] for name in names))


def make_computes(client: Any, names: Sequence[str], size: str) -> None:
    """Create the clusters that are not there; those that are stay as they are."""
    from azure.ai.ml.entities import AmlCompute, IdentityConfiguration

    there = {compute.name for compute in client.compute.list()}
    for name in names:
        if name in there:
            continue
        print(f"creating the compute {name}, {size}", file=sys.stderr)
        identity = IdentityConfiguration(type="system_assigned")
        client.compute.begin_create_or_update(
            AmlCompute(name=name, size=size, max_instances=1, identity=identity)
        ).result()


def load(path: Path) -> Any:
    """Read a job's YAML file; raises BadJob."""
    from azure.ai.ml import load_job
    from azure.ai.ml.exceptions import MlException
    from marshmallow import ValidationError
    from yaml import YAMLError

    try:
        return load_job(path)
    except (MlException, ValidationError, YAMLError, UnicodeError) as error:
        raise BadJob(f"{path}: {getattr(error, 'message', None) or error}") from error


def run(client: Any, path: Path, download: Path | None, compute_size: str | None) -> bool:
    """Run a job to its end; says whether it is Completed."""
    from azure.ai.ml.exceptions import JobException

    job = load(path)
    if compute_size is not None and isinstance(getattr(job, "compute", None), str):
        make_computes(client, [job.compute.removeprefix("azureml:")], compute_size)
    job = client.jobs.create_or_update(job)
    try:
        client.jobs.stream(job.name)
    except JobException as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise JobInterrupted(job.name) from None
        print(error, file=sys.stderr)
    except KeyboardInterrupt:
        raise JobInterrupted(job.name) from None
    status = client.jobs.get(job.name).status
    if download is not None:
        # Of a failed job too: a profiler that has missed its SLA has written its report.
        client.jobs.download(job.name, download_path=download, all=True)
    print(f"{job.name}: {status}" + (f", downloaded to {download}" if download is not None else ""), file=sys.stderr)
    return bool(status == "Completed")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one job; returns the exit code."""
    parser = argparse.ArgumentParser(description="Submit a job, show its log, download what it made.")
    parser.add_argument("job", type=Path, help="the job's YAML, its placeholders filled")
    parser.add_argument("--download", type=Path, metavar="FOLDER", help="where to: artifacts/outputs and named-outputs")
    parser.add_argument("--compute_size", metavar="SKU", help="create the job's compute of this size, if missing")
    arguments = parser.parse_args(argv)
    if not arguments.job.is_file():
        parser.error(f"{arguments.job}: no such file")
    from azure.ai.ml.exceptions import MlException
    from azure.core.exceptions import AzureError

    try:
        text = arguments.job.read_text(encoding="utf-8")
        left = sorted(set(PLACEHOLDER.findall(text)))
        if left:
            raise MissingVariable(
                f"{arguments.job}: {', '.join(left)}: not filled in; README.md shows how, by envsubst"
            )
        return 0 if run(workspace(), arguments.job, arguments.download, arguments.compute_size) else 1
    except UnicodeError as error:
        return said(f"{arguments.job}: not UTF-8 text: {error}", 2)
    except (MissingVariable, BadJob) as error:
        return said(error, 2)
    except (AzureError, MlException, OSError) as error:
        return said(getattr(error, "message", None) or error, 1)
    except JobInterrupted as interrupt:
        (name,) = interrupt.args
        return said(
            f"interrupted; the job runs on: az ml job cancel --name {name}, or jobs.begin_cancel('{name}')", 130
        )
    except KeyboardInterrupt:
        return said("interrupted", 130)


def said(reason: object, code: int) -> int:
    """Say in one line why it ends; returns the exit code."""
    print(f"run_job: error: {' '.join(str(reason).split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
