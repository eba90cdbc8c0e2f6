"""Finished runs on disk: gone on with, or not, and why."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from aml_tool_core import InputError
from aml_tool_core.profiling import checkpoint
from aml_tool_core.profiling.checkpoint import Checkpoint, Identity, Measured, identity_of, opened
from aml_tool_core.profiling.engine import Plan
from aml_tool_core.profiling.payload import Payload
from aml_tool_core.profiling.target import target_of
from aml_tool_core.profiling.watch import Watch

from tests.unit.aml_tool_core_profiling.made_runs import POINT, load_of, result_of

MADE_FROM: checkpoint.Facts = {"the configuration": "a", "the payload": "b", "the target": "c"}
KNOWN: checkpoint.Facts = {**MADE_FROM, "the target": {"address": "c", "model_sha256": "m"}}
TARGET = target_of({"scoring_uri": "http://127.0.0.1:1/score"}, "target.json")
LOG = logging.getLogger("tests")
NOW = datetime(2026, 3, 14, 9, 26, 53, 589793, timezone.utc)


def measured(rate: float = 100.0) -> Measured:
    return Measured(result_of(rate, failed=3, refused=2), NOW, NOW + timedelta(seconds=10))


def of(rate: float = 100.0, repeat: int = 1, watch: Watch | None = None, body: bytes = b"{}") -> Identity:
    plan = Plan(TARGET, Payload((body,), "payload.jsonl"), load_of(replace(POINT, target_rps=rate)), "tests/0")
    return identity_of(plan, repeat, watch)


def points(count: int) -> list[float]:
    return [100.0 * (number + 1) for number in range(count)]


def fill(kept: Checkpoint, count: int) -> None:
    for rate in points(count):
        kept.keep(of(rate), measured(rate))


def again(kept: Checkpoint, count: int) -> list[Measured | None]:
    return [kept.recorded(of(rate)) for rate in points(count)]


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
    kept.keep(of(300.0), measured(300.0))
    assert kept.count == 3
    assert again(opened(folder, MADE_FROM, None, LOG), 3) == [measured(rate) for rate in points(3)]


@pytest.mark.parametrize("changed", ["the payload", "the target"])
def test_another_input_starts_anew_and_says_which(folder: Path, changed: str, caplog: pytest.LogCaptureFixture) -> None:
    fill(opened(folder, MADE_FROM, None, LOG), 2)
    with caplog.at_level(logging.INFO):
        kept = opened(folder, {**MADE_FROM, changed: "z"}, None, LOG)
    assert again(kept, 1) == [None]
    assert f"starting anew: {changed} changed since; its 2 finished run(s) are now in" in caplog.text
    assert sorted(path.name for path in folder.iterdir()) == [checkpoint.STATE_NAME]
    aside = folder.parent / "runs_before_1"
    assert again(opened(aside, MADE_FROM, None, LOG), 2) == [measured(rate) for rate in points(2)], "nothing is lost"


@pytest.mark.parametrize(("made_from", "finished"), [(MADE_FROM, False), (KNOWN, False), (KNOWN, True)])
def test_another_list_of_loads_keeps_the_runs_of_a_load_that_is_in_both(
    folder: Path, made_from: checkpoint.Facts, finished: bool, caplog: pytest.LogCaptureFixture
) -> None:
    kept = opened(folder, made_from, None, LOG)
    fill(kept, 3)
    if finished:
        kept.finish()
    longer = {**made_from, "the configuration": "z"}
    with caplog.at_level(logging.INFO):
        kept = opened(folder, longer, None, LOG)
    assert "going on instead of starting anew: the configuration changed since; of its 3 finished runs" in caplog.text
    assert kept.taken_over, "what the nodes said of them is of another order"
    assert [kept.recorded(of(rate)) for rate in (300.0, 150.0, 100.0)] == [measured(300.0), None, measured(100.0)]
    kept.keep(of(150.0), measured(150.0))
    assert kept.count == 3 and kept.on_disk == 4
    assert kept.reused_words.startswith("2 of 3 runs were made earlier, the oldest ")
    assert kept.reused_words.endswith(" h ago (2026-03-14T09:26:53+00:00)")
    # Back to the first list, and with what was measured for the second: whatever is on disk serves either.
    kept = opened(folder, made_from, None, LOG)
    assert again(kept, 3) == [measured(rate) for rate in points(3)]
    assert kept.recorded(of(150.0)) == measured(150.0)
    assert not list(folder.parent.glob("*before*"))


def test_what_leads_the_list_is_known_by_its_first_gap(folder: Path) -> None:
    kept = opened(folder, MADE_FROM, None, LOG)
    assert kept.leading([of(100.0)]) == 0
    for rate in (100.0, 200.0, 400.0):
        kept.keep(of(rate), measured(rate))
    wanted = [of(rate) for rate in points(5)]
    assert kept.leading(wanted) == 2, "the third point failed"
    assert kept.leading(wanted[:1]) == 1 and kept.leading(wanted[1:]) == 0
    damage(folder / "0001.json", "cut off")
    assert opened(folder, MADE_FROM, None, LOG).leading(wanted) == 0


def test_a_list_of_which_nothing_is_there_starts_anew(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened(folder, MADE_FROM, None, LOG)
    with caplog.at_level(logging.INFO):
        kept = opened(folder, {**MADE_FROM, "the configuration": "z"}, None, LOG)
    assert caplog.messages == [f"{folder}: starting anew: the configuration changed since"]
    assert kept.recorded(of()) is None and kept.reused_words == ""


UNTOLD: dict[str, tuple[checkpoint.Facts, checkpoint.Facts]] = {
    "an address": (MADE_FROM, MADE_FROM),
    "an address and a machine": ({**MADE_FROM, "the target": {"address": "c", "sku": "F2"}},) * 2,
    "a model that is not known any more": (KNOWN, {**KNOWN, "the target": {"address": "c"}}),
    "a model that was not known": ({**KNOWN, "the target": {"address": "c"}}, KNOWN),
}


@pytest.mark.parametrize("changed", ["the configuration", "the payload"])
@pytest.mark.parametrize(("before", "now"), UNTOLD.values(), ids=UNTOLD)
def test_what_was_finished_is_not_mixed_with_what_may_be_another_models(
    folder: Path, before: checkpoint.Facts, now: checkpoint.Facts, changed: str, caplog: pytest.LogCaptureFixture
) -> None:
    first, asked = ({**facts, "the payload": {"small": "1"}} for facts in (before, now))
    changes: checkpoint.Facts = {"the configuration": "z", "the payload": {"small": "1", "large": "2"}}
    longer: checkpoint.Facts = {**asked, changed: changes[changed]}
    kept = opened(folder, first, None, LOG)
    fill(kept, 2)
    kept.finish()
    with caplog.at_level(logging.INFO):
        assert again(opened(folder, longer, None, LOG), 2) == [None, None]
    assert "starting anew: that measurement is finished, and nothing tells whether the same model" in caplog.text
    assert "its 2 finished run(s) are now in" in caplog.text
    # Who knows it may say so.
    kept = opened(folder, longer, folder.parent / "runs_before_1", LOG)
    assert again(kept, 3) == [measured(100.0), measured(200.0), None]


def test_who_says_that_the_target_is_the_same_goes_on_where_the_runs_are(folder: Path) -> None:
    kept = opened(folder, MADE_FROM, None, LOG)
    fill(kept, 2)
    kept.finish()
    longer = {**MADE_FROM, "the configuration": "z"}
    assert again(opened(folder, longer, folder.parent, LOG), 3) == [measured(100.0), measured(200.0), None]
    assert not list(folder.parent.glob("*before*"))


def test_a_payload_class_more_is_a_load_more_and_another_content_is_another_payload(folder: Path) -> None:
    classes: checkpoint.Facts = {**KNOWN, "the payload": {"small": "1"}}
    kept = opened(folder, classes, None, LOG)
    kept.keep(of(body=b"small"), measured())
    kept.finish()
    kept = opened(folder, {**KNOWN, "the payload": {"small": "1", "large": "2"}}, None, LOG)
    assert kept.recorded(of(body=b"large")) is None
    assert kept.recorded(of(body=b"small")) == measured()
    assert opened(folder, {**KNOWN, "the payload": {"small": "3"}}, None, LOG).on_disk == 0


def test_a_machine_that_could_not_be_asked_is_no_other_one(folder: Path) -> None:
    known: checkpoint.Facts = {**MADE_FROM, "the target": {"address": "c", "sku": "F2"}}
    fill(opened(folder, known, None, LOG), 1)
    unknown: checkpoint.Facts = {**MADE_FROM, "the target": {"address": "c"}}
    assert again(opened(folder, unknown, None, LOG), 1) == [measured()]
    assert again(opened(folder, known, None, LOG), 1) == [measured()]
    assert again(opened(folder, {**known, "the target": {"address": "c", "sku": "F4"}}, None, LOG), 1) == [None]


@pytest.mark.parametrize("brought", [False, True])
def test_a_target_that_was_known_stays_so(folder: Path, tmp_path: Path, brought: bool) -> None:
    """Known, then not, as Azure could not be reached, then another one: that is another target."""
    facts: list[checkpoint.Facts] = [
        {**MADE_FROM, "the target": {"address": "c", **known}}
        for known in ({"model_sha256": "m1"}, {}, {"sku": "F2"}, {"model_sha256": "m2"})
    ]
    first, then, more, other = facts
    there = tmp_path / "there" if brought else folder
    fill(opened(there, first, None, LOG), 1)
    kept = opened(folder, then, there if brought else None, LOG)
    assert again(kept, 1) == [measured()]
    kept.keep(of(200.0), measured(200.0))
    kept.finish()
    state = json.loads((folder / checkpoint.STATE_NAME).read_text())
    assert state["made_from"] == first and state["finished"]
    unlike: checkpoint.Facts = {**more, "the configuration": "z"}
    assert again(opened(folder, unlike, folder, LOG), 2) == [measured(100.0), measured(200.0)]
    assert again(opened(folder, other, None, LOG), 1) == [None]
    assert len(list((folder.parent / "runs_before_1").glob("0*.json"))) == 2


def test_payloads_that_are_asked_for_are_those_of_the_last_start(folder: Path) -> None:
    """So the same ones again, when they were finished, are measured anew."""
    several: checkpoint.Facts = {**MADE_FROM, "the payload": {"small": "1", "large": "2"}}
    fewer: checkpoint.Facts = {**MADE_FROM, "the payload": {"small": "1"}}
    kept = opened(folder, several, None, LOG)
    kept.keep(of(), measured())
    kept = opened(folder, fewer, None, LOG)
    assert kept.recorded(of()) == measured()
    kept.finish()
    assert opened(folder, fewer, None, LOG).recorded(of()) is None


def test_a_load_that_was_measured_twice_comes_back_twice_in_order(folder: Path) -> None:
    kept = opened(folder, MADE_FROM, None, LOG)
    kept.keep(of(), measured(100.0))
    kept.keep(of(), measured(101.0))
    kept = opened(folder, MADE_FROM, None, LOG)
    assert [kept.recorded(of()) for _ in range(3)] == [measured(100.0), measured(101.0), None]


def test_a_run_that_was_stopped_is_one_of_what_stopped_it_alone(folder: Path) -> None:
    demands = [Watch({"latency_ms_99": limit}, 1000, 10.0) for limit in (5.0, 50.0)]
    stopped = replace(measured(), result=replace(measured().result, stopped_early="latency_ms_99 cannot keep"))
    kept = opened(folder, MADE_FROM, None, LOG)
    kept.keep(of(watch=demands[0]), stopped)
    kept.keep(of(200.0, watch=demands[0]), measured(200.0))
    kept = opened(folder, {**MADE_FROM, "the configuration": "z"}, None, LOG)
    assert kept.recorded(of(watch=demands[1])) is None and kept.recorded(of()) is None
    assert kept.recorded(of(watch=demands[0])) == stopped
    assert kept.recorded(of(200.0)) == measured(200.0), "made to its end, whoever watched"


def test_a_finished_measurement_is_made_again(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = opened(folder, MADE_FROM, None, LOG)
    fill(kept, 2)
    kept.finish()
    assert len(list(folder.glob("0*.json"))) == 2, "its runs stay for whoever wants them"
    with caplog.at_level(logging.INFO):
        assert again(opened(folder, MADE_FROM, None, LOG), 1) == [None]
    assert "that measurement is finished" in caplog.text
    assert len(list((folder.parent / "runs_before_1").glob("0*.json"))) == 2


DAMAGES: dict[str, Callable[[str], bytes]] = {
    "cut off": lambda text: text[: len(text) // 2].encode(),
    "not UTF-8": lambda text: text.encode() + b"\xff",
    "no latency": lambda text: json.dumps(
        {**json.loads(text), "result": {**json.loads(text)["result"], "latency": None}}
    ).encode(),
    "no load": lambda text: json.dumps({**json.loads(text), "load": None}).encode(),
    "no object": lambda _: b"[]",
}


def damage(path: Path, how: str) -> None:
    path.write_bytes(DAMAGES[how](path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("how", sorted(DAMAGES))
def test_a_damaged_run_is_measured_again(folder: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    fill(opened(folder, MADE_FROM, None, LOG), 3)
    damage(folder / "0002.json", how)
    kept = opened(folder, MADE_FROM, None, LOG)
    assert again(kept, 3) == [measured(100.0), None, measured(300.0)]
    if how != "no load":  # that one is a run, of a load that nobody asks for
        assert "0002.json: cannot be used" in caplog.text
        kept.keep(of(200.0), measured(200.0))
        assert again(opened(folder, MADE_FROM, None, LOG), 3) == [measured(rate) for rate in points(3)]


@pytest.mark.parametrize("how", sorted(set(DAMAGES) - {"no load"}))
def test_damaged_runs_are_neither_taken_over_nor_progress(folder: Path, tmp_path: Path, how: str) -> None:
    brought = tmp_path / "brought"
    fill(opened(brought, MADE_FROM, None, LOG), 3)
    damage(brought / "0003.json", how)
    fill(opened(folder, MADE_FROM, None, LOG), 3)
    for number in (1, 2):
        damage(folder / f"000{number}.json", how)
    kept = opened(folder, MADE_FROM, brought, LOG)
    assert kept.taken_over and again(kept, 3) == [measured(100.0), measured(200.0), None]


def test_a_longer_list_takes_over_what_a_finished_one_brought(folder: Path, tmp_path: Path) -> None:
    brought = tmp_path / "brought"
    kept = opened(brought, MADE_FROM, None, LOG)
    fill(kept, 2)
    kept.finish()
    longer = {**MADE_FROM, "the configuration": "z"}
    kept = opened(folder, longer, brought, LOG)
    assert again(kept, 3) == [measured(100.0), measured(200.0), None]
    kept.keep(of(300.0), measured(300.0))
    assert again(opened(folder, longer, brought, LOG), 3) == [measured(rate) for rate in points(3)]


def test_a_run_of_another_load_is_not_taken_for_this_one(folder: Path) -> None:
    fill(opened(folder, MADE_FROM, None, LOG), 1)
    kept = opened(folder, MADE_FROM, None, LOG)
    assert kept.recorded(of(101.0)) is None
    assert kept.recorded(of(repeat=2)) is None
    assert kept.recorded(of(body=b"[]")) is None
    assert kept.recorded(of()) == measured()


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
        kept.keep(of(rate), measured(rate))
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
    kept.keep(of(), measured())
    kept.finish()
    assert kept.recorded(of()) is None
    assert kept.count == 0 and kept.kept_words == ""
    assert list(tmp_path.iterdir()) == []


def test_the_files_name_no_secret_and_say_what_they_were_made_from(folder: Path) -> None:
    fill(opened(folder, MADE_FROM, None, LOG), 1)
    assert json.loads((folder / checkpoint.STATE_NAME).read_text())["made_from"] == MADE_FROM
    assert set(json.loads((folder / "0001.json").read_text())) == {
        "load", "method", "payload_sha256", "repeat", "watched", "started_at", "ended_at", "result",
    }  # fmt: skip
