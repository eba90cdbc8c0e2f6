"""Whatever goes wrong ends in the convention's code and one line, with nothing half-written and nothing running."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aml_olive_optimizer import forced, worker

from .conftest import Models, Optimize, command_line, environment, example
from .test_search import onnx_search, smallest_search

pytestmark = pytest.mark.olive


def user_search(
    models: Models, tmp_path: Path, script: str, search: dict[str, Any] | None = None
) -> tuple[dict[str, Any], Path]:
    """Return a search judged by `evaluate` of a script, in the current form, and the script's folder."""
    code = tmp_path / "code"
    code.mkdir()
    (code / "user_script.py").write_text(script, encoding="utf-8")
    document = search or onnx_search()
    document["evaluators"]["latency"]["metrics"].append(
        {
            "name": "own",
            "type": "custom",
            "sub_types": [{"name": "score", "priority": 2, "higher_is_better": True}],
            "user_config": {"user_script": "user_script.py", "evaluate_func": "evaluate"},
        }
    )
    return document, code


def assert_nothing_written(folder: Path) -> None:
    assert not [path for path in (folder / "outputs").glob("*") if path.name not in ("olive.log", "optimization.html")]
    assert not (folder / "models").exists()
    assert not (folder / "parameters").exists()
    assert not list((folder / "tmp").iterdir())


def test_a_user_script_that_is_not_there(optimize: Optimize) -> None:
    ended = optimize(example("legacy_user_script"))
    assert ended.code == 2
    assert "user_script.py: no such file or folder; give --code" in ended.error
    assert_nothing_written(ended.folder)


def test_a_failing_pass_says_why(optimize: Optimize, models: Models) -> None:
    document = example("legacy_user_script")
    document["passes"] = {"conversion": {"type": "OnnxConversion", "config": {"target_opset": 99}}}
    ended = optimize(document, code=models.code)
    assert ended.code == 1
    assert "no output model: cpu-cpu: Pass run failed: " in ended.error
    assert "99" in ended.error
    assert_nothing_written(ended.folder)


def test_an_exception_in_a_users_function(optimize: Optimize, models: Models, tmp_path: Path) -> None:
    script = "def evaluate(model, device, execution_providers):\n    raise ValueError('the labels are missing')\n"
    document, code = user_search(models, tmp_path, script)
    ended = optimize(document, code=code)
    assert ended.code == 1
    assert "ValueError: the labels are missing" in ended.error
    assert_nothing_written(ended.folder)
    assert "the labels are missing" in (ended.folder / "outputs" / "olive.log").read_text(encoding="utf-8")


def test_one_provider_fails_and_the_other_is_the_result(optimize: Optimize, models: Models, tmp_path: Path) -> None:
    script = (
        "def evaluate(model, device, execution_providers):\n"
        "    if 'OpenVINO' in str(execution_providers) and type(model).__name__ == 'ONNXModelHandler':\n"
        "        raise ValueError('not on OpenVINO')\n"
        "    return {'score': 1.0}\n"
    )
    document, code = user_search(models, tmp_path, script)
    ended = optimize(document, code=code)
    assert ended.code == 0, ended.stderr
    assert "cpu-openvino: no output model: " in ended.stderr
    assert "not on OpenVINO" in ended.stderr
    assert ended.output("parameters", "optimized_parameters.json")["accelerator"] == "cpu-cpu"


def test_an_unmet_goal_tells_the_nearest_miss(optimize: Optimize) -> None:
    document = onnx_search()
    goal = {"type": "threshold", "value": 1e-9}
    document["evaluators"]["latency"]["metrics"][0]["sub_types"][0]["goal"] = goal
    ended = optimize(document)
    assert ended.code == 1
    assert "cpu-cpu: goal not met by any of 2 candidates, nearest: latency-avg " in ended.error
    assert "needed ≤ 1e-09" in ended.error
    page = (ended.folder / "outputs" / "optimization.html").read_text(encoding="utf-8")
    assert "The nearest miss: cpu-cpu" in page
    assert page.count("misses latency-avg") == 4
    assert_nothing_written(ended.folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["passes"]["tuning"].update(opt_levels=[1]), "/passes/tuning: unknown key 'opt_levels'"),
        (
            lambda d: d["passes"]["tuning"].pop("data_config"),
            "/passes/tuning: session tuning of a model with dynamic axes needs data",
        ),
        (lambda d: d["input_model"].update(model_path="missing.onnx"), "/input_model/model_path: missing.onnx: not in"),
        (
            lambda d: d["systems"]["here"]["accelerators"][0].update(execution_providers=["CUDAExecutionProvider"]),
            "execution provider CUDAExecutionProvider: not in this environment",
        ),
    ],
)
def test_bad_input_is_refused_before_anything_runs(
    optimize: Optimize, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    document = onnx_search()
    change(document)
    ended = optimize(document)
    assert ended.code == 2, ended.stderr
    assert said in ended.error
    assert "point 1" not in ended.stderr
    assert_nothing_written(ended.folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["passes"]["tuning"].update(type="OrtTuning"), "/passes/tuning/type: Olive 0.9.3 has no pass"),
        (lambda d: d["passes"]["tuning"].update(opt_level_list="high"), "/passes/tuning: "),
        (lambda d: d["evaluators"]["latency"]["metrics"][0].update(data_config="other"), "Olive does not take it"),
        (lambda d: d["engine"].update(evaluator="other"), "Olive does not take it"),
        (lambda d: d["engine"].update(target="there"), "Olive does not take it"),
        (
            lambda d: d.update(data_configs=[{"name": "held", "load_dataset_config": {"type": "Held_Out"}}]),
            "/data_configs/0/load_dataset_config/type: Olive 0.9.3 knows no 'held_out': correct the name, or register",
        ),
    ],
)
def test_what_olive_does_not_take_is_one_line(change: Callable[[dict[str, Any]], None], said: str) -> None:
    document = onnx_search()
    assert worker.refused(forced.for_olive(forced.forced(document)[0], "out", "cache", "flow")) is None
    change(document)
    reason = worker.refused(forced.for_olive(forced.forced(document)[0], "out", "cache", "flow"))
    assert reason is not None
    assert said in reason
    assert "\n" not in reason


def test_neither_configuration_nor_model(optimize: Optimize) -> None:
    ended = optimize(None, model_path=None)
    assert ended.code == 2
    assert "--config_path, --model_path: neither is given" in ended.error


def test_a_torch_file_alone_is_not_enough(optimize: Optimize, models: Models, tmp_path: Path) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    shutil.copy(models.files / "model.pt", folder)
    ended = optimize(None, model_path=folder)
    assert ended.code == 2
    assert "give a --config_path with input_model.io_config" in ended.error


def test_requirements_cannot_move_the_pins(optimize: Optimize, tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "requirements.txt").write_text("onnxruntime-openvino==1.20.0\n", encoding="utf-8")
    ended = optimize(onnx_search(), code=code)
    assert ended.code == 1
    assert "requirements.txt: cannot be installed beside the optimizer's own packages" in ended.error
    assert_nothing_written(ended.folder)


def test_requirements_that_are_met_are_no_hindrance(optimize: Optimize, tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "requirements.txt").write_text("psutil\n", encoding="utf-8")
    assert optimize(smallest_search(), code=code).code == 0


def test_a_file_that_cannot_grow(optimize: Optimize) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))  # the runtime's wheel is larger

    ended = optimize(smallest_search(), limits=small_files)
    assert ended.code == 1, ended.stderr
    assert "cannot be written" in ended.error
    package = ended.folder / "outputs" / "OutputModels"
    assert not package.exists()
    assert not package.with_suffix(".zip").exists()
    assert not (ended.folder / "parameters").exists()
    assert not list((ended.folder / "tmp").iterdir())


def test_a_full_disk(models: Models, tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine does not let us mount a small file system (unshare -rm fails)")
    folder = tmp_path / "small"
    folder.mkdir()
    command = command_line(tmp_path, smallest_search(cache_dir=str(tmp_path / "cache")), models.files, None)
    command[command.index("config.json")] = str(tmp_path / "config.json")
    script = f'mount -t tmpfs -o size=20m none "{folder}" && cd "{folder}" && "$@"; code=$?; ls -R; exit $code'
    ended = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *command],
        env=environment(tmp_path), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ended.returncode == 1, ended.stderr
    assert "No space left on device" in ended.stderr.splitlines()[-1]
    for whole in ("OutputModels", "OutputModels.zip", "model.onnx", "optimized_parameters.json"):
        assert whole not in ended.stdout.split()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_search_leaves_nothing_and_resumes(
    optimize: Optimize, models: Models, tmp_path: Path, number: signal.Signals
) -> None:
    document = onnx_search()
    document["passes"]["tuning"]["opt_level_list"] = [1, 99]
    document["evaluators"]["latency"]["metrics"][0]["sub_types"][0]["metric_config"] = {"repeat_test_num": 5_000}
    command = command_line(tmp_path, document, models.files, None)
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(tmp_path), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as running:
        assert running.stderr is not None
        said = []
        for line in running.stderr:
            said.append(line.decode())
            if "point 2 of 8" in said[-1]:
                break
        assert descendants(running.pid), "the search runs in a process of its own"
        children = descendants(running.pid)
        running.send_signal(number)
        rest = running.stderr.read().decode()
        assert running.wait(60) == 128 + number, rest
    assert (
        rest.splitlines()[-1] == f"aml_olive_optimizer: error: interrupted by {number.name}; no partial output is left"
    )
    assert "all that Olive and the user's scripts said is in outputs/olive.log" in rest
    assert (tmp_path / "outputs" / "olive.log").is_file()
    assert not [pid for pid in children if is_running(pid)]
    assert_nothing_written(tmp_path)
    if number is signal.SIGTERM:
        return  # resuming takes a whole search, and is the same after either
    ended = optimize(document)
    assert ended.code == 0, ended.stderr
    log = (tmp_path / "outputs" / "olive.log").read_text(encoding="utf-8")
    assert log.count("Loaded model from cache") >= 2


def test_a_failure_is_not_remembered(optimize: Optimize, models: Models, tmp_path: Path) -> None:
    document, code = user_search(models, tmp_path, "def evaluate(*_):\n    return {'score': 1.0}\n", smallest_search())
    assert optimize(document, code=code).code == 0
    (remembered,) = (tmp_path / ".olive-cache").glob("*/runs/*/model.json")
    remembered.write_text("{}", encoding="utf-8")  # as Olive remembers a pass that failed
    assert optimize(document, code=code).code == 0
    assert json.loads(remembered.read_text(encoding="utf-8"))["type"].lower() == "onnxmodel"


def descendants(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
            if parent == pid:
                found += [int(entry.name), *descendants(int(entry.name))]
    return found


def is_running(pid: int) -> bool:
    for _ in range(50):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.1)
    return True
