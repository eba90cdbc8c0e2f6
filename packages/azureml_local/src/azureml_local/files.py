"""Atomic writes with explicit permissions."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any


def write_atomic(path: Path, data: str | bytes, mode: int = 0o600) -> None:
    """Replace `path` with `data`; a reader sees the old content or the new, never a part."""
    raw = data.encode() if isinstance(data, str) else data
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(raw)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any, mode: int = 0o600) -> None:
    """Write `value` as JSON, atomically."""
    write_atomic(path, json.dumps(value, indent=1, sort_keys=True) + "\n", mode)


def make_private_dir(path: Path) -> Path:
    """Create `path` for its owner alone, and say where it is."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def tail_lines(path: Path, count: int, limit_bytes: int = 4 * 1024 * 1024) -> str:
    """Return the last `count` lines of a text file, looking at its last `limit_bytes` at most."""
    if not path.exists():
        return ""
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - limit_bytes))
        lines = stream.read().decode("utf-8", "replace").splitlines()
    return "\n".join(lines[-count:]) if count > 0 else ""
