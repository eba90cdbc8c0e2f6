"""Documents that cannot be used are named with their place, and never with a secret that stands in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aml_tool_core import InputError
from aml_tool_core.documents import parse_json, read_yaml, validate

SECRET = "s3cr3t"


def target(**settings: Any) -> dict[str, Any]:
    return {"version": "1.0", "deployment_settings": settings}


@pytest.mark.parametrize(
    ("document", "schema", "says"),
    [
        (
            target(identity_access_token=[SECRET]),
            "deployment_settings",
            "/identity_access_token: the value (not shown) is not of type",
        ),
        (
            target(scoring_headers=[SECRET]),
            "deployment_settings",
            "/scoring_headers: the value (not shown) is not of type 'object'",
        ),
        (
            target(scoring_headers=f"Key {SECRET}"),
            "deployment_settings",
            "/scoring_headers: the value (not shown) is not of type",
        ),
        (
            target(scoring_headers={"x-key": f"{SECRET}\n"}),
            "deployment_settings",
            "/x-key: the value (not shown) does not match",
        ),
        (
            target(scoring_uri=f"ftp://me:{SECRET}@host"),
            "deployment_settings",
            "/scoring_uri: the value (not shown) does not match",
        ),
        ({"version": "1.0", "deployment_settings": [SECRET]}, "deployment_settings", "a list is not of type 'object'"),
        (
            {"version": "1.0", "profiler_config": {"payload": {"data": SECRET}}},
            "wrk_profiler_config",
            "/profiler_config/payload: the value (not shown) is not of type 'string'",
        ),
    ],
)
def test_a_faulty_secret_is_not_quoted(document: Any, schema: str, says: str) -> None:
    with pytest.raises(InputError) as refusal:
        validate(document, schema, "file.json")
    assert says in str(refusal.value)
    assert SECRET not in str(refusal.value)


def test_a_faulty_header_name_is_quoted() -> None:
    with pytest.raises(InputError, match="'my key' does not match"):
        validate(target(scoring_headers={"my key": SECRET}), "deployment_settings", "file.json")


def test_keys_that_a_pattern_knows_are_not_called_unknown() -> None:
    document = {"version": "1.0", "profiler_config": {"sla": {"latency_ms_99": 5, "latency_99": 5}}}
    with pytest.raises(InputError, match=r"/sla: unknown key 'latency_99'; the keys here are .*latency_ms"):
        validate(document, "wrk_profiler_config", "file.json")


@pytest.mark.parametrize("profiler", ["wrk", "wrk2", "labench"])
def test_the_keys_that_a_pattern_takes_are_told_by_example(profiler: str) -> None:
    document = {"version": "1.0", "profiler_config": {"sla": {"p99": 5}}}
    with pytest.raises(InputError) as refusal:
        validate(document, f"{profiler}_profiler_config", "file.json")
    assert str(refusal.value).endswith(
        "succeeded_per_sec, latency_ms_99, service_time_ms_99 (or another percentile, mean, max)"
    )


@pytest.mark.parametrize(
    ("document", "schema", "hint"),
    [
        (
            {"version": "1.0", "profiler_config": {"target_rps": 5}},
            "wrk_profiler_config",
            "; 'target_rps' is a key of labench_profiler_config, wrk2_profiler_config",
        ),
        (
            {"version": "1.0", "profiler_config": {"clients": 5, "nonsense": 1}},
            "wrk2_profiler_config",
            "; 'clients' is a key of labench_profiler_config",
        ),
        (target(), "wrk_profiler_config", "; 'deployment_settings' is a key of deployment_settings"),
        ({"version": "1.0", "profiler_config": {"nonsense": 5}}, "wrk_profiler_config", ", threads, warmup_sec"),
    ],
)
def test_a_key_that_another_schema_knows_at_that_place_is_said_to_be_its(document: Any, schema: str, hint: str) -> None:
    with pytest.raises(InputError) as refusal:
        validate(document, schema, "file.json")
    assert "unknown key" in str(refusal.value)
    assert str(refusal.value).endswith(hint)


def test_a_uri_without_a_scheme_is_told_what_it_lacks() -> None:
    with pytest.raises(InputError) as refusal:
        validate(target(scoring_uri=f"{SECRET}.example/score"), "deployment_settings", "file.json")
    said = str(refusal.value)
    assert "/scoring_uri: the value (not shown) does not match what it is to be: " in said
    assert "begin it with http:// or https://" in said
    assert SECRET not in said and "***" not in said and "^" not in said


@pytest.mark.parametrize("text", ["1e999", "-1e999", "[1.0, 2e400]", "1" + "0" * 400, "-9223372036854775809"])
def test_a_number_that_overflows_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"file\.json: not JSON: .* is too large a number"):
        parse_json(text, "file.json")


@pytest.mark.parametrize(("numbers", "named"), [([1, 2, 4, 2], "2"), ([8, 8], "8")])
def test_the_element_that_stands_twice_is_named(numbers: list[int], named: str) -> None:
    document = {"version": 1.0, "profiler_config": {"connections": numbers}}
    said = f"f: /profiler_config/connections: {named} stands twice; every element is to be there once"
    with pytest.raises(InputError, match=said):
        validate(document, "wrk_profiler_config", "f")


def test_the_largest_number_that_counts_is_taken() -> None:
    assert parse_json("[9223372036854775807, -9223372036854775807]", "f") == [2**63 - 1, 1 - 2**63]


@pytest.mark.parametrize("text", [r'{"payload": "\ud83d"}', r'{"\uDE00": 1}', r'["\ud83d \ude00"]'])
def test_half_of_a_character_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"file\.json: not JSON: \\ud[0-9a-f]{3} is half of a character"):
        parse_json(text, "file.json")


def test_both_halves_are_a_character() -> None:
    assert parse_json(r'["\uD83D\ude00", "\\ud83d"]', "file.json") == ["\U0001f600", "\\ud83d"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\nb:\n  c: 2\n  'c': 3", "line 4, column 3: the key 'c' stands twice in one mapping"),
        ("at: 2024-13-45", "month must be in 1..12"),
        ("count: !!int many", "invalid literal for int"),
        ("flag: !!bool perhaps", "perhaps"),
        ("[" * 5000, "nested too deeply"),
        ("bell: \x07", "special characters are not allowed"),
        ("a: [", "line 1, column 5: not YAML: "),
    ],
)
def test_yaml_that_cannot_be_read_is_an_input_error(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "endpoint.yml"
    path.write_text(text)
    with pytest.raises(InputError) as refusal:
        read_yaml(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert says in str(refusal.value)


def test_a_yaml_mapping_may_override_what_it_is_filled_with(tmp_path: Path) -> None:
    path = tmp_path / "endpoint.yml"
    path.write_text("a: {deep: &a {x: 1, y: 2}}\nb: &b {<<: *a, x: 3}\nc: {<<: *b, <<: *a, y: 4}\n")
    assert read_yaml(path) == {"a": {"deep": {"x": 1, "y": 2}}, "b": {"x": 3, "y": 2}, "c": {"x": 1, "y": 4}}
