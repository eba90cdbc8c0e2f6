"""Every schema is itself valid, documented, offline, and has examples that it takes and examples that it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from aml_tool_core import InputError
from aml_tool_core.documents import read_json, schemas

DATA = Path(__file__).parents[2] / "data"


def examples(kind: str) -> list[Path]:
    return sorted((DATA / kind).glob("*/*.json"))


@pytest.mark.parametrize("name", sorted(schemas()))
def test_schema_is_sound(name: str) -> None:
    schema = schemas()[name]
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:aml-model-optimizer:schema:{name}"
    assert "writeOnly" not in json.dumps(schema.get("$defs")), "error messages look for it without following a $ref"
    for place, rule in properties(schema, name):
        assert rule.get("description") or "$ref" in rule, f"{place} has no description"


def properties(schema: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, list):
        for index, part in enumerate(schema):
            yield from properties(part, f"{place}/{index}")
    if isinstance(schema, dict):
        reference = schema.get("$ref", "")
        assert not str(reference).startswith("http"), f"{place} refers to the network"
        named = schema.get("properties")
        if isinstance(named, dict):
            for key, rule in named.items():
                if isinstance(rule, dict):
                    yield f"{place}/{key}", rule
        for key, part in schema.items():
            if key not in ("enum", "const", "examples", "default"):
                yield from properties(part, f"{place}/{key}")


@pytest.mark.parametrize("name", sorted(schemas()))
def test_schema_has_examples_of_both_kinds(name: str) -> None:
    for kind in ("valid", "invalid"):
        assert list((DATA / kind / name).glob("*.json")), f"tests/data/{kind}/{name} has no example"


@pytest.mark.parametrize("path", examples("valid"), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_valid_example_is_taken(path: Path) -> None:
    read_json(path, path.parent.name)


@pytest.mark.parametrize("path", examples("invalid"), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_invalid_example_is_refused_with_its_place(path: Path) -> None:
    with pytest.raises(InputError) as refusal:
        read_json(path, path.parent.name)
    assert str(refusal.value).startswith(f"{path}: ")
