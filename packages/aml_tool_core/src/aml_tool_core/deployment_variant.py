"""What a variant of a deployment sets, and where that stands in AzureML's YAML: shared by who deploys and who tunes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

SCHEMA = "deployment_variant"
VARIABLES = "environment_variables"
CANDIDATE = "candidate"
ENDPOINT_NAME = "endpoint_name"
CANDIDATE_FILE = "{accelerator}_BestCandidateModel_{rank}_{file}"
CANDIDATE_PARAMETERS = "inference_config.json"
# Into which of the two files, and under which keys, each setting goes.
_ENDPOINT_KEYS: Mapping[str, tuple[str, ...]] = {ENDPOINT_NAME: ("name",)}
_DEPLOYMENT_KEYS: Mapping[str, tuple[str, ...]] = {
    ENDPOINT_NAME: ("endpoint_name",),
    "deployment_name": ("name",),
    "instance_type": ("instance_type",),
    "instance_count": ("instance_count",),
    "max_concurrent_requests_per_instance": ("request_settings", "max_concurrent_requests_per_instance"),
    "worker_count": (VARIABLES, "WORKER_COUNT"),
    "intra_op_num_threads": (VARIABLES, "INTRA_OP_NUM_THREADS"),
    "inter_op_num_threads": (VARIABLES, "INTER_OP_NUM_THREADS"),
}


def endpoint_values(variant: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    """Return what a variant sets in the endpoint's YAML, by its keys."""
    return {keys: variant[name] for name, keys in _ENDPOINT_KEYS.items() if name in variant}


def deployment_values(variant: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    """Return what a variant sets in the deployment's YAML, by its keys; its own environment variables go last.

    The values of environment variables are text, as Azure wants them.
    """
    found = {keys: variant[name] for name, keys in _DEPLOYMENT_KEYS.items() if name in variant}
    found |= {(VARIABLES, name): value for name, value in variant.get(VARIABLES, {}).items()}
    return {keys: str(value) if keys[0] == VARIABLES else value for keys, value in found.items()}


def candidate_files(folder: Path, wanted: int | str, file: str) -> list[Path]:
    """Return a candidate's file of that name in what the optimizer wrote: one, or one of each accelerator.

    `wanted` is a rank, or ACCELERATOR/RANK.
    """
    accelerator, _, rank = str(wanted).rpartition("/")
    return sorted(folder.glob(CANDIDATE_FILE.format(accelerator=accelerator or "*", rank=rank, file=file)))
