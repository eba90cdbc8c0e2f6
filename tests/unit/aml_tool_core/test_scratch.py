"""A temporary folder is private and goes; a file system that takes none is no defect of the tool."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from aml_tool_core import ToolError
from aml_tool_core.scratch import scratch_folder


def test_it_is_private_and_goes_with_all_that_is_in_it(tmp_path: Path) -> None:
    with scratch_folder("of-a-test-", tmp_path) as folder:
        (folder / "file").write_text("x")
        assert (folder.parent, folder.stat().st_mode & 0o777) == (tmp_path, 0o700)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_has_left_is_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    script = (
        "import os, signal\n"
        "from aml_tool_core.scratch import scratch_folder\n"
        "with scratch_folder('t-') as folder:\n"
        "    (folder / 'key').write_text('secret')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=False)
    (left,) = tmp_path.glob("t-*/key")
    with scratch_folder("t-") as held:
        assert left.exists(), "so young a folder may be of a process that has only just begun"
        for folder in (left.parent, held):
            os.utime(folder, (1, 1))
        (tmp_path / "t-file").write_text("")
        os.utime(tmp_path / "t-file", (1, 1))
        with scratch_folder("t-"):
            assert not left.parent.exists()
            assert held.exists(), "its process is at work"
            assert (tmp_path / "t-file").exists()


def test_where_none_can_be_made_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not-there"))
    with pytest.raises(ToolError, match=r"the temporary folder: .*; .* TMPDIR"), scratch_folder("t-"):
        pass
    with (
        pytest.raises(ToolError, match=r"not-there: cannot be written: .*choose another folder"),
        scratch_folder("t-", tmp_path / "not-there"),
    ):
        pass


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_where_no_room_is_left_the_remedy_is_told(code: int, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="free space"), scratch_folder("t-", tmp_path):
        raise OSError(code, os.strerror(code))
    assert list(tmp_path.iterdir()) == []


def test_any_other_error_within_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), scratch_folder("t-", tmp_path) as folder:
        (folder / "not-there").read_text()
