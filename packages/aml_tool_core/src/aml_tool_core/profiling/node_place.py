"""Which of a job's nodes this is and where node 0 listens, from the variables that AzureML sets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from aml_tool_core import logs
from aml_tool_core.errors import InputError
from aml_tool_core.profiling import rendezvous

# AzureML's variables. PyTorch: https://pytorch.org/docs/stable/distributed.html, "Environment variable initialization".
# MPI: Open MPI's own, and AzureML's for where node 0 is ("ADDRESS:PORT").
_PYTORCH = ("RANK", "WORLD_SIZE")
_MPI = ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE")
_MPI_MASTER = ("AZ_BATCH_MASTER_NODE", "AZ_BATCHAI_MPI_MASTER_NODE")
_JOB = "AZUREML_RUN_ID"
DEFAULT_PORT = 6105
# Ours: how long nodes wait for one another (their images come down at different speeds), and a secret of the job's own.
WAIT_VARIABLE = "AML_PROFILER_NODES_WAIT_SEC"
SECRET_VARIABLE = "AML_PROFILER_NODES_SECRET"
WAIT_SEC = 600.0


@dataclass(frozen=True)
class Place:
    """Which of how many nodes this is, and where node 0 listens."""

    rank: int
    count: int
    host: str
    port: int
    wait_sec: float = WAIT_SEC
    secret: bytes = field(default=b"", repr=False)


def place_of(environment: Mapping[str, str]) -> Place | None:
    """Return this node's place in its job; None where the job has one node. Raises InputError where it is unclear."""
    names = next((pair for pair in (_PYTORCH, _MPI) if all(name in environment for name in pair)), None)
    if names is None:
        return None
    rank, count = (_whole(environment, name) for name in names)
    if count < 2:
        return None
    if rank >= count:
        raise InputError(f"{names[0]}: {rank} is not one of the ranks 0 to {count - 1} of {names[1]}={count}")
    host, port = _master(environment)
    wait = environment.get(WAIT_VARIABLE, str(WAIT_SEC))
    try:
        wait_sec = float(wait)
    except ValueError:
        wait_sec = math.nan
    if not 0 < wait_sec < math.inf:
        raise InputError(f"{WAIT_VARIABLE}: {wait!r} is not a number of seconds above 0")
    return Place(rank, count, host, port, wait_sec, _secret(environment, count))


def _secret(environment: Mapping[str, str], count: int) -> bytes:
    """Return what the nodes sign with: the job's id, which its workspace can see, and the secret where one is set."""
    job, own = environment.get(_JOB, ""), environment.get(SECRET_VARIABLE, "")
    logs.hide(own)
    if not job and not own:
        raise InputError(
            f"{_JOB} and {SECRET_VARIABLE}: neither is set, so anybody could join; AzureML sets the first, elsewhere "
            "set the second, alike on all nodes"
        )
    return rendezvous.secret_of(job, own, str(count))


def _whole(environment: Mapping[str, str], name: str) -> int:
    text = environment[name]
    if not text.isdecimal():
        raise InputError(f"{name}: {text!r} is not a whole number; AzureML sets it on every node of a distributed job")
    return int(text)


def _master(environment: Mapping[str, str]) -> tuple[str, int]:
    """Return where node 0 is."""
    host, port = environment.get("MASTER_ADDR", ""), environment.get("MASTER_PORT", "")
    if not host:
        told = next((environment[name] for name in _MPI_MASTER if environment.get(name)), "")
        host, told_port = _split(told)
        port = port or told_port
    if not host:
        raise InputError(
            "MASTER_ADDR: missing, so this node does not know where node 0 is; submit the job with "
            "distribution: {type: pytorch}, which sets it"
        )
    if port and not (port.isdecimal() and 0 < int(port) < 65536):
        raise InputError(f"MASTER_PORT: {port!r} is not a port")
    return host.strip("[]"), int(port or DEFAULT_PORT)


def _split(told: str) -> tuple[str, str]:
    """Split `ADDRESS:PORT`; an IPv6 address is in brackets there, and one without them has no port."""
    if told.startswith("["):
        host, _, port = told.partition("]")
        return host, port.removeprefix(":")
    host, _, port = told.partition(":")
    return (told, "") if ":" in port else (host, port)
