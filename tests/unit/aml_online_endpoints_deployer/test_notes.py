"""Notes of earlier runs are kept, under names that stay in the folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from aml_online_endpoints_deployer import notes
from aml_tool_core import ToolError
from aml_tool_core.azure.traffic import Move, Shares
from aml_tool_core.azure.workspace import Workspace

WORKSPACE = Workspace("s", "g", "w")


def test_what_a_run_moves_is_in_the_note_that_the_next_continues(tmp_path: Path) -> None:
    note = notes.open_note(tmp_path, WORKSPACE, "e", "blue")
    assert note.move is None
    note.write()
    move = Move(Shares({"old": 100}, {"red": 5}), Shares({"blue": 100}, {}))
    note.write(move)
    found = notes.open_note(tmp_path, WORKSPACE, "e", "blue")
    assert (found.left_earlier, found.run, found.move) == (True, note.run, move)
    other = notes.open_note(tmp_path, WORKSPACE, "e", "green")
    assert (other.left_earlier, other.move) == (False, None)
    assert other.run != note.run
    (aside,) = tmp_path.iterdir()
    assert aside.name == f"deployment_settings.partial.{note.run}.json"


def settings(folder: Path, endpoint_name: str) -> Path:
    path = folder / "deployment_settings.json"
    named = {"endpoint_name": endpoint_name, "deployment_name": "blue"}
    path.write_text(json.dumps({"version": "1.0", "deployment_settings": named}))
    return path


@pytest.mark.parametrize("name", ["../../elsewhere", "a/b", "." * 300])
def test_a_name_from_a_file_stays_in_the_folder(name: str, tmp_path: Path) -> None:
    path = settings(tmp_path, name)
    aside = notes.set_aside(tmp_path)
    assert aside is not None and aside.parent == tmp_path and aside.exists() and not path.exists()


def test_settings_that_cannot_be_moved_are_told(tmp_path: Path) -> None:
    settings(tmp_path, "e")
    (notes.earlier(tmp_path, "e", "blue") / "in the way").mkdir(parents=True)
    with pytest.raises(ToolError, match=r"deployment_settings.json: an earlier run's, cannot be moved aside: "):
        notes.set_aside(tmp_path)
