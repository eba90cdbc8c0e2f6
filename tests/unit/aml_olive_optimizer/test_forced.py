"""The keys that the tool decides are set whatever a configuration says, and overriding is told of."""

from __future__ import annotations

from typing import Any

import pytest
from aml_olive_optimizer.forced import FORCED, accelerators, cache_dir, for_olive, forced, output_model_num

MODEL = {"input_model": {"type": "ONNXModel", "model_path": "m.onnx"}, "passes": {"p": {"type": "X"}}}


def test_nothing_given_is_no_reason_to_warn() -> None:
    result, warnings = forced(MODEL)
    assert result["engine"] == dict(FORCED)
    assert warnings == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("packaging_config", {"type": "Zipfile", "name": "Mine"}),
        ("packaging_config", [{"type": "AzureMLModels"}]),
        ("plot_pareto_frontier", False),
        ("output_dir", "elsewhere"),
    ],
)
@pytest.mark.parametrize("flat", [False, True])
def test_what_is_overridden_is_told(key: str, value: Any, flat: bool) -> None:
    document = {**MODEL, key: value} if flat else {**MODEL, "engine": {key: value}}
    result, warnings = forced(document)
    assert result["engine"][key] == FORCED[key]
    assert key not in {name for name in result if name != "engine"}
    (warning,) = warnings
    assert warning.startswith(f"/engine/{key}: ")


@pytest.mark.parametrize("folder", ["outputs", "./outputs", "./outputs/"])
def test_the_same_folder_in_other_words_is_not_overridden(folder: str) -> None:
    assert forced({**MODEL, "engine": {"output_dir": folder}})[1] == []


@pytest.mark.parametrize(
    ("strategy", "count"), [({}, 1), ({"output_model_num": None}, 1), ({"output_model_num": 3}, 3), (True, 1)]
)
def test_one_model_unless_asked_for_more(strategy: Any, count: int) -> None:
    result, _ = forced({**MODEL, "engine": {"search_strategy": strategy}})
    assert output_model_num(result) == count


def test_no_search_is_left_alone() -> None:
    result, _ = forced({**MODEL, "engine": {"search_strategy": False}})
    assert result["engine"]["search_strategy"] is False
    assert output_model_num(result) == 1


def test_olive_neither_packages_nor_draws() -> None:
    result = for_olive(forced(MODEL)[0], "/tmp/x/olive", "/cache", "flow")
    assert result["engine"]["packaging_config"] is None
    assert result["engine"]["plot_pareto_frontier"] is False
    assert result["engine"]["output_dir"] == "/tmp/x/olive"
    assert result["workflow_id"] == "flow"


@pytest.mark.parametrize(("asked", "is_relative"), [(False, True), (False, False), (True, False)])
def test_a_goal_relative_to_the_input_model_has_it_measured(asked: bool, is_relative: bool) -> None:
    document = forced({**MODEL, "engine": {"evaluate_input_model": asked}})[0]
    result = for_olive(document, "/tmp/x/olive", "/cache", "flow", is_relative=is_relative)
    assert result["engine"]["evaluate_input_model"] is (asked or is_relative)


def test_cache_settings_win_and_lead_to_one_folder() -> None:
    document = forced({**MODEL, "engine": {"cache_dir": "a", "cache_config": {"cache_dir": "b", "clean_cache": True}}})[
        0
    ]
    assert cache_dir(document) == "b"
    assert cache_dir(forced({**MODEL, "cache_dir": "a"})[0]) == "a"
    assert cache_dir(forced(MODEL)[0]) is None
    engine = for_olive(document, "/tmp/x/olive", "/here/b", "flow")["engine"]
    assert engine["cache_config"] == {"cache_dir": "/here/b", "clean_cache": True}


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        (None, [("cpu", ["CPUExecutionProvider"])]),
        ({"type": "LocalSystem"}, [("cpu", ["CPUExecutionProvider"])]),
        ({"type": "LocalSystem", "accelerators": [{"device": "gpu"}]}, [("gpu", ["CUDAExecutionProvider"])]),
        (
            {"type": "LocalSystem", "config": {"accelerators": [{"execution_providers": [["A", "a.so"], "B"]}]}},
            [("cpu", ["A", "B"])],
        ),
    ],
)
def test_the_accelerators_that_olive_will_search(system: Any, expected: list[tuple[str, list[str]]]) -> None:
    assert accelerators({"engine": {"target": system}}) == expected
    if system is not None:
        assert accelerators({"systems": {"s": system}, "engine": {"target": "s"}}) == expected
