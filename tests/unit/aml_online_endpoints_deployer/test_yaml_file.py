"""Placeholders are filled in as text, whatever is in a path; faults name file, line and column."""

from __future__ import annotations

from pathlib import Path

import pytest
from aml_online_endpoints_deployer import yaml_file
from aml_tool_core import InputError

FLAGS = {"MODEL_FOLDER_PATH": "--model_folder_path", "CODE_FOLDER_PATH": "--code_folder_path"}


def read(folder: Path, text: str, **values: str | None) -> yaml_file.YamlFile:
    path = folder / "deployment.yml"
    path.write_text(text)
    return yaml_file.read(path, {name: values.get(name) for name in FLAGS}, FLAGS)


@pytest.mark.parametrize("value", ["/data/model", "/a b/c: d", "/x #y", "/'quoted\"", "/ö/$HOME", "- /list", "{/map}"])
def test_any_path_is_filled_in_as_it_is(value: str, tmp_path: Path) -> None:
    file = read(
        tmp_path,
        "model:\n  path: <% MODEL_FOLDER_PATH %>\nfile: '<%MODEL_FOLDER_PATH%>/model.onnx'\n",
        MODEL_FOLDER_PATH=value,
    )
    assert file.values == {"model": {"path": value}, "file": f"{value}/model.onnx"}


def test_values_without_placeholders_keep_their_types(tmp_path: Path) -> None:
    text = "a: 1\nb: '1'\nc: true\nd: 1.5\ne: null\nf: [x, 2]\ng: &anchor {h: i}\nj: *anchor\n"
    assert read(tmp_path, text).values == {
        "a": 1, "b": "1", "c": True, "d": 1.5, "e": None, "f": ["x", 2], "g": {"h": "i"}, "j": {"h": "i"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "line 1, column 5: not YAML"),
        ("a: b: c\n", "line 1, column 5: not YAML"),
        ("- a\n- b\n", "is not a mapping"),
        ("", "is not a mapping"),
        ("just text", "is not a mapping"),
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "line 4, column 3: the key 'c' stands twice"),
        ("a: &above\n  b: *above\n", "line 1, column 4: holds an alias of itself"),
        ("a: &above [x, *above]\n", "line 1, column 4: holds an alias of itself"),
        ("a: 2024-13-45\n", "month must be in 1..12"),
        ("a: 1\nname: $ENDPOINT_NAME\n", "line 2, column 7: $ENDPOINT_NAME was not expanded"),
        ("a: [x, 'y${SKU}']\n", "line 1, column 8: ${SKU} was not expanded"),
        ("a: <% NONSENSE %>\n", "line 1, column 4: unknown placeholder <% NONSENSE %>; there are <% MODEL_FOLDER_PATH"),
        ("a: <% model_folder_path %>\n", "unknown placeholder <% model_folder_path %>"),
        ("a: <% %>\n", "unknown placeholder"),
        ("a: <% MODEL_FOLDER_PATH\n", "line 1, column 4: half a placeholder"),
        ("a: MODEL_FOLDER_PATH %>\n", "half a placeholder"),
        (
            "a: <% CODE_FOLDER_PATH %>\n",
            "<% CODE_FOLDER_PATH %> needs the flag --code_folder_path",
        ),
    ],
)
def test_each_fault_names_its_place(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refusal:
        read(tmp_path, text, MODEL_FOLDER_PATH="/m")
    assert str(refusal.value).startswith(f"{tmp_path / 'deployment.yml'}: ")
    assert says in str(refusal.value)


@pytest.mark.parametrize("value", ["${{azureml://connections/c/credentials/key}}", "costs 5$", "$1", "a$"])
def test_dollars_that_are_no_variable_stay(value: str, tmp_path: Path) -> None:
    assert read(tmp_path, f"a: '{value}'\n").values == {"a": value}


def test_a_dollar_before_a_name_can_be_meant(tmp_path: Path) -> None:
    file = read(tmp_path, "a: 'echo $$HOME$${X} $$$Y $$5 <% MODEL_FOLDER_PATH %>'\n", MODEL_FOLDER_PATH="/m$$x")
    assert file.values == {"a": "echo $HOME${X} $$Y $$5 /m$$x"}


def test_what_a_mapping_merges_in_is_found(tmp_path: Path) -> None:
    text = (
        "base: &base {name: <% MODEL_FOLDER_PATH %>, code: theirs}\nmore: &more {code: other, count: 2}\n"
        "model:\n  <<: [*base, *more]\n  code: mine\n"
    )
    file = read(tmp_path, text, MODEL_FOLDER_PATH="/m")
    assert file.string("model", "name") == "/m" and file.string("model", "code") == "mine"
    assert file.values["model"] == {"name": "/m", "code": "mine", "count": 2}
    assert file.values["base"] == {"name": "/m", "code": "theirs"}


def test_keys_are_left_alone(tmp_path: Path) -> None:
    assert read(tmp_path, "$schema: https://schema.example\n").values == {"$schema": "https://schema.example"}
