from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from aml_tool_core import InputError, Interrupted, ToolError, logs, outputs
from aml_tool_core.documents import pointer

HOLD = """
import sys, time
from pathlib import Path
from aml_tool_core import outputs
with outputs.alone(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_json_is_validated_before_it_gets_its_name(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "settings.json"
    good = {"version": "1.0", "deployment_settings": {"scoring_uri": "http://127.0.0.1:1/"}}
    outputs.write_json(path, good, "deployment_settings")
    assert json.loads(path.read_text()) == good
    with pytest.raises(RuntimeError, match="violates its schema"):
        outputs.write_json(path, {"version": "1.0"}, "deployment_settings")
    assert json.loads(path.read_text()) == good, "the earlier output is still whole"
    assert [entry.name for entry in path.parent.iterdir()] == ["settings.json"]


def test_nan_never_reaches_a_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        outputs.write_json(tmp_path / "x.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_outputs_are_readable_by_others(tmp_path: Path) -> None:
    outputs.write_text(tmp_path / "x", "x")
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) & 0o444 == 0o444


def test_a_folder_replaces_the_former_one_whole(tmp_path: Path) -> None:
    target = tmp_path / "models"
    for content in ("first", "second"):
        with outputs.atomic_folder(target) as folder:
            (folder / content).write_text(content)
    assert [entry.name for entry in target.iterdir()] == ["second"]
    with pytest.raises(ZeroDivisionError), outputs.atomic_folder(target) as folder:
        (folder / "third").write_text("half")
        raise ZeroDivisionError
    assert [entry.name for entry in target.iterdir()] == ["second"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["models"]


def test_a_place_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ToolError, match="cannot be made"):
        outputs.write_text(tmp_path / "file" / "x", "x")


@pytest.mark.parametrize("atomic", [outputs.atomic_file, outputs.atomic_folder])
def test_a_folder_that_takes_nothing_new_says_so(atomic: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The file system's refusal is simulated, because root may write everywhere."""

    def refuse(**_: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with (
        pytest.raises(ToolError, match=r"report\.json: cannot be written: Permission denied"),
        atomic(tmp_path / "report.json"),
    ):
        pytest.fail("there is nothing to write to")


def test_a_former_folder_stands_again_when_the_new_one_cannot_be_moved(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    target = tmp_path / "models"
    with outputs.atomic_folder(target) as folder:
        (folder / "first").write_text("first")
    move = os.replace

    def interrupted_second_move(source: Path, destination: Path) -> None:
        if destination == target and (source / "second").exists():
            raise Interrupted(signal.SIGINT)
        move(source, destination)

    monkeypatch.setattr(os, "replace", interrupted_second_move)
    with pytest.raises(Interrupted), outputs.atomic_folder(target) as folder:
        (folder / "second").write_text("second")
    assert [entry.name for entry in target.iterdir()] == ["first"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["models"]


def test_secrets_are_hidden() -> None:
    logs.hide("s3cr3t-key")
    said = logs.redacted("key s3cr3t-key, Bearer abc.def-ghi_jkl, https://x/y?sv=1&sig=AbC%2F&se=2")
    assert said == "key ***, Bearer ***, https://x/y?sv=1&sig=***&se=2"


def test_a_web_token_is_hidden_wherever_it_stands() -> None:
    said = logs.redacted('{"access_token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl_-x", "eyJ": 1}')
    assert said == '{"access_token": "***", "eyJ": 1}'


def test_pointer_escapes() -> None:
    assert pointer(["a/b", 0, "c~d"]) == "/a~1b/0/c~0d"


def test_two_tools_in_one_folder_are_one_too_many(tmp_path: Path) -> None:
    folder = tmp_path / "outputs"
    first = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout is not None and first.stdout.readline() == "held\n"
        with (
            pytest.raises(ToolError, match=r"outputs: another tool is at work in this folder"),
            outputs.alone(folder),
        ):
            pytest.fail("both are in")
        os.kill(first.pid, signal.SIGKILL)
        first.wait(timeout=60)
        with outputs.alone(folder):  # it ends with the process
            pass
        with outputs.alone(folder):
            pass
        assert list(folder.iterdir()) == []
    finally:
        first.kill()
        first.communicate()


def test_a_failure_leaves_no_empty_folder(tmp_path: Path) -> None:
    folder = tmp_path / "outputs"
    with pytest.raises(InputError), outputs.alone(folder):
        raise InputError("no")
    assert not folder.exists()
