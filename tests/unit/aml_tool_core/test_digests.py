"""A file is known by its content, whatever its size."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from aml_tool_core import InputError
from aml_tool_core.digests import sha256


@pytest.mark.parametrize("content", [b"", b"weights", bytes(range(256)) * 5000])
def test_the_digest_is_that_of_the_whole_content(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    assert sha256(file) == hashlib.sha256(content).hexdigest()


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.onnx: cannot be read: No such file"):
        sha256(tmp_path / "absent.onnx")
