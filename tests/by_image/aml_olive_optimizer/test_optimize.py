"""The optimizer, in its image, on the digits example with both execution providers."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aml_tool_core import documents

if TYPE_CHECKING:
    from tests.by_image.conftest import TrackedContainer

DIGITS = Path(__file__).resolve().parents[3] / "job-templates" / "digits"
MOUNTS = {DIGITS: "/digits"}
OPTIMIZE = (
    "python", "-m", "aml_olive_optimizer", "--config_path", "/digits/optimizer.json", "--model_path", "/model",
    "--code", "/digits/code", "--optimized_parameters_path", "parameters", "--optimized_model_path", "optimized",
)  # fmt: skip
# Generous: on a machine that is busy with other things, threads that wait for one another take many times as long.
TRAINING_LIMIT_SEC = 600
SEARCH_LIMIT_SEC = 900
PROVIDERS = {"CPUExecutionProvider", "OpenVINOExecutionProvider"}

# Run, because a provider that is listed may still fall back to another one.
RUN_BOTH = """\
import numpy, onnx, onnxruntime
from onnx import TensorProto, helper
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "x"], ["y"])], "square",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 2])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 2])],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
for provider in ("CPUExecutionProvider", "OpenVINOExecutionProvider"):
    session = onnxruntime.InferenceSession(model, providers=[provider])
    assert session.get_providers()[0] == provider, session.get_providers()
    print(provider, session.run(None, {"x": numpy.array([[1, 1], [0, 1]], dtype=numpy.float32)})[0].tolist())
"""


@pytest.mark.parametrize("user", [None, "12345:54321"])
def test_both_providers_run_a_model(container: TrackedContainer, user: str | None) -> None:
    finished = container.run("python", "-c", RUN_BOTH, user=user)
    assert finished.exit_code == 0, finished.stderr
    assert finished.stdout.splitlines() == [f"{provider} [[1.0, 2.0], [0.0, 1.0]]" for provider in sorted(PROVIDERS)]


@pytest.fixture(scope="module")
def model(shared_container: TrackedContainer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits network's weights, trained in the image."""
    folder = tmp_path_factory.mktemp("trained")
    folder.chmod(0o777)
    finished = shared_container.run(
        "python", "/digits/train.py", "--output", "/job/model",
        work=folder, mounts=MOUNTS, environment={"OMP_NUM_THREADS": "1"}, limit_sec=TRAINING_LIMIT_SEC,
    )  # fmt: skip
    assert finished.exit_code == 0, finished.stderr
    return folder / "model"


@pytest.mark.parametrize("user", [None, "0:0"])
def test_optimizes_the_digits_network(container: TrackedContainer, model: Path, work: Path, user: str | None) -> None:
    mounts = {**MOUNTS, model: "/model"}
    finished = container.run(*OPTIMIZE, work=work, mounts=mounts, user=user, limit_sec=SEARCH_LIMIT_SEC)
    assert finished.exit_code == 0, finished.stderr[-4000:]
    best = documents.read_json(work / "parameters" / "optimized_parameters.json", "optimized_parameters")
    written = (work / "optimized" / "model.onnx").read_bytes()
    assert best["model_sha256"] == hashlib.sha256(written).hexdigest()
    assert best["execution_provider"][0][0] in PROVIDERS
    footprints = sorted(path.name for path in (work / "outputs").glob("*_footprints.json"))
    assert any("openvino" in name for name in footprints), footprints
    assert any("cpu-cpu" in name for name in footprints), footprints
    with zipfile.ZipFile(work / "outputs" / "OutputModels.zip") as package:
        names = package.namelist()
    assert {"CandidateModels", "SampleCode", "ONNXRuntimePackages"} <= {name.split("/")[0] for name in names}
    assert any(name.endswith(".whl") for name in names), "the runtime that it was measured with"


def test_a_user_adds_packages_but_replaces_none(container: TrackedContainer, work: Path) -> None:
    """What `--code`'s requirements.txt needs of the image, whoever runs it."""
    wheel = work / "greeting-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("greeting.py", "WORD = 'hello'\n")
        archive.writestr("greeting-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
        archive.writestr(
            "greeting-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("greeting-1.0.dist-info/RECORD", "")
    added = container.run(
        "sh", "-c", f"pip install --quiet --no-index {wheel.name} && python -c 'import greeting; print(greeting.WORD)'",
        work=work,
    )  # fmt: skip
    assert (added.exit_code, added.stdout) == (0, "hello\n"), added.stderr
    removed = container.run("sh", "-c", "rm -rf /opt/venv/lib/python3*/site-packages/numpy; python -c 'import numpy'")
    assert removed.exit_code == 0, removed.stderr
