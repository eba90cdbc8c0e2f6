"""What the optimizer found becomes the variables that scoring scripts read, under their names and in their forms."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import pytest
from aml_online_endpoints_deployer.tuning import model_sha256, variables
from aml_tool_core.optimized_parameters import normalized


def parameters(**changes: Any) -> dict[str, Any]:
    found = {
        "execution_provider": [["OpenVINOExecutionProvider", {}], ["CPUExecutionProvider", {}]],
        "session_options": {
            "execution_mode": 0,
            "graph_optimization_level": 99,
            "inter_op_num_threads": 1,
            "intra_op_num_threads": 2,
            "extra_session_config": None,
        },
    }
    return normalized({**found, **changes}, "optimized_parameters.json")


def test_every_option_has_its_variable() -> None:
    assert variables(parameters()) == {
        "EXECUTION_MODE": "ExecutionMode.ORT_SEQUENTIAL",
        "EXECUTION_PROVIDER": "OpenVINOExecutionProvider",
        "GRAPH_OPTIMIZATION_LEVEL": "99",
        "INTER_OP_NUM_THREADS": "1",
        "INTRA_OP_NUM_THREADS": "2",
    }


def test_whole_numbers_with_a_point_are_written_without_it() -> None:
    options = {"execution_mode": 0.0, "graph_optimization_level": 99.0, "intra_op_num_threads": 2.0}
    assert variables(parameters(session_options=options)) == {
        "EXECUTION_MODE": "ExecutionMode.ORT_SEQUENTIAL",
        "EXECUTION_PROVIDER": "OpenVINOExecutionProvider",
        "GRAPH_OPTIMIZATION_LEVEL": "99",
        "INTRA_OP_NUM_THREADS": "2",
    }


def test_parallel_execution() -> None:
    assert (
        variables(parameters(session_options={"execution_mode": 1}))["EXECUTION_MODE"] == "ExecutionMode.ORT_PARALLEL"
    )


def test_what_the_search_left_alone_has_no_variable() -> None:
    left_alone = parameters(session_options={"intra_op_num_threads": None, "inter_op_num_threads": 0})
    assert variables(left_alone) == {
        "EXECUTION_PROVIDER": "OpenVINOExecutionProvider",
        "INTER_OP_NUM_THREADS": "0",
    }


def test_provider_options_that_no_variable_carries_are_told(caplog: pytest.LogCaptureFixture) -> None:
    variables(parameters(execution_provider=[["OpenVINOExecutionProvider", {"device_type": "CPU_FP32"}]]))
    assert "OpenVINOExecutionProvider was tuned with options that no variable carries: ['device_type']" in caplog.text


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(b"weights")
    return tmp_path


WEIGHTS = hashlib.sha256(b"weights").hexdigest()
OTHER = hashlib.sha256(b"other weights").hexdigest()


@pytest.mark.parametrize(
    ("told", "file", "known", "warns"),
    [
        (WEIGHTS, "model.onnx", WEIGHTS, ""),
        (OTHER, "model.onnx", WEIGHTS, "is not the model that the parameters were tuned for"),
        (None, "model.onnx", WEIGHTS, ""),
        (WEIGHTS, "elsewhere.onnx", None, "has no elsewhere.onnx, for which the parameters were tuned"),
        (WEIGHTS, None, WEIGHTS, ""),
        (OTHER, None, WEIGHTS, "is not the model that the parameters were tuned for"),
        (None, None, WEIGHTS, ""),
    ],
)
def test_the_hash_is_that_of_the_file_that_is_deployed(
    told: str | None, file: str | None, known: str | None, warns: str, model_folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.WARNING)
    assert model_sha256(parameters(model_sha256=told, model_file=file), model_folder) == known
    assert warns in caplog.text
    assert bool(warns) == bool(caplog.text)


def test_without_a_folder_the_told_hash_is_all_there_is() -> None:
    assert model_sha256(parameters(model_sha256=WEIGHTS, model_file="model.onnx"), None) == WEIGHTS


@pytest.mark.parametrize(
    ("files", "is_known"),
    [
        (("model.onnx", "other.onnx", "model.onnx.data"), True),
        (("best.onnx", "best.onnx.data", "config.json"), True),
        (("weights.pt",), True),
        (("below/weights.pt",), True),
        (("one.onnx", "two.onnx"), False),
        (("weights.pt", "vocabulary.txt"), False),
    ],
)
def test_a_model_without_parameters_has_its_hash_too(files: tuple[str, ...], is_known: bool, tmp_path: Path) -> None:
    for index, name in enumerate(files):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"other weights" if index else b"weights")
    assert model_sha256(None, tmp_path) == (WEIGHTS if is_known else None)
    assert model_sha256(None, tmp_path / files[0]) == WEIGHTS


def test_a_registered_model_without_parameters_has_none() -> None:
    assert model_sha256(None, None) is None
