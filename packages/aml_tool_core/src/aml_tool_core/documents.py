"""Read JSON and YAML files and hold them against their JSON Schemas, with errors a person can act on."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from jsonschema.exceptions import ValidationError, best_match
from referencing import Registry, Resource

from aml_tool_core.errors import InputError

SCHEMA_PACKAGE = "aml_model_optimizer_schemas"
_SUFFIX = ".schema.json"
_MAX_SHOWN_CHARS = 200
_YAML_MERGE = "tag:yaml.org,2002:merge"
_NOT_SHOWN = "the value (not shown)"
_LARGEST_INT = 2**63 - 1  # everything that counts in these files does so in 64 bits
_HALF_CHARACTER = "\\ud"  # how JSON writes a character beyond U+FFFF: as two of them


class _KeyTwice(yaml.MarkedYAMLError):
    """A mapping with two equal keys: YAML by its form, but forbidden (1.2, section 3.2.1.3)."""


class _YamlLoader(yaml.SafeLoader):
    """PyYAML's safe loader takes the last of several equal keys without a word; this one refuses them."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Return a mapping as it is written, before `<<` is filled in, which the mapping's own keys may override."""
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _YAML_MERGE:
                continue
            if (key.tag, key.value) in seen:
                raise _KeyTwice(None, None, f"the key {key.value!r} stands twice in one mapping", key.start_mark)
            seen.add((key.tag, key.value))
        return node


def read_text(path: Path) -> str:
    """Return a file's text (UTF-8, a byte order mark allowed). Raises InputError."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start}: not UTF-8 text; save the file as UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def parse_json(text: str, source: str) -> Any:
    """Parse JSON; duplicate keys, NaN, Infinity, what overflows to it and halves of characters are errors.

    `source` names the text.
    """
    try:
        document = json.loads(
            text,
            object_pairs_hook=_no_duplicates,
            parse_constant=_no_constant,
            parse_float=_finite_float,
            parse_int=_countable_int,
        )
        if _HALF_CHARACTER in text.lower():
            _check_characters(document)
        return document
    except json.JSONDecodeError as error:
        raise InputError(f"{source}: line {error.lineno}, column {error.colno}: not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source}: not JSON: {error}") from None


def read_json(path: Path, schema: str | None = None) -> Any:
    """Read a JSON file and, where a schema is named, validate it. Raises InputError."""
    document = parse_json(read_text(path), str(path))
    if schema is not None:
        validate(document, schema, str(path))
    return document


def read_yaml(path: Path) -> Any:
    """Read one YAML document (safe constructors only); a key that stands twice is an error. Raises InputError."""
    try:
        return yaml.load(read_text(path), _YamlLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
        said = problem if isinstance(error, _KeyTwice) else f"not YAML: {problem}"
        raise InputError(f"{path}: {place}{said}") from None
    except RecursionError:
        raise InputError(f"{path}: not YAML that can be read: it is nested too deeply") from None
    except (ValueError, LookupError) as error:  # PyYAML's own, from values such as 2024-13-45 or !!int x
        raise InputError(f"{path}: not YAML: a value is not what it looks like or is tagged as: {error}") from None


def validate(document: Any, schema: str, source: str) -> None:
    """Hold a document against the named schema. Raises InputError with the JSON pointer of the worst fault."""
    fault = best_match(validator(schema).iter_errors(document))
    if fault is not None:
        raise InputError(f"{source}: {pointer(fault.absolute_path)}: {_said(fault, schemas()[schema])}")


@cache
def validator(schema: str) -> jsonschema.Draft202012Validator:
    """Return the validator of a schema by its short name, e.g. `report`."""
    return jsonschema.Draft202012Validator(
        schemas()[schema], registry=_registry(), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )


@cache
def schemas() -> Mapping[str, Mapping[str, Any]]:
    """Return every schema of the installed schema distribution by its short name."""
    found = {}
    for entry in files(SCHEMA_PACKAGE).iterdir():
        if entry.name.endswith(_SUFFIX):
            found[entry.name.removesuffix(_SUFFIX)] = json.loads(entry.read_text(encoding="utf-8"))
    return found


@cache
def _registry() -> Registry[Any]:
    return Registry().with_resources(
        (str(schema["$id"]), Resource.from_contents(schema)) for schema in schemas().values()
    )


def pointer(path: Iterable[str | int]) -> str:
    """Return an RFC 6901 JSON pointer; the whole document, whose pointer is empty, is shown as `/`."""
    return "/" + "/".join(str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _said(fault: ValidationError, schema: Any) -> str:
    rule: Mapping[str, Any] = fault.schema if isinstance(fault.schema, Mapping) else {}
    if fault.validator == "additionalProperties" and isinstance(fault.instance, dict):
        known, patterns = sorted(rule.get("properties", {})), rule.get("patternProperties", {})
        # A pattern's title is an example of the keys that it takes; a regular expression tells few people much.
        shown = (rule_of_key.get("title", pattern) for pattern, rule_of_key in patterns.items())
        unknown = sorted(
            key
            for key in fault.instance
            if key not in known and not any(re.search(pattern, key) for pattern in patterns)
        )
        said = f"unknown key {', '.join(map(repr, unknown))}; the keys here are {', '.join((*known, *shown))}"
        return "; ".join((said, *_known_elsewhere(unknown, fault)))
    # jsonschema quotes the whole instance; a payload or a key could be in it.
    said = fault.message.replace(repr(fault.instance), _shown(fault, schema))
    remedy = rule.get("description")
    if fault.validator == "uniqueItems" and isinstance(fault.instance, list):
        repeated = next(one for index, one in enumerate(fault.instance) if _is_among(one, fault.instance[:index]))
        value = _NOT_SHOWN if _is_secret(fault, schema) else json.dumps(repeated)[:_MAX_SHOWN_CHARS]
        return f"{value} stands twice; every element is to be there once"
    if fault.validator == "pattern" and remedy and _is_secret(fault, schema):
        # Beside what may not be shown, a regular expression is only a riddle.
        return f"{_shown(fault, schema)} does not match what it is to be: {remedy}"
    if len(said) > _MAX_SHOWN_CHARS:
        said = f"does not satisfy {fault.validator}: {json.dumps(fault.validator_value)[:_MAX_SHOWN_CHARS]}"
    return f"{said} ({remedy})" if remedy and fault.validator not in ("minimum", "maximum", "type") else said


def _is_among(value: Any, others: Iterable[Any]) -> bool:
    """Tell whether a value is one of others, as JSON sees it: true is not 1."""
    return any(value == one and isinstance(value, bool) is isinstance(one, bool) for one in others)


def _known_elsewhere(keys: Iterable[str], fault: ValidationError) -> Iterable[str]:
    """Say of each key which other schemas know it at the same place: the file may be meant for another tool."""
    *place, _ = fault.absolute_schema_path
    for key in keys:
        found = sorted(name for name, schema in schemas().items() if key in _keys_at(schema, place))
        if found:
            yield f"{key!r} is a key of {', '.join(found)}"


def _keys_at(schema: Any, place: Iterable[str | int]) -> Iterable[str]:
    for step in place:
        if not isinstance(schema, Mapping) or step not in schema:
            return ()
        schema = schema[step]
    return schema.get("properties", {}) if isinstance(schema, Mapping) else ()


def _shown(fault: ValidationError, schema: Any) -> str:
    """Return how a message may quote the faulty value: a secret not at all, a list or an object not by its content."""
    if _is_secret(fault, schema):
        return _NOT_SHOWN
    if fault.instance and isinstance(fault.instance, (dict, list)):
        return "an object" if isinstance(fault.instance, dict) else "a list"
    return repr(fault.instance)


def _is_secret(fault: ValidationError, schema: Any) -> bool:
    """Tell whether the value stands at or below what its schema marks `writeOnly`; the name of a key is no secret."""
    if "propertyNames" in fault.absolute_schema_path:
        return False
    rule = schema
    for step in fault.absolute_schema_path:
        if isinstance(rule, Mapping) and (rule.get("writeOnly") is True or step not in rule):
            break  # a step that is not there leads through a $ref; behind those nothing is marked
        rule = rule[step]
    return isinstance(rule, Mapping) and rule.get("writeOnly") is True


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            raise ValueError(f"the key {key!r} stands twice in one object")
        seen[key] = value
    return seen


def _finite_float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:20]} is too large a number")
    return number


def _countable_int(text: str) -> int:
    number = int(text)
    if not -_LARGEST_INT - 1 <= number <= _LARGEST_INT:
        raise ValueError(f"{text[:20]} is too large a number")
    return number


def _check_characters(document: Any) -> None:
    try:
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = ord(error.object[error.start])
        raise ValueError(f"\\u{half:04x} is half of a character; its other half is missing beside it") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")
