"""Find the `metronome` load generator that this distribution installed."""

from __future__ import annotations

import shutil
import sysconfig
from importlib.metadata import version
from pathlib import Path

__all__ = ["__version__", "binary_path"]

__version__ = version("metronome")


def binary_path() -> Path:
    """Return the program's path: beside this Python's own scripts, else on PATH.

    Raises FileNotFoundError where neither has it.
    """
    for scheme in (None, *sysconfig.get_scheme_names()):
        folder = sysconfig.get_path("scripts") if scheme is None else sysconfig.get_path("scripts", scheme)
        candidate = Path(folder) / "metronome"
        if candidate.is_file():
            return candidate
    found = shutil.which("metronome")
    if found is None:
        raise FileNotFoundError("metronome: neither in this Python's scripts folder nor on PATH; reinstall the package")
    return Path(found)
