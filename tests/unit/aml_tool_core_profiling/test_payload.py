"""One request body per line."""

from __future__ import annotations

from pathlib import Path

import pytest
from aml_tool_core import InputError
from aml_tool_core.profiling import payload

JSON = "application/json; charset=utf-8"


def read(tmp_path: Path, text: str, content_type: str = JSON) -> payload.Payload:
    path = tmp_path / "p.jsonl"
    path.write_bytes(text.encode("utf-8"))
    return payload.read(path, {"payload": "ignored"}, "c.json", content_type)


def test_lines_keep_their_order_and_end_with_newlines_only(tmp_path: Path) -> None:
    assert read(tmp_path, '\ufeff{"a": "\u2028"}\r\n2\n\n').bodies == ('{"a": "\u2028"}'.encode(), b"2")


def test_the_last_line_needs_no_newline(tmp_path: Path) -> None:
    assert read(tmp_path, "1\n2").bodies == (b"1", b"2")


def test_a_bad_line_is_named_but_not_quoted(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refusal:
        read(tmp_path, "1\n2\n{private}\n")
    assert f"{tmp_path / 'p.jsonl'}: line 3: column 2: not JSON" in str(refusal.value)
    assert "private" not in str(refusal.value)


def test_deep_nesting_is_a_bad_line_not_a_crash(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 1: not JSON"):
        read(tmp_path, "[" * 100_000 + "\n")


def test_text_is_not_held_to_be_json(tmp_path: Path) -> None:
    assert read(tmp_path, "a\nb\n", "text/csv").bodies == (b"a", b"b")


@pytest.mark.parametrize(
    ("content_type", "holds"),
    [("application/json", True), ("Application/JSON;x=y", True), ("application/ld+json", True), ("text/plain", False)],
)
def test_content_types_that_promise_json(content_type: str, holds: bool) -> None:
    assert payload.holds_json(content_type) is holds


def test_the_configurations_body_is_one() -> None:
    one = payload.read(None, {"payload": "[1]"}, "c.json", JSON)
    assert (one.bodies, one.source, one.method, one.bytes_mean) == ((b"[1]",), "profiler_config", "POST", 3.0)


def test_the_configurations_json_is_one_line_however_it_is_written() -> None:
    one = payload.read(None, {"payload": '{\r\n  "a\\n": [1]\n}\n'}, "c.json", JSON)
    assert one.bodies == (b'{   "a\\n": [1] }',)


def test_the_configurations_text_stays_as_it_is() -> None:
    assert payload.read(None, {"payload": "a,b\n1,2\n"}, "c.json", "text/csv").bodies == (b"a,b\n1,2\n",)


@pytest.mark.parametrize("content_type", [JSON, "text/plain"])
def test_an_empty_body_is_refused(content_type: str) -> None:
    with pytest.raises(InputError, match=r"c\.json: /profiler_config/payload: empty"):
        payload.read(None, {"payload": " \n"}, "c.json", content_type)


def test_no_payload_is_a_get() -> None:
    none = payload.read(None, {}, "c.json", JSON)
    assert (none.bodies, none.method, none.bytes_mean, none.sha256) == ((), "GET", None, None)


def test_the_hash_is_of_the_bodies_wherever_they_came_from(tmp_path: Path) -> None:
    assert read(tmp_path, "[1]\r\n").sha256 == payload.read(None, {"payload": "[1]"}, "c", JSON).sha256
    assert read(tmp_path, "[1]\n[2]\n").sha256 != read(tmp_path, "[2]\n[1]\n").sha256


def test_the_content_type_is_the_headers_whatever_their_case() -> None:
    assert payload.content_type({"CONTENT-type": "text/plain"}) == "text/plain"
    assert payload.content_type({}) == "application/json"


def test_a_class_of_sizes_is_named_from_where_to_where_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join("1" * size for size in (100, 101, 1000, 1001, 2001)))
    config = {"payload_classes": {"size_bytes": [100, 1000, 2000]}}
    found = payload.classes(path, config, "c.json", JSON)
    sizes = {one.name: [len(body) for body in one.bodies] for one in found}
    assert sizes == {
        "up to 100 bytes": [100],
        "101 to 1000 bytes": [101, 1000],
        "1001 to 2000 bytes": [1001],
        "more than 2000 bytes": [2001],
    }
