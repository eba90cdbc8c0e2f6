"""Paths, generated scripts, the runtime's wheel, default searches, and what the environment tells."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from aml_olive_optimizer import default_search, environment, events, forced, legacy, runtime_wheel, scripts
from aml_olive_optimizer.configuration import SCHEMA
from aml_olive_optimizer.onnx_graphs import Input
from aml_olive_optimizer.places import GENERATED, Places
from aml_olive_optimizer.scripts import UserFunction
from aml_tool_core import InputError, ToolError, optimized_parameters
from aml_tool_core.documents import validate


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    (tmp_path / "model" / "tokenizer").mkdir(parents=True)
    (tmp_path / "model" / "m.onnx").write_bytes(b"")
    (tmp_path / "code" / "data").mkdir(parents=True)
    (tmp_path / "code" / "user_script.py").write_text("", encoding="utf-8")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return Places(tmp_path / "model", tmp_path / "code", tmp_path / "generated")


def test_relative_paths_are_looked_up(places: Places, tmp_path: Path) -> None:
    document = {
        "input_model": {"type": "ONNXModel", "config": {"model_path": "m.onnx"}},
        "data_configs": [{"user_script": "user_script.py", "script_dir": "."}],
        "evaluators": {"data_dir": "tokenizer"},
        "passes": {"p": {"config": {"data_dir": "data", "user_script": f"{GENERATED}x.py"}}},
    }
    result = places.resolved(document, "config.json")
    assert result["input_model"]["config"]["model_path"] == str(tmp_path / "model" / "m.onnx")
    assert result["data_configs"] == [
        {"user_script": str(tmp_path / "code" / "user_script.py"), "script_dir": str(tmp_path / "code")}
    ]
    assert result["evaluators"]["data_dir"] == str(tmp_path / "model" / "tokenizer")
    assert result["passes"]["p"]["config"] == {
        "data_dir": str(tmp_path / "code" / "data"),
        "user_script": str(tmp_path / "generated" / "x.py"),
    }
    assert document["data_configs"] == [{"user_script": "user_script.py", "script_dir": "."}]


def test_names_that_are_no_paths_stay(places: Places) -> None:
    document = {"input_model": {"model_path": "Intel/bert"}, "data": {"data_dir": "glue/mrpc"}}
    assert places.resolved(document, "config.json") == document


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"input_model": {"model_path": "other.onnx"}}, "/input_model/model_path: other.onnx: not in "),
        ({"evaluators": {"e": {"user_script": "no.py"}}}, "/evaluators/e/user_script: no.py: no such file"),
        ({"data_configs": [{"script_dir": "no"}]}, "/data_configs/0/script_dir: no: no such file"),
    ],
)
def test_what_is_missing_is_named(places: Places, document: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        places.resolved(document, "config.json")


def test_data_files_in_a_list_or_by_their_splits(places: Places, tmp_path: Path) -> None:
    (tmp_path / "code" / "rows.jsonl").write_text("", encoding="utf-8")
    found = str(tmp_path / "code" / "rows.jsonl")
    document = {"a": {"data_files": ["rows.jsonl", "s://elsewhere"]}, "b": {"data_files": {"train": ["rows.jsonl"]}}}
    result = places.resolved(document, "config.json")
    assert result["a"]["data_files"] == [found, "s://elsewhere"]
    assert result["b"]["data_files"] == {"train": [found]}


def test_generated_scripts_are_python_and_named_by_their_content(tmp_path: Path) -> None:
    function = UserFunction("it's a script.py", None, "load")
    made = (
        scripts.data("/a", "x", function, "data", 4, function),
        scripts.data("/a", "x", function, "data", 5, function),
        scripts.evaluation("/b", "y", function, None, 1),
        scripts.model_loader("/c"),
    )
    assert len({script.file_name for script in made}) == 4
    scripts.write(tmp_path, made)
    for script in made:
        ast.parse((tmp_path / script.file_name).read_text(encoding="utf-8"))
        assert script.reference == GENERATED + script.file_name


def test_an_installed_distribution_becomes_the_wheel_it_came_from(tmp_path: Path) -> None:
    wheel = runtime_wheel.repack(tmp_path / "wheels", "pyyaml")
    assert wheel.name.startswith("pyyaml-") or wheel.name.startswith("PyYAML-")
    first = wheel.read_bytes()
    wheel.unlink()
    assert runtime_wheel.repack(tmp_path / "wheels", "pyyaml").read_bytes() == first
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if name.endswith(("INSTALLER", ".pyc")) or ".." in name]
    target = tmp_path / "target"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(target)]
    subprocess.run([*pip, str(wheel)], check=True)
    program = f"import sys; sys.path.insert(0, {str(target)!r}); import yaml; print(yaml.__file__)"
    loaded = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert loaded.stdout.startswith(str(target))


def test_the_wheel_is_kept_where_it_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert runtime_wheel.folder(tmp_path) == tmp_path / "cache" / "aml_olive_optimizer"
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert runtime_wheel.folder(tmp_path) == tmp_path
    monkeypatch.setenv("AML_OLIVE_OPTIMIZER_WHEELS", str(tmp_path / "wheels"))
    assert runtime_wheel.folder(tmp_path) == tmp_path / "wheels"


def test_a_runtime_that_was_tampered_with_is_not_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    info = site / "thing-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "thing.py").write_text("changed", encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n", encoding="utf-8")
    (info / "WHEEL").write_text("Wheel-Version: 1.0\nTag: py3-none-any\n", encoding="utf-8")
    (info / "RECORD").write_text("thing.py,sha256=AAAA,7\nthing-1.0.dist-info/METADATA,,\n", encoding="utf-8")
    monkeypatch.syspath_prepend(site)
    with pytest.raises(ToolError, match=r"thing\.py: is not what thing installed"):
        runtime_wheel.repack(tmp_path / "wheels", "thing")
    (site / "thing.py").unlink()
    with pytest.raises(ToolError, match=r"thing\.py: is missing from thing; install it again"):
        runtime_wheel.repack(tmp_path / "wheels", "thing")
    assert not list((tmp_path / "wheels").iterdir())


def test_the_default_search_is_valid_and_says_what_it_assumes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(
        environment, "available_providers", lambda: ["OpenVINOExecutionProvider", "CPUExecutionProvider"]
    )
    inputs = [Input("pixels", ("batch", 3, None, 224), "float32")]
    assumed = default_search._search({"type": "ONNXModel", "model_path": "m.onnx"}, inputs, {}, [], 4)
    validate(assumed.configuration, SCHEMA, "default")
    assert forced.accelerators(assumed.configuration) == [
        ("cpu", ["CPUExecutionProvider", "OpenVINOExecutionProvider"])
    ]
    (data,) = assumed.configuration["data_configs"]
    assert data["load_dataset_config"]["input_shapes"] == [[1, 3, 1, 224]]
    assert assumed.configuration["passes"]["perf_tuning"]["intra_thread_num_list"] == [1, 2, 4]
    assert assumed.assumed[:2] == (
        "the open dimension 'batch' is taken as 1",
        "an open dimension without a name is taken as 1",
    )
    assert legacy.translate(assumed.configuration, "default", 4).changes == ()


def test_a_hugging_face_folder_tells_its_inputs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environment, "available_providers", lambda: ["CPUExecutionProvider"])
    config = {"architectures": ["BertForTokenClassification"], "vocab_size": 9, "type_vocab_size": 2, "hidden_size": 8}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assumed = default_search.configuration(tmp_path, 2)
    validate(assumed.configuration, SCHEMA, "default")
    model = assumed.configuration["input_model"]
    assert model["task"] == "token-classification"
    assert model["io_config"]["input_names"] == ["input_ids", "attention_mask", "token_type_ids"]
    (tmp_path / "config.json").write_text(
        json.dumps({"architectures": ["ViTForImageClassification"]}), encoding="utf-8"
    )
    with pytest.raises(InputError, match="/architectures: ViTForImageClassification: not a text model"):
        default_search.configuration(tmp_path, 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "config.json: line 1, column 2: not JSON"),
        ("[]", "config.json: not an object"),
        ("{}", "/architectures: none: not a text model"),
        ('{"architectures": "BertModel", "vocab_size": 9}', "/architectures: none: not a text model"),
        ('{"architectures": [7]}', "/architectures: 7: not a text model"),
    ],
)
def test_a_folder_whose_config_is_not_a_hugging_face_models(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        default_search.configuration(tmp_path, 2)


def test_requirements_do_not_move_what_the_pins_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "attrs-0.1-py3-none-any.whl"  # older than jsonschema takes
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("attrs-0.1.dist-info/METADATA", "Metadata-Version: 2.1\nName: attrs\nVersion: 0.1\n")
        archive.writestr("attrs-0.1.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("attrs-0.1.dist-info/RECORD", "")
    (tmp_path / "requirements.txt").write_text(f"{wheel}\n", encoding="utf-8")
    monkeypatch.setattr(environment, "PINNED", ("jsonschema",))
    monkeypatch.setenv("PIP_DRY_RUN", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ToolError, match=r"cannot be installed beside the optimizer's own packages: .*attrs"):
        environment.install_requirements(tmp_path, tmp_path / "constraints.txt")
    (tmp_path / "requirements.txt").write_text("attrs\n", encoding="utf-8")
    environment.install_requirements(tmp_path, tmp_path / "constraints.txt")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((), "neither a .onnx file nor"),
        (("a.onnx", "b.onnx"), r"2 models \(a.onnx, b.onnx\)"),
        (("m.pt",), "m.pt: a PyT"),
    ],
)
def test_a_folder_that_says_too_little_or_too_much(tmp_path: Path, names: tuple[str, ...], said: str) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match=said):
        default_search.configuration(tmp_path, 2)


def test_the_cache_is_kept_apart_by_what_measurements_depend_on(tmp_path: Path) -> None:
    (tmp_path / "user_script.py").write_text("a = 1", encoding="utf-8")
    first = environment.fingerprint(["evaluators"], [tmp_path])
    assert environment.fingerprint(["evaluators"], [tmp_path]) == first
    assert environment.fingerprint(["others"], [tmp_path]) != first
    assert environment.fingerprint(["evaluators"], []) != first
    assert environment.fingerprint(["evaluators"], [tmp_path / "user_script.py"]) == first
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "x.pyc").write_bytes(b"x")
    for folder in (".olive-cache", "outputs"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.json").write_text("{}", encoding="utf-8")
    assert environment.fingerprint(["evaluators"], [tmp_path], [tmp_path / "outputs"]) == first
    (tmp_path / "outputs" / "model.json").unlink()
    assert environment.fingerprint(["evaluators"], [tmp_path]) == first
    (tmp_path / "user_script.py").write_text("a = 2", encoding="utf-8")
    assert environment.fingerprint(["evaluators"], [tmp_path]) != first


def test_a_second_runtime_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_version", lambda name: "1.24.1" if name.startswith("onnxruntime") else None)
    with pytest.raises(ToolError, match="onnxruntime is installed beside onnxruntime-openvino and disables OpenVINO"):
        environment.available_providers()


def test_lines_that_are_no_events_are_passed_over() -> None:
    assert events.parse(b'{"kind": "done"}\n') == {"kind": "done"}
    for noise in (b"Downloading 3%\n", b"[1, 2]\n", b'{"other": 1}\n', b"\xff\n"):
        assert events.parse(noise) is None


EXAMPLES = Path(__file__).parents[2] / "data" / "valid" / "optimized_parameters"


@pytest.mark.parametrize("name", ["written", "olive_pairs", "olive_names"])
def test_optimized_parameters_are_read_in_every_form(name: str) -> None:
    read = optimized_parameters.read(EXAMPLES / f"{name}.json")
    (provider, options) = read["execution_provider"][0]
    assert provider.endswith("ExecutionProvider")
    assert options == {}
    assert set(read["session_options"]) == set(optimized_parameters.SESSION_OPTIONS)
    assert read["io_bind"] is False
    assert "provider_options" not in read


def test_optimized_parameters_in_a_folder(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"holds neither optimized_parameters\.json nor an inference_config\.json; name"
    ):
        optimized_parameters.read(tmp_path)
    one = (EXAMPLES / "olive_names.json").read_text(encoding="utf-8")
    (tmp_path / "cpu-cpu_BestCandidateModel_1_inference_config.json").write_text(one, encoding="utf-8")
    assert optimized_parameters.read(tmp_path)["session_options"]["intra_op_num_threads"] == 14
    (tmp_path / "cpu-cpu_BestCandidateModel_2_inference_config.json").write_text(one, encoding="utf-8")
    with pytest.raises(
        InputError, match=r"here, but cpu-cpu_Best\w+_1_\S+, cpu-cpu_Best\w+_2_\S+; name the one file to use"
    ):
        optimized_parameters.read(tmp_path)
    (tmp_path / "optimized_parameters.json").write_text((EXAMPLES / "written.json").read_text(), encoding="utf-8")
    assert optimized_parameters.read(tmp_path)["rank"] == 1


def test_provider_options_must_match_the_providers() -> None:
    with pytest.raises(InputError, match=r"p\.json: /provider_options: 1 of them for 2 execution providers"):
        optimized_parameters.provider_pairs(["A", "B"], [{}], "p.json")
