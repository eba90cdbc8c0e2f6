"""Finished runs on disk: gone on with, or not, and why."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from aml_tool_core import InputError
from aml_tool_core.profiling import checkpoint
from aml_tool_core.profiling.checkpoint import Checkpoint, Measured, opened

from tests.unit.aml_tool_core_profiling.made_runs import POINT, result_of

MADE_FROM = {"the configuration": "a", "the payload": "b", "the target": "c"}
LOG = logging.getLogger("tests")
NOW = datetime(2026, 3, 14, 9, 26, 53, 589793, timezone.utc)


def measured(rate: float = 100.0) -> Measured:
    return Measured(result_of(rate, failed=3, refused=2), NOW, NOW + timedelta(seconds=10))


def points(count: int) -> list[float]:
    return [100.0 * (number + 1) for number in range(count)]


def fill(kept: Checkpoint, count: int) -> None:
    for rate in points(count):
        kept.keep(replace(POINT, target_rps=rate), 1, measured(rate))


def again(kept: Checkpoint, count: int) -> list[Measured | None]:
    return [kept.recorded(replace(POINT, target_rps=rate), 1) for rate in points(count)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "outputs" / checkpoint.FOLDER


def test_what_was_measured_comes_back_to_the_letter(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(opened(folder, MADE_FROM, None, LOG), 3)
    with caplog.at_level(logging.INFO):
        found = again(opened(folder, MADE_FROM, None, LOG), 4)
    assert found == [measured(rate) for rate in points(3)] + [None]
    assert "going on after 3 finished runs" in caplog.text


def test_it_goes_on_behind_what_is_there(folder: Path) -> None:
    fill(opened(folder, MADE_FROM, None, LOG), 2)
    kept = opened(folder, MADE_FROM, None, LOG)
    again(kept, 2)
    kept.keep(replace(POINT, target_rps=300.0), 1, measured(300.0))
    assert kept.count == 3
    assert again(opened(folder, MADE_FROM, None, LOG), 3) == [measured(rate) for rate in points(3)]


@pytest.mark.parametrize("changed", sorted(MADE_FROM))
def test_another_input_starts_anew_and_says_which(folder: Path, changed: str, caplog: pytest.LogCaptureFixture) -> None:
    fill(opened(folder, MADE_FROM, None, LOG), 2)
    with caplog.at_level(logging.INFO):
        kept = opened(folder, {**MADE_FROM, changed: "z"}, None, LOG)
    assert again(kept, 1) == [None]
    assert f"starting anew: {changed} changed since" in caplog.text
    assert sorted(path.name for path in folder.iterdir()) == [checkpoint.STATE_NAME]


def test_a_finished_measurement_is_made_again(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = opened(folder, MADE_FROM, None, LOG)
    fill(kept, 2)
    kept.finish()
    assert len(list(folder.glob("0*.json"))) == 2, "its runs stay for whoever wants them"
    with caplog.at_level(logging.INFO):
        assert again(opened(folder, MADE_FROM, None, LOG), 1) == [None]
    assert "that measurement is finished" in caplog.text


def test_a_damaged_run_is_measured_again(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(opened(folder, MADE_FROM, None, LOG), 2)
    (folder / "0002.json").write_text('{"point": ', encoding="utf-8")
    assert again(opened(folder, MADE_FROM, None, LOG), 2) == [measured(100.0), None]
    assert "0002.json: cannot be used" in caplog.text


def test_a_run_of_another_load_is_not_taken_for_this_one(folder: Path) -> None:
    fill(opened(folder, MADE_FROM, None, LOG), 1)
    kept = opened(folder, MADE_FROM, None, LOG)
    assert kept.recorded(replace(POINT, target_rps=101.0), 1) is None
    assert kept.recorded(POINT, 2) is None
    assert kept.recorded(POINT, 1) == measured()


def test_a_damaged_state_starts_anew(folder: Path) -> None:
    fill(opened(folder, MADE_FROM, None, LOG), 1)
    (folder / checkpoint.STATE_NAME).write_text("[]", encoding="utf-8")
    assert again(opened(folder, MADE_FROM, None, LOG), 1) == [None]


@pytest.mark.parametrize("given", [".", "runs", "outputs/.."])
def test_runs_are_brought_from_another_machine(folder: Path, tmp_path: Path, given: str) -> None:
    fill(opened(folder, MADE_FROM, None, LOG), 2)
    there = tmp_path / "elsewhere"
    shutil.copytree(folder.parent, there / "outputs" if given == "outputs/.." else there)
    shutil.rmtree(folder.parent)
    resume = there if given == "outputs/.." else there / given
    assert again(opened(folder, MADE_FROM, resume, LOG), 3) == [measured(100.0), measured(200.0), None]
    assert sorted(path.name for path in folder.glob("0*.json")) == ["0001.json", "0002.json"], "they are here now"


def test_what_was_brought_and_does_not_fit_is_bad_input(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    fill(opened(other, {**MADE_FROM, "the payload": "z"}, None, LOG), 3)
    fill(opened(folder, MADE_FROM, None, LOG), 1)
    with pytest.raises(InputError, match=r"--resume_path: .*: cannot be gone on with: the payload changed since"):
        opened(folder, MADE_FROM, other, LOG)
    assert again(opened(folder, MADE_FROM, None, LOG), 2) == [measured(100.0), None], "nothing was touched"


def test_what_was_brought_and_is_finished_is_bad_input(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    kept = opened(other, MADE_FROM, None, LOG)
    fill(kept, 3)
    kept.finish()
    with pytest.raises(InputError, match="that measurement is finished"):
        opened(folder, MADE_FROM, other, LOG)


def test_the_same_command_a_second_time_keeps_what_was_measured_since(folder: Path, tmp_path: Path) -> None:
    """Three runs are brought, four more are made, the job is interrupted and started again as it was."""
    brought = tmp_path / "brought"
    fill(opened(brought, MADE_FROM, None, LOG), 3)
    kept = opened(folder, MADE_FROM, brought, LOG)
    again(kept, 3)
    for rate in points(7)[3:]:
        kept.keep(replace(POINT, target_rps=rate), 1, measured(rate))
    assert again(opened(folder, MADE_FROM, brought, LOG), 8) == [measured(rate) for rate in points(7)] + [None]


def test_what_was_brought_is_known_to_be_so_once(folder: Path, tmp_path: Path) -> None:
    brought = tmp_path / "brought"
    fill(opened(brought, MADE_FROM, None, LOG), 2)
    assert opened(folder, MADE_FROM, brought, LOG).taken_over
    assert not opened(folder, MADE_FROM, brought, LOG).taken_over, "it is here already"
    assert not opened(brought, MADE_FROM, brought, LOG).taken_over
    assert not opened(folder, MADE_FROM, None, LOG).taken_over


def test_what_was_brought_replaces_less_or_something_else(folder: Path, tmp_path: Path) -> None:
    brought = tmp_path / "brought"
    fill(opened(brought, MADE_FROM, None, LOG), 3)
    fill(opened(folder, MADE_FROM, None, LOG), 1)
    assert again(opened(folder, MADE_FROM, brought, LOG), 4) == [measured(rate) for rate in points(3)] + [None]
    fill(opened(folder, {**MADE_FROM, "the payload": "z"}, None, LOG), 5)
    assert again(opened(folder, MADE_FROM, brought, LOG), 4) == [measured(rate) for rate in points(3)] + [None]


def test_a_folder_without_runs_is_bad_input(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--resume_path: .*: holds no state.json"):
        opened(folder, MADE_FROM, tmp_path, LOG)


def test_without_a_folder_nothing_is_kept(tmp_path: Path) -> None:
    kept = Checkpoint(None)
    kept.keep(POINT, 1, measured())
    kept.finish()
    assert kept.recorded(POINT, 1) is None
    assert kept.count == 0
    assert list(tmp_path.iterdir()) == []


def test_the_files_name_no_secret_and_say_what_they_were_made_from(folder: Path) -> None:
    fill(opened(folder, MADE_FROM, None, LOG), 1)
    assert json.loads((folder / checkpoint.STATE_NAME).read_text())["made_from"] == MADE_FROM
    assert set(json.loads((folder / "0001.json").read_text())) == {
        "point", "repeat", "started_at", "ended_at", "result",
    }  # fmt: skip
