"""What the optimizer runs in: its execution providers, and the packages that the user's code adds."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from aml_tool_core import InputError, ToolError, outputs, processes

# What the optimizer's own search depends on: a user's requirements may add to it, never move it.
PINNED = (
    "aml-olive-optimizer",
    "olive-ai",
    "onnxruntime-openvino",
    "torch",
    "transformers",
    "huggingface_hub",
    "datasets",
    "onnx",
    "numpy",
    "protobuf",
    "pydantic",
    "psutil",
    "optuna",
)
_LARGE_BYTES = 16 << 20
_CLASHING = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml")

log = logging.getLogger("aml_olive_optimizer")


def available_providers() -> list[str]:
    """Return ONNX Runtime's execution providers. Raises ToolError where there is no sound ONNX Runtime."""
    clashing = [name for name in _CLASHING if _version(name)]
    if clashing and _version("onnxruntime-openvino"):
        raise ToolError(
            f"{clashing[0]} is installed beside onnxruntime-openvino and disables OpenVINO; uninstall both, then "
            "install onnxruntime-openvino again"
        )
    if importlib.util.find_spec("onnxruntime") is None:
        raise ToolError(
            "onnxruntime is not installed; install the optimizer with its extra, aml-olive-optimizer[search]"
        )
    import onnxruntime

    return [str(name) for name in onnxruntime.get_available_providers()]


def check_providers(wanted: Sequence[str], source: str) -> None:
    """Raise InputError when an execution provider that a configuration asks for is not there."""
    available = available_providers()
    missing = [name for name in wanted if name not in available]
    if missing:
        raise InputError(
            f"{source}: execution provider {', '.join(missing)}: not in this environment, which has "
            f"{', '.join(sorted(available))}; remove it, or use an image that has it"
        )


def install_requirements(code: Path, constraints: Path) -> None:
    """Install the requirements.txt of the user's code, if any, without moving any of the optimizer's own pins.

    Raises ToolError with pip's reason.
    """
    file = code / "requirements.txt"
    if not file.is_file():
        return
    pinned = [f"{name}=={version}" for name, version in pins().items()]
    outputs.write_text(constraints, "".join(f"{line}\n" for line in pinned))
    log.info("installing %s", file)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
    # As requirements too: what a mere constraint needs itself (transformers its tokenizers, say) pip would move.
    with processes.running(
        [*command, "--constraint", str(constraints), "--requirement", str(file), *pinned],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as pip:
        assert pip.stderr is not None
        said = pip.stderr.read().decode(errors="replace")
        if pip.wait() != 0:
            lines = [line for line in said.splitlines() if line.startswith("ERROR")] or said.splitlines() or ["?"]
            raise ToolError(
                f"{file}: cannot be installed beside the optimizer's own packages: {lines[0].removeprefix('ERROR: ')}; "
                "loosen the requirement"
            )


def pins() -> dict[str, str]:
    """Return the installed versions of what must not move."""
    found = {name: _version(name) for name in PINNED}
    return {name: version for name, version in found.items() if version}


def fingerprint(parts: Sequence[str], paths: Sequence[Path], leave_out: Sequence[Path] = ()) -> str:
    """Return what cached measurements depend on, as a short name: texts, and files alone or in folders.

    Olive caches what it measured by the model's own file alone: other external weights, another metric, another user
    script or another machine would get the old figures. So the cache is kept apart by all of these. `leave_out` are
    folders that the tool itself writes to, which may lie within the user's.
    """
    digest = hashlib.sha256()
    machine = f"{platform.machine()} {_processor()} {os.cpu_count()}"
    for part in (*parts, machine, *(f"{name}={version}" for name, version in sorted(pins().items()))):
        digest.update(part.encode() + b"\0")
    for path in paths:
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            relative = file.relative_to(path if path.is_dir() else path.parent)
            hidden = any(name == "__pycache__" or name.startswith(".") for name in relative.parts)
            if hidden or not file.is_file() or any(file.resolve().is_relative_to(folder) for folder in leave_out):
                continue
            found = file.stat()
            digest.update(f"{relative} {found.st_size}".encode())
            # Scripts by their content; what would take long to read by when it was written.
            is_large = found.st_size > _LARGE_BYTES
            digest.update(str(found.st_mtime_ns).encode() if is_large else file.read_bytes())
    return digest.hexdigest()[:12]


def worker_environment(base: Mapping[str, str], *, code: Path | None, temporary: Path, cache: Path) -> dict[str, str]:
    """Return the environment variables of the search's process."""
    paths = [str(code)] if code else []
    return {
        **base,
        "PYTHONPATH": os.pathsep.join([*paths, *filter(None, [base.get("PYTHONPATH")])]),
        # A __pycache__ in the user's folder would change the model's identity, and with it what the cache knows.
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(temporary),
        "TOKENIZERS_PARALLELISM": "false",
        "AML_OLIVE_OPTIMIZER_CACHE": str(cache),
        "AML_OLIVE_OPTIMIZER_CODE": str(code or Path.cwd()),
    }


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
