"""A YAML file whose placeholders are filled in, and whose faults are told with their line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml
from aml_tool_core import deployment_yaml, documents
from aml_tool_core.errors import InputError

_PLACEHOLDER = re.compile(r"<%\s*(.*?)\s*%>")
_HALF = re.compile(r"<%|%>")
# `${{azureml://...}}` is AzureML's own syntax, for secrets, and stays.
_NAMED = r"(?:[A-Za-z_]\w*|\{[A-Za-z_]\w*\})"
_VARIABLE = re.compile(rf"\${_NAMED}")
# `$$NAME` is the text $NAME, for who means it.
_ESCAPE = re.compile(rf"\$\$(?={_NAMED})")
_STRING = "tag:yaml.org,2002:str"


@dataclass(frozen=True)
class YamlFile:
    """A file's YAML as nodes, which know their lines, and its plain values."""

    path: Path
    root: yaml.MappingNode
    values: Mapping[str, Any]

    def text(self) -> str:
        """Return the YAML with its placeholders filled in."""
        return deployment_yaml.text_of(self.root)

    def node(self, *keys: str) -> yaml.Node | None:
        """Return the node below a path of keys, None where there is none."""
        return deployment_yaml.node_at(self.root, keys)

    def string(self, *keys: str) -> str | None:
        """Return the text below a path of keys, None where there is none or it is no text."""
        return deployment_yaml.string_at(self.root, keys)

    def required(self, key: str, example: str) -> str:
        """Return the text of a key that must be there. Raises InputError."""
        node = self.node(key)
        if node is None:
            raise InputError(f"{self.path}: /{key}: is missing; add it, e.g. `{key}: {example}`")
        text = self.string(key)
        if not text:
            self.fault(node, f"/{key}: is not text; write it, e.g. `{key}: {example}`")
        return text

    def fault(self, node: yaml.Node, problem: str) -> NoReturn:
        """Raise InputError for a node, naming file, line and column."""
        raise InputError(
            f"{self.path}: line {node.start_mark.line + 1}, column {node.start_mark.column + 1}: {problem}"
        )


def read(path: Path, placeholders: Mapping[str, str | None], flags: Mapping[str, str]) -> YamlFile:
    """Read a YAML mapping and fill in its placeholders.

    `placeholders` has the value of each by name (None: not given), `flags` the flag that gives it. Raises InputError
    for what is not YAML, a placeholder that is unknown or not given, a `$NAME` that nobody expanded, and a key that
    stands twice.
    """
    documents.read_yaml(path)  # the error message of a file that is not YAML at all
    root = yaml.compose(documents.read_text(path), Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise InputError(f"{path}: is not a mapping of keys to values; see the examples in the tool's README")
    file = YamlFile(path, root, {})
    _refuse_duplicates(file, root)
    deployment_yaml.merge(root)
    for node in _scalars(root):
        _fill(file, node, placeholders, flags)
    return YamlFile(path, root, yaml.safe_load(file.text()))


def _fill(
    file: YamlFile, node: yaml.ScalarNode, placeholders: Mapping[str, str | None], flags: Mapping[str, str]
) -> None:
    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in placeholders:
            known = ", ".join(f"<% {known} %>" for known in placeholders)
            file.fault(node, f"unknown placeholder <% {name} %>; there are {known}")
        given = placeholders[name]
        if given is None:
            file.fault(node, f"the placeholder <% {name} %> needs the flag {flags[name]}, which was not given")
        return given

    unexpanded = _VARIABLE.search(_ESCAPE.sub(" ", node.value))  # before filling in: a path may have a $ in it
    if unexpanded:
        file.fault(
            node,
            f"{unexpanded.group()} was not expanded; replace it, e.g. with envsubst, before the deployment, or write "
            f"${unexpanded.group()} where it is meant as it stands",
        )
    plain = _ESCAPE.sub("$", node.value)
    filled = _PLACEHOLDER.sub(value, plain)
    if filled == plain and _HALF.search(filled):
        file.fault(node, "half a placeholder; they look like <% MODEL_FOLDER_PATH %>")
    node.value = filled


def _scalars(node: yaml.Node, seen: set[int] | None = None) -> Iterator[yaml.ScalarNode]:
    """Yield the text values (not the keys) below a node; what an alias repeats, once."""
    seen = set() if seen is None else seen
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode) and node.tag == _STRING:
        yield node
    elif isinstance(node, yaml.MappingNode):
        for _, value in node.value:
            yield from _scalars(value, seen)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _scalars(item, seen)


def _refuse_duplicates(file: YamlFile, node: yaml.Node, around: tuple[int, ...] = ()) -> None:
    """Refuse a key that stands twice and an alias of what it stands in; `around` are the nodes about this one.

    YAML forbids the former (1.2, section 3.2.1.3), but PyYAML takes the last in silence; the latter has no end.
    """
    if id(node) in around:
        file.fault(node, "holds an alias of itself")
    around = (*around, id(node))
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    file.fault(key, f"the key {key.value!r} stands twice in one mapping")
                seen.add(key.value)
            _refuse_duplicates(file, value, around)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_duplicates(file, item, around)
