"""Sizes of virtual machines: a table of Azure's own, shipped as data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True)
class VmSize:
    """One size as `vmSizes` lists it."""

    name: str
    family: str
    vcpus: int
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
    """Return a size by its name, in any case."""
    return vm_sizes().get(name.lower())
