"""Small models of every shape, and the optimizer run on them by its command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[3]
EXAMPLES = REPOSITORY / "tests" / "data" / "valid" / "olive_config"
LIMIT_SEC = 300

NETWORK = """
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(4, 64)
        self.second = torch.nn.Linear(64, 3)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))
"""

USER_SCRIPT = """
import torch


def create_dataloader(data_dir, batch_size):
    images = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    labels = (images[:, 0] > 0).long()
    return torch.utils.data.DataLoader([({"x": x}, y) for x, y in zip(images, labels)], batch_size=batch_size)


def post_process(output):
    return output.argmax(dim=1)


def evaluate(model, data_dir, batch_size, device, execution_providers):
    from pathlib import Path

    session = model.prepare_session(inference_settings=None, device=device, execution_providers=execution_providers)
    batches = 0
    for inputs, _ in create_dataloader(data_dir, batch_size):
        if type(model).__name__ == "ONNXModelHandler":
            inputs = {name: value.numpy() for name, value in inputs.items()}
        model.run_session(session, inputs)
        batches += 1
    assert Path(data_dir, "words.txt").read_text() == "found"
    return {"score": float(batches)}
"""


@dataclass(frozen=True)
class Models:
    """Folders of models, and the code that belongs to them."""

    files: Path  # model.pt, script.pt, model.onnx, fixed.onnx (its batch is 1), outside.onnx with its weights beside it
    bert: Path  # a Hugging Face folder
    code: Path
    sentences: Path  # JSON Lines


@dataclass(frozen=True)
class Ended:
    """How a run of the optimizer ended."""

    code: int
    stderr: str
    folder: Path

    @property
    def error(self) -> str:
        """The one line of a failure."""
        lines = [line for line in self.stderr.splitlines() if line.startswith("aml_olive_optimizer: error: ")]
        assert len(lines) == 1, self.stderr
        return lines[0]

    def output(self, *parts: str) -> Any:
        """A JSON document that the run wrote."""
        return json.loads(self.folder.joinpath(*parts).read_text(encoding="utf-8"))


Optimize = Callable[..., Ended]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    import onnx
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    root = tmp_path_factory.mktemp("models")
    code, files, bert = root / "code", root / "files", root / "bert"
    for folder in (code / "data", files, bert):
        folder.mkdir(parents=True)
    (code / "data" / "words.txt").write_text("found", encoding="utf-8")
    (code / "user_script.py").write_text(USER_SCRIPT, encoding="utf-8")
    (code / "contract_test_network.py").write_text(NETWORK, encoding="utf-8")
    sys.path.insert(0, str(code))
    try:
        from contract_test_network import Net  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(code))
    torch.manual_seed(0)
    net = Net().eval()
    example = torch.zeros(1, 4)
    torch.save(net, files / "model.pt")
    torch.jit.trace(net, example).save(str(files / "script.pt"))
    torch.onnx.export(
        net, (example,), str(files / "model.onnx"), input_names=["x"], output_names=["y"], dynamo=False,
        dynamic_axes={"x": {0: "batch"}},
    )  # fmt: skip
    torch.onnx.export(net, (example,), str(files / "fixed.onnx"), input_names=["x"], output_names=["y"], dynamo=False)
    onnx.save_model(
        onnx.load(str(files / "model.onnx")), str(files / "outside.onnx"), save_as_external_data=True,
        location="outside.onnx.data", size_threshold=0,
    )  # fmt: skip
    words = [
        "the",
        "cat",
        "dog",
        "sat",
        "on",
        "mat",
        "a",
        "house",
        "red",
        "blue",
        "green",
        "quick",
        "brown",
        "fox",
        "is",
        "was",
        "not",
        "very",
        "good",
        "bad",
    ]
    (bert / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]), encoding="utf-8")
    BertTokenizerFast(vocab_file=str(bert / "vocab.txt"), model_max_length=128).save_pretrained(bert)
    config = BertConfig(
        vocab_size=len(words) + 5, hidden_size=96, num_hidden_layers=2, num_attention_heads=12, intermediate_size=96,
        max_position_embeddings=128, num_labels=2,
    )  # fmt: skip
    BertForSequenceClassification(config).eval().save_pretrained(bert)
    sentences = root / "code" / "sentences.jsonl"
    rows = [
        {"sentence1": " ".join(words[i : i + 5]), "sentence2": " ".join(words[5 : 5 + i % 7]), "label": i % 2}
        for i in range(16)
    ]
    sentences.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return Models(files, bert, code, sentences)


@pytest.fixture
def optimize(tmp_path: Path, models: Models) -> Optimize:
    """Return a function that runs the tool in a folder of its own; the outputs of earlier runs in it stay."""

    def run(
        document: Mapping[str, Any] | None,
        *,
        model_path: Path | None = models.files,
        code: Path | None = None,
        limits: Callable[[], None] | None = None,
    ) -> Ended:
        command = command_line(tmp_path, document, model_path, code)
        done = subprocess.run(
            command, cwd=tmp_path, env=environment(tmp_path), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
            timeout=LIMIT_SEC, preexec_fn=limits, check=False,
        )  # fmt: skip
        return Ended(done.returncode, done.stderr.decode(), tmp_path)

    return run


def command_line(
    folder: Path, document: Mapping[str, Any] | None, model_path: Path | None, code: Path | None
) -> list[str]:
    """Return the command that optimizes with a configuration, written to `folder`."""
    words = [sys.executable, "-m", "aml_olive_optimizer"]
    if document is not None:
        (folder / "config.json").write_text(json.dumps(document), encoding="utf-8")
        words += ["--config_path", "config.json"]
    if model_path is not None:
        words += ["--model_path", str(model_path)]
    if code is not None:
        words += ["--code", str(code)]
    return [*words, "--optimized_parameters_path", "parameters", "--optimized_model_path", "models"]


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a run: its temporary files lie where a test can look for what is left of them."""
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    return {**os.environ, "TMPDIR": str(temporary)}


def example(name: str) -> dict[str, Any]:
    """Return one of the example configurations."""
    loaded: dict[str, Any] = json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    return loaded
