#!/usr/bin/env python3
"""Run pipeline.yml for one SKU:CONCURRENCY pair, and download its report; whatever happens, no endpoint stays behind.

The workspace is the one that the AZUREML_ARM_* variables name, Azure's or the local control plane's alike. The images
and the compute are named by OPTIMIZER_IMAGE, DEPLOYER_IMAGE, PROFILER_IMAGE, DELETER_IMAGE and PIPELINE_COMPUTE_NAME.
Exit codes: 0, the report is there (whether it meets its SLA is judged at the end, over all pairs: sla_gate.py);
1, it is not; 2, wrong arguments or a missing variable.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from run_job import PLACEHOLDER, MissingVariable, workspace

TEMPLATES = Path(__file__).resolve().parents[1]
# Filled as by `envsubst '$NAME ...'` with all names that the files use: $schema and ${{...}} stay.
FILLED = ("pipeline.yml", "components/*.yml", "digits/endpoint.yml", "digits/deployment.yml", "ci/profiler_config.json")
PAIR = re.compile(r"(?P<sku>Standard_[A-Za-z0-9_]+):(?P<concurrency>[1-9][0-9]*)")


def fill(folder: Path, values: Mapping[str, str], patterns: Sequence[str] = FILLED) -> None:
    """Fill in the placeholders of a folder's files; raises MissingVariable, which names all that are missing."""
    texts = {path: path.read_text(encoding="utf-8") for pattern in patterns for path in sorted(folder.glob(pattern))}
    missing = {name for text in texts.values() for name in PLACEHOLDER.findall(text) if not values.get(name)}
    if missing:
        raise MissingVariable(f"{', '.join(sorted(missing))}: not set in the environment, and the templates need it")
    for path, text in texts.items():
        path.write_text(PLACEHOLDER.sub(lambda match: values[match[1]], text), encoding="utf-8")


def copy_templates(folder: Path, model: Path) -> None:
    """Copy what the pipeline uses, with the pair's own deployment in the example's place."""
    ignored = shutil.ignore_patterns("__pycache__", "model")
    for name in ("components", "digits", "ci"):
        shutil.copytree(TEMPLATES / name, folder / name, ignore=ignored)
    shutil.copy(TEMPLATES / "pipeline.yml", folder)
    shutil.copy(TEMPLATES / "ci" / "deployment.yml", folder / "digits" / "deployment.yml")
    shutil.copytree(model, folder / "digits" / "model")


def variables(pair: re.Match[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return what fills the placeholders."""
    unique = uuid.uuid4().hex[:8]
    chosen = {
        "PIPELINE_JOB_NAME": f"pipeline-{unique}",
        "ENDPOINT_NAME": f"profiled-{unique}",
        "DEPLOYMENT_NAME": "optimized",
        "PROFILER": "aml_wrk_profiler",
        "PROFILER_CONFIG": "ci/profiler_config.json",
    }
    own = {"INFERENCE_SERVICE_COMPUTE_SIZE": pair["sku"], "CONCURRENCY": pair["concurrency"]}
    return {**chosen, **environ, **own}


def run(client: Any, folder: Path, endpoint: str, download: Path) -> bool:
    """Run the filled pipeline to its end; says whether its report was downloaded."""
    from azure.ai.ml import load_job
    from azure.ai.ml.exceptions import JobException

    job = client.jobs.create_or_update(load_job(folder / "pipeline.yml"))
    print(f"submitted {job.name}", flush=True)
    try:
        client.jobs.stream(job.name)
    except JobException as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            client.jobs.begin_cancel(job.name)
            raise error.__cause__ from None
        # A missed SLA is one of the reasons; what is there is downloaded all the same.
        print(error, file=sys.stderr)
    finally:
        delete_endpoint(client, endpoint)
    client.jobs.download(job.name, download_path=download, all=True)
    return any(download.rglob("report.json"))


def delete_endpoint(client: Any, name: str) -> None:
    """Delete the endpoint where the pipeline itself has not come to it."""
    from azure.core.exceptions import ResourceNotFoundError

    try:
        client.online_endpoints.get(name)
    except ResourceNotFoundError:
        return
    print(f"deleting {name}, which the pipeline has left", file=sys.stderr)
    client.online_endpoints.begin_delete(name).result()


def parse(argv: Sequence[str] | None) -> tuple[re.Match[str], argparse.Namespace]:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Run the pipeline for one SKU and concurrency.")
    parser.add_argument("pair", metavar="SKU:CONCURRENCY", help="for example Standard_F4s_v2:4")
    parser.add_argument("--model", type=Path, default=TEMPLATES / "digits" / "model", help="folder of the model")
    parser.add_argument("--download", type=Path, required=True, help="folder for what the pipeline makes")
    arguments = parser.parse_args(argv)
    pair = PAIR.fullmatch(arguments.pair)
    if pair is None:
        parser.error(f"{arguments.pair!r} is not SKU:CONCURRENCY, such as Standard_F4s_v2:4")
    if not arguments.model.is_dir():
        parser.error(f"{arguments.model}: no such folder; job-templates/digits/README.md tells how the model is made")
    return pair, arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run one pair; returns the exit code."""
    pair, arguments = parse(argv)
    values = variables(pair, os.environ)
    with tempfile.TemporaryDirectory(prefix="pipeline-") as scratch:
        folder = Path(scratch) / "templates"
        folder.mkdir()
        try:
            copy_templates(folder, arguments.model)
            fill(folder, values)
            client = workspace()
        except MissingVariable as error:
            print(f"run_pair: error: {error}", file=sys.stderr)
            return 2
        if run(client, folder, values["ENDPOINT_NAME"], arguments.download):
            return 0
    print(f"run_pair: error: {arguments.pair}: the pipeline has made no report", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
