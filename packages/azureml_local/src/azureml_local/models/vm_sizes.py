"""Sizes of virtual machines: a table of Azure's own, shipped as data."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

# Sizes of nobody's but this plane's, to imitate a device: Local_0.5vCPU_256MiB, Local_2vCPU_3.5GiB.
LOCAL = re.compile(r"Local_(?P<vcpus>\d+(\.\d+)?)vCPU_(?P<memory>\d+(\.\d+)?)(?P<unit>MiB|GiB)", re.IGNORECASE)
LOCAL_FAMILY = "local"
# A scoring server does not even start in less memory; a smaller share of a CPU is a share of nothing.
LEAST_VCPUS = 0.05
LEAST_MEMORY_GIB = 64 / 1024


@dataclass(frozen=True)
class VmSize:
    """One size as `vmSizes` lists it; only a local size has a fraction of a vCPU."""

    name: str
    family: str
    vcpus: float
    memory_gib: float
    gpus: int


@cache
def vm_sizes() -> dict[str, VmSize]:
    """Return all known sizes by their name in lower case."""
    text = resources.files("azureml_local").joinpath("data/vm_sizes.json").read_text(encoding="utf-8")
    sizes = [
        VmSize(f"Standard_{name}", family["family"], vcpus, memory_gib, gpus)
        for family in json.loads(text)["families"]
        for name, vcpus, memory_gib, gpus in family["sizes"]
    ]
    return {size.name.lower(): size for size in sizes}


def find_vm_size(name: str) -> VmSize | None:
    """Return a size by its name, in any case: one of Azure's or one of this plane's own."""
    return vm_sizes().get(name.lower()) or _local_size(name)


def _local_size(name: str) -> VmSize | None:
    match = LOCAL.fullmatch(name)
    if match is None:
        return None
    unit = "MiB" if match["unit"].lower() == "mib" else "GiB"
    vcpus, memory_gib = float(match["vcpus"]), float(match["memory"]) / (1024 if unit == "MiB" else 1)
    if vcpus < LEAST_VCPUS or memory_gib < LEAST_MEMORY_GIB:
        return None
    canonical = f"Local_{match['vcpus']}vCPU_{match['memory']}{unit}"
    return VmSize(canonical, LOCAL_FAMILY, vcpus, memory_gib, 0)
