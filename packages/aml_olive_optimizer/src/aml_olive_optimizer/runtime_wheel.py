"""The runtime that the candidates were measured with, as a wheel made from its own installation: no index is asked."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.metadata
import io
import os
import sys
import zipfile
from pathlib import Path, PurePosixPath

from aml_tool_core import ToolError
from aml_tool_core.outputs import atomic_file

DISTRIBUTION = "onnxruntime-openvino"
# What an installer writes, not the wheel: PEP 376, PEP 610, and pip's own mark.
_INSTALLERS_OWN = {"INSTALLER", "REQUESTED", "direct_url.json", "RECORD"}


def folder(otherwise: Path) -> Path:
    """Return where such wheels are kept: where an image has it already, else the user's cache, else `otherwise`."""
    given = os.environ.get("AML_OLIVE_OPTIMIZER_WHEELS")
    if given:
        return Path(given)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "aml_olive_optimizer"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        return otherwise  # a container's user may have no home
    return cache if os.access(cache, os.W_OK) else otherwise


def repack(kept_in: Path, distribution: str = DISTRIBUTION) -> Path:
    """Return the wheel of an installed distribution, made in `kept_in` unless it is there already.

    The files are those of the installation's RECORD; a new RECORD is written for them. Raises ToolError where a file of
    the installation is missing or changed, because then it would not be what was measured.
    """
    installed = importlib.metadata.distribution(distribution)
    tags = _tags(installed)
    target = kept_in / f"{installed.name.replace('-', '_')}-{installed.version}-{tags}.whl"
    if target.is_file():
        return target
    with (
        atomic_file(target) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out,
    ):
        record = []
        info = ""
        # Not `installed.files`: that passes over files that are missing.
        for name, recorded, *_ in csv.reader((installed.read_text("RECORD") or "").splitlines()):
            path = PurePosixPath(name)
            if _left_out(path):
                continue
            file = Path(str(installed.locate_file(name)))
            try:
                content = file.read_bytes()
            except FileNotFoundError:
                raise ToolError(f"{file}: is missing from {distribution}; install it again") from None
            digest = _hash(content)
            if recorded.startswith("sha256=") and recorded != f"sha256={digest}":
                raise ToolError(f"{file}: is not what {distribution} installed; install it again")
            if path.parts[0].endswith(".dist-info"):
                info = path.parts[0]
            entry = zipfile.ZipInfo(str(path), (1980, 1, 1, 0, 0, 0))  # the same wheel from the same installation
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o755 if os.access(file, os.X_OK) else 0o644) << 16
            out.writestr(entry, content)
            record.append((str(path), f"sha256={digest}", str(len(content))))
        record.append((f"{info}/RECORD", "", ""))
        rows = io.StringIO()
        csv.writer(rows, lineterminator="\n").writerows(record)
        out.writestr(zipfile.ZipInfo(f"{info}/RECORD", (1980, 1, 1, 0, 0, 0)), rows.getvalue())
    return target


def _left_out(path: PurePosixPath) -> bool:
    # Scripts lie outside the package (../../bin/...) and are made anew from entry_points.txt by whoever installs.
    own = path.parent.name.endswith(".dist-info") and path.name in _INSTALLERS_OWN
    return own or path.parts[0] == ".." or "__pycache__" in path.parts


def _tags(installed: importlib.metadata.Distribution) -> str:
    lines = (installed.read_text("WHEEL") or "").splitlines()
    tags = [line.partition(":")[2].strip() for line in lines if line.startswith("Tag:")]
    # Several tags (manylinux_2_27 and _2_28, say) differ in their platform alone: joined by dots, as in PEP 425.
    python, abi, _ = tags[0].split("-", 2)
    return f"{python}-{abi}-{'.'.join(tag.split('-', 2)[2] for tag in tags)}"


def _hash(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


if __name__ == "__main__":
    # Done once when an image is built, so that no run pays for it: python -m aml_olive_optimizer.runtime_wheel FOLDER
    print(repack(Path(sys.argv[1])))
