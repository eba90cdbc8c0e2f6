"""Variants: what a trial deploys otherwise than its YAML says."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import yaml
from aml_online_endpoints_deployer import definition, variants, yaml_file
from aml_tool_core.deployment_variant import deployment_values, endpoint_values
from aml_tool_core.documents import validate
from aml_tool_core.errors import InputError, ToolError

ENDPOINT = "name: base\nauth_mode: key\n"
DEPLOYMENT = """\
name: blue
endpoint_name: base
instance_type: Standard_F2s_v2
instance_count: 1
request_settings:
  request_timeout_ms: 5000
  max_concurrent_requests_per_instance: 2
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "endpoint.yml").write_text(ENDPOINT)
    (tmp_path / "deployment.yml").write_text(DEPLOYMENT)
    return tmp_path / "endpoint.yml", tmp_path / "deployment.yml"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("worker_count=2", {"worker_count": 2}),
        (
            " instance_type=Standard_F4s_v2, instance_count=3 ",
            {"instance_type": "Standard_F4s_v2", "instance_count": 3},
        ),
        ('{"candidate": 2, "environment_variables": {"A": 1}}', {"candidate": 2, "environment_variables": {"A": 1}}),
        ("2", {"worker_count": 9}),
    ],
)
def test_the_flag_takes_pairs_json_and_numbers(text: str, wanted: dict[str, object]) -> None:
    listed = {"version": 1.0, "variants": [{"worker_count": 8}, {"worker_count": 9}]}
    validate(listed, variants.LIST_SCHEMA, "list")
    assert variants.read(text, listed, "list.json") == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("workers=2", "--variant: /: .*workers"),
        ("worker_count", "is not KEY=VALUE"),
        ("worker_count=two", "--variant: /worker_count"),
        ("worker_count=-1", "--variant: /worker_count"),
        ("worker_count=--2", "--variant: /worker_count"),
        ('{"worker_count": ', "--variant: line 1"),
        ("3", "list.json has the variants 1 to 1"),
        ("0", "list.json has the variants 1 to 1"),
    ],
)
def test_what_is_no_variant(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        variants.read(text, {"variants": [{"worker_count": 1}]}, "list.json")


def test_a_number_needs_a_list() -> None:
    with pytest.raises(InputError, match="give the list with --variants_path"):
        variants.read("1", None, "None")


def test_values_take_the_yamls_place_and_are_typed(files: tuple[Path, Path]) -> None:
    variant = {
        "endpoint_name": "other",
        "deployment_name": "green",
        "instance_type": "Standard_F4s_v2",
        "instance_count": 2,
        "worker_count": 4,
        "max_concurrent_requests_per_instance": 8,
        "intra_op_num_threads": 1,
        "environment_variables": {"NUMBER": 7, "WORKER_COUNT": "5"},
    }
    endpoint = variants.with_values(yaml_file.read(files[0], {}, {}), endpoint_values(variant))
    deployment = variants.with_values(yaml_file.read(files[1], {}, {}), deployment_values(variant))
    assert yaml.safe_load(endpoint.text()) == endpoint.values == {"name": "other", "auth_mode": "key"}
    assert (
        yaml.safe_load(deployment.text())
        == deployment.values
        == {
            "name": "green",
            "endpoint_name": "other",
            "instance_type": "Standard_F4s_v2",
            "instance_count": 2,
            "request_settings": {"request_timeout_ms": 5000, "max_concurrent_requests_per_instance": 8},
            # Text, as Azure wants them; the variant's own variable wins over its setting.
            "environment_variables": {"WORKER_COUNT": "5", "INTRA_OP_NUM_THREADS": "1", "NUMBER": "7"},
        }
    )


def test_no_variant_changes_nothing(files: tuple[Path, Path]) -> None:
    file = yaml_file.read(files[1], {}, {})
    assert variants.with_values(file, deployment_values({"candidate": 3})).values == yaml.safe_load(DEPLOYMENT)


def test_a_value_without_a_place_is_a_fault_of_the_file(files: tuple[Path, Path]) -> None:
    files[1].write_text(DEPLOYMENT + "environment_variables: none\n")
    with pytest.raises(InputError, match=r"deployment.yml: line 8, .*environment_variables: is not a mapping"):
        variants.with_values(yaml_file.read(files[1], {}, {}), deployment_values({"worker_count": 2}))


def test_the_definition_is_that_of_the_variant(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aml_tool_core.azure.cloud.current", lambda: None)
    variant = {"endpoint_name": "other", "worker_count": 4, "instance_count": 2}
    read = definition.read(*files, {}, variant)
    assert (read.endpoint_name, read.deployment.endpoint_name) == ("other", "other")
    assert read.deployment.environment_variables == {"WORKER_COUNT": "4"}
    assert read.deployment.instance_count == 2
    assert definition.read(*files, {}).endpoint_name == "base"


@pytest.fixture
def found(tmp_path: Path) -> Path:
    """What the optimizer wrote: two candidates, the second with external weights."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("model.onnx", "cpu-cpu_BestCandidateModel_1_model.onnx", "cpu-cpu_BestCandidateModel_2_model.onnx"):
        (folder / name).write_text(name)
    (folder / "cpu-cpu_BestCandidateModel_2_model.onnx.data").write_text("weights")
    (folder / "tokenizer.json").write_text("tokens")
    parameters = tmp_path / "parameters"
    parameters.mkdir()
    for rank in (1, 2):
        (parameters / f"cpu-cpu_BestCandidateModel_{rank}_inference_config.json").write_text("{}")
    return tmp_path


def test_a_candidate_is_the_model(found: Path) -> None:
    beside = found / "outputs"
    # What a deployer that was killed has left.
    (beside / ".candidate" / "model" / "old").mkdir(parents=True)
    with variants.candidate(2, found / "model", found / "parameters", beside) as (model, parameters):
        assert model is not None and model.name == "model", "scoring scripts look for the folder by its name"
        assert {path.name: path.read_text() for path in model.iterdir()} == {
            "model.onnx": "cpu-cpu_BestCandidateModel_2_model.onnx",
            "cpu-cpu_BestCandidateModel_2_model.onnx.data": "weights",
            "tokenizer.json": "tokens",
        }
        assert parameters == found / "parameters" / "cpu-cpu_BestCandidateModel_2_inference_config.json"
        copied = model
    assert not copied.exists() and not list(beside.iterdir())
    with variants.candidate(None, found / "model", None, beside) as given:
        assert given == (found / "model", None)


@pytest.mark.parametrize("place", [".", "outputs"])
def test_the_models_folder_may_hold_the_tools_own(found: Path, place: str) -> None:
    beside = found / "model" / place
    beside.mkdir(exist_ok=True)
    with variants.candidate(1, found / "model", found / "parameters", beside) as (model, _):
        assert model is not None and (model / "tokenizer.json").is_file()
        assert not list(model.rglob(".candidate"))


def test_a_candidate_that_is_not_there(found: Path) -> None:
    beside = found / "outputs"
    for folders, said in (
        ((found / "model", found / "parameters"), r"no candidate 7; there are: cpu-cpu_BestCandidateModel_1"),
        ((found / "model", None), "give --model_folder_path and"),
        ((None, found / "parameters"), "give --model_folder_path and"),
    ):
        with pytest.raises(InputError, match=said), variants.candidate(7, folders[0], folders[1], beside):
            pass
    (found / "model" / "gpu-cuda_BestCandidateModel_2_model.onnx").write_text("")
    folders = (found / "model", found / "parameters")
    said = r"of which accelerator\? There are cpu-cpu/2, gpu-cuda/2"
    with pytest.raises(InputError, match=said), variants.candidate(2, folders[0], folders[1], beside):
        pass
    with variants.candidate("cpu-cpu/2", folders[0], folders[1], beside) as (model, _):
        assert model is not None and (model / "model.onnx").read_text() == "cpu-cpu_BestCandidateModel_2_model.onnx"


def test_a_candidate_without_room_is_a_failure_in_words(found: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(variants, "_copied", full)
    beside, folders = found / "outputs", (found / "model", found / "parameters")
    with (
        pytest.raises(ToolError, match="No space left on device"),
        variants.candidate(2, folders[0], folders[1], beside),
    ):
        pass
    assert not (beside / ".candidate").exists()
