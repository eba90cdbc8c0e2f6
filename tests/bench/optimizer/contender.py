"""One form of the model in a process of its own; run.py asks it questions on stdin, one line each.

`contender.py export MODEL_FOLDER TARGET` writes the model as PyTorch's exporter makes it, and nothing more, and
`contender.py payload MODEL_FOLDER TARGET` request bodies of full length for the deployed ones.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "job-templates" / "minilm" / "code"))

minilm: Any = importlib.import_module("minilm")

Tokens = dict[str, torch.Tensor]
Run = Callable[[Tokens], torch.Tensor]
logging.set_verbosity_error()  # the pooler's weights, which the embedding does not use, are left out on purpose
WARM_UP_RUNS = 20
VOCABULARY = 30522
PASSAGES_PER_TEXT = 4  # eight of them are longer than 128 tokens by far


def pytorch(folder: Path, cores: int) -> Run:
    """Return the original model as its users run it: without gradients, with the attention that PyTorch prefers."""
    torch.set_num_threads(cores)
    model = minilm.SentenceEncoder(AutoModel.from_pretrained(folder, add_pooling_layer=False)).eval()

    def run(inputs: Tokens) -> torch.Tensor:
        with torch.inference_mode():
            return torch.as_tensor(model(**inputs))

    return run


def onnxruntime(model: Path, settings: dict[str, Any]) -> Run:
    """Return an ONNX model under the session options of an optimized_parameters.json; absent ones are defaults."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    asked = settings["session_options"]
    if (mode := asked.get("execution_mode")) is not None:
        options.execution_mode = ort.ExecutionMode.ORT_PARALLEL if mode else ort.ExecutionMode.ORT_SEQUENTIAL
    if (level := asked.get("graph_optimization_level")) is not None:
        options.graph_optimization_level = ort.GraphOptimizationLevel(level)
    for name in ("inter_op_num_threads", "intra_op_num_threads"):
        if asked.get(name) is not None:
            setattr(options, name, asked[name])
    providers = [(name, provider_options) for name, provider_options in settings["execution_provider"]]
    session = ort.InferenceSession(str(model), options, providers=providers)
    if session.get_providers()[0] != providers[0][0]:
        raise RuntimeError(f"{providers[0][0]} was asked for, {session.get_providers()} is what the session uses")

    def run(inputs: Tokens) -> torch.Tensor:
        return torch.from_numpy(session.run(None, {name: column.numpy() for name, column in inputs.items()})[0])

    return run


def export(folder: Path, target: Path) -> None:
    """Write the model as ONNX, with free batch size and length."""
    axes = {name: {0: "batch_size", 1: "sequence_length"} for name in minilm.INPUTS}
    example = {name: torch.ones((1, minilm.SEQUENCE_LENGTH), dtype=torch.int64) for name in minilm.INPUTS}
    warnings.filterwarnings("ignore", "You are using the legacy TorchScript-based ONNX export")  # on purpose
    torch.onnx.export(
        minilm.load_model(str(folder)),
        tuple(example.values()),
        str(target),
        opset_version=17,
        input_names=list(minilm.INPUTS),
        output_names=["embedding"],
        dynamic_axes={**axes, "embedding": {0: "batch_size"}},
        dynamo=False,
    )


def payload(folder: Path, target: Path) -> None:
    """Write request bodies of one text each that comes to exactly SEQUENCE_LENGTH tokens: nothing is truncated."""
    tokenizer = minilm.load_tokenizer(folder)
    _, passages = minilm.questions_and_passages()
    bodies = []
    for start in range(0, len(passages), PASSAGES_PER_TEXT):
        text = " ".join((passages + passages)[start : start + 2 * PASSAGES_PER_TEXT])
        last = tokenizer.encode(text).offsets[minilm.SEQUENCE_LENGTH - 2]  # what is behind it is the end mark
        cut = text[: last[1]]
        tokenizer.no_truncation()
        length = len(tokenizer.encode(cut).ids)
        tokenizer.enable_truncation(minilm.SEQUENCE_LENGTH)
        if length != minilm.SEQUENCE_LENGTH:
            raise RuntimeError(f"{length} tokens, not {minilm.SEQUENCE_LENGTH}: {cut}")
        bodies.append(json.dumps({"texts": [cut]}, ensure_ascii=False, separators=(",", ":")) + "\n")
    target.write_text("".join(bodies), encoding="utf-8")


def times(run: Run, count: int) -> list[float]:
    """Return the milliseconds of `count` runs, each on other tokens: (1, 128), no padding."""
    taken = []
    for seed in range(count):
        generator = torch.Generator().manual_seed(seed)
        shape = (1, minilm.SEQUENCE_LENGTH)
        ids = torch.randint(1000, VOCABULARY, shape, generator=generator)
        inputs = dict(zip(minilm.INPUTS, (ids, torch.ones_like(ids), torch.zeros_like(ids)), strict=True))
        started = time.perf_counter()
        run(inputs)
        taken.append((time.perf_counter() - started) * 1000)
    return taken


def embeddings(run: Run, folder: Path) -> dict[str, Any]:
    """Return what the model makes of the held-out sentences, and how well it retrieves."""
    tokenizer = minilm.load_tokenizer(folder)

    def encode(texts: list[str]) -> torch.Tensor:
        return torch.cat([run(minilm.tokens(tokenizer, [text])) for text in texts])

    questions, passages = minilm.questions_and_passages()
    return {
        "held_out": encode(minilm.texts("held_out")).tolist(),
        "mrr": minilm.mean_reciprocal_rank(encode(questions), encode(passages)),
    }


def quality(run: Run, folder: Path, reference: dict[str, Any]) -> dict[str, float]:
    """Compare with the original's `embeddings`."""
    ours = embeddings(run, folder)
    cosines = torch.nn.functional.cosine_similarity(
        torch.tensor(ours["held_out"]), torch.tensor(reference["held_out"]), dim=1
    )
    return {
        "mean_cosine": float(cosines.mean()),
        "least_cosine": float(cosines.min()),
        "mrr": ours["mrr"],
        "original_mrr": reference["mrr"],
    }


def main() -> None:
    if (write := {"export": export, "payload": payload}.get(sys.argv[1])) is not None:
        write(Path(sys.argv[2]), Path(sys.argv[3]))
        return
    name, model, settings, cores = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]), int(sys.argv[4])
    run = pytorch(model, cores) if name == "pytorch" else onnxruntime(model, settings)
    times(run, WARM_UP_RUNS)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        question, _, rest = line.strip().partition(" ")
        answer: Any
        if question == "times":
            answer = times(run, int(rest))
        elif question == "embeddings":
            answer = embeddings(run, Path(json.loads(rest)))
        elif question == "quality":
            given = json.loads(rest)
            answer = quality(run, Path(given["folder"]), given["reference"])
        else:
            raise ValueError(f"unknown question {question!r}")
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
