"""Files by their content."""

from __future__ import annotations

import hashlib
from pathlib import Path

from aml_tool_core.errors import InputError

_CHUNK_BYTES = 1 << 20


def sha256(file: Path) -> str:
    """Return a file's SHA-256, in hexadecimal, without holding the file in memory. Raises InputError."""
    digest = hashlib.sha256()
    try:
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None
    return digest.hexdigest()
