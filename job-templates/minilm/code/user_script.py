"""What the optimizer calls: the encoder, tokenized texts, and the two measures of what an embedding is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from minilm import (
    Tokens,
    full_length,
    load_model,
    load_tokenizer,
    mean_cosine,
    mean_reciprocal_rank,
    original_embeddings,
    questions_and_passages,
    texts,
    tokens,
)
from olive.data.registry import Registry
from torch.utils.data import Dataset

__all__ = ["load_model"]


class Inputs(Dataset):  # type: ignore[type-arg]  # torch's Dataset is generic only for type checkers
    """One input of the model at a time, each of its own length: ({name: (length,)}, target)."""

    def __init__(self, inputs: list[Tokens], targets: torch.Tensor) -> None:
        self._inputs = [{name: column[0] for name, column in one.items()} for one in inputs]
        self._targets = targets

    def __len__(self) -> int:
        return len(self._inputs)

    def __getitem__(self, index: int) -> tuple[Tokens, torch.Tensor]:
        return self._inputs[index], self._targets[index]


def _inputs(data_dir: str, chosen: list[str], targets: torch.Tensor | None = None) -> Inputs:
    tokenizer = load_tokenizer(Path(data_dir))
    inputs = [tokens(tokenizer, [text]) for text in chosen]
    return Inputs(inputs, torch.zeros(len(chosen)) if targets is None else targets)


@Registry.register_dataset()
def sentences(data_dir: str, part: str) -> Inputs:
    """Return the sentences of a part, with the original model's embeddings as targets."""
    return _inputs(data_dir, texts(part), original_embeddings(Path(data_dir), part))


@Registry.register_dataset()
def calibration_sentences(data_dir: str) -> Inputs:
    """Return the sentences from which static quantization learns the ranges of activations."""
    return _inputs(data_dir, texts("calibration"))


@Registry.register_dataset()
def questions_then_passages(data_dir: str) -> Inputs:
    """Return all questions and then, in the same order, the passages that answer them."""
    questions, passages = questions_and_passages()
    return _inputs(data_dir, questions + passages)


@Registry.register_dataset()
def one_full_length(data_dir: str) -> Inputs:
    """Return a single input of the full 128 tokens: what latency is measured with."""
    return Inputs([full_length(load_tokenizer(Path(data_dir)), "calibration")], torch.zeros(1))


def agreement(output: Any, targets: torch.Tensor) -> dict[str, float]:
    """Compare embeddings with the original model's."""
    return {"mean_cosine": mean_cosine(output.preds, targets)}


def retrieval(output: Any, targets: torch.Tensor) -> dict[str, float]:
    """Rank all passages for each question."""
    questions, passages = output.preds.chunk(2)
    return {"mrr": mean_reciprocal_rank(questions, passages)}
