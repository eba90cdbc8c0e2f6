"""A deployment's YAML as nodes, which keep each value as it was written: who deploys and who tunes puts values in."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

# Where a deployment's YAML names files; relative ones are looked up beside it.
CONDA_FILE = ("environment", "conda_file")
LOCAL_PATHS = (("model", "path"), ("code_configuration", "code"), CONDA_FILE, ("environment", "build", "path"))
# What is not looked for on this machine: assets by name, and addresses.
_ELSEWHERE = re.compile(r"^(azureml:|[a-z][a-z0-9+.-]*://)", re.IGNORECASE)
_STRING = "tag:yaml.org,2002:str"
_NEVER_FOLDED = 1_000_000


class NoPlace(Exception):
    """A value cannot be put where it belongs, as what should hold it is no mapping."""

    def __init__(self, node: yaml.Node, key: str, keys: Sequence[str]) -> None:
        super().__init__(f"/{key}: is not a mapping, so {'/'.join(keys)} cannot be set in it")
        self.node, self.key, self.keys = node, key, keys


def is_elsewhere(path: str) -> bool:
    """Tell whether a path names something that is not on this machine."""
    return _ELSEWHERE.match(path) is not None


def merge(node: yaml.Node, seen: set[int] | None = None) -> None:
    """Put what a mapping merges in (`<<`) among its own keys, which win, so that it is found where it counts."""
    seen = set() if seen is None else seen
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        yaml.SafeLoader("").flatten_mapping(node)
        # The merged ones stand first; of two of a name the last counts.
        last = {key.value if isinstance(key, yaml.ScalarNode) else id(key): (key, value) for key, value in node.value}
        node.value = list(last.values())
        for _, value in node.value:
            merge(value, seen)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            merge(item, seen)


def node_at(root: yaml.Node, keys: Sequence[str]) -> yaml.Node | None:
    """Return the node below a path of keys, None where there is none."""
    node: yaml.Node | None = root
    for key in keys:
        if not isinstance(node, yaml.MappingNode):
            return None
        node = next((value for name, value in node.value if name.value == key), None)
    return node


def string_at(root: yaml.Node, keys: Sequence[str]) -> str | None:
    """Return the text below a path of keys, None where there is none or it is no text."""
    node = node_at(root, keys)
    return str(node.value) if isinstance(node, yaml.ScalarNode) and node.tag == _STRING else None


def with_values(root: yaml.MappingNode, values: Mapping[tuple[str, ...], Any]) -> yaml.MappingNode:
    """Return a mapping with values put in, or in the place of its own. Raises NoPlace."""
    for keys, value in values.items():
        root = _with(root, keys, value)
    return root


def text_of(root: yaml.Node) -> str:
    """Return nodes as YAML; comments are not among them."""
    return str(yaml.serialize(root, Dumper=yaml.SafeDumper, allow_unicode=True, width=_NEVER_FOLDED))


def _with(node: yaml.MappingNode, keys: tuple[str, ...], value: Any) -> yaml.MappingNode:
    key, *below = keys
    old = next((item for name, item in node.value if name.value == key), None)
    if not below:
        new: yaml.Node = _scalar(node, value)
    elif old is None:
        empty = yaml.MappingNode("tag:yaml.org,2002:map", [], node.start_mark, node.end_mark, flow_style=False)
        new = _with(empty, tuple(below), value)
    elif isinstance(old, yaml.MappingNode):
        new = _with(old, tuple(below), value)
    else:
        raise NoPlace(old, key, keys)
    items = [(name, new if name.value == key else item) for name, item in node.value]
    if old is None:
        items.append((_scalar(node, key), new))
    return yaml.MappingNode(node.tag, items, node.start_mark, node.end_mark, flow_style=node.flow_style)


def _scalar(near: yaml.Node, value: Any) -> yaml.ScalarNode:
    """Return a value as a node whose faults point at what it was put into."""
    kind = "int" if isinstance(value, int) else "str"
    return yaml.ScalarNode(f"tag:yaml.org,2002:{kind}", str(value), near.start_mark, near.end_mark)
