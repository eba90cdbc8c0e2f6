"""The MiniLM example: the sentence encoder that is to be optimized, its tokenizer, and the texts that judge it.

The model folder is a Hugging Face one (config.json, model.safetensors, tokenizer.json); train.py fetches it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import AutoModel

HERE = Path(__file__).parent
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
SEQUENCE_LENGTH = 128  # what the model was trained with, and where it truncates here
PADDING_ID = 0

Tokens = dict[str, torch.Tensor]  # one entry per name of INPUTS, int64, each (N, length)


class SentenceEncoder(torch.nn.Module):
    """The model with its pooling: (N, length) tokens to (N, 384) embeddings of length 1."""

    def __init__(self, encoder: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> torch.Tensor:
        states = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids, return_dict=False
        )[0]
        weights = attention_mask.unsqueeze(-1).to(states.dtype)
        mean = (states * weights).sum(dim=1) / weights.sum(dim=1)
        return mean / mean.norm(dim=1, keepdim=True)


def load_model(model_path: str) -> SentenceEncoder:
    """Return the encoder in the folder. Its attention is written out, which is the form that the fusion recognizes."""
    encoder = AutoModel.from_pretrained(model_path, attn_implementation="eager", add_pooling_layer=False)
    return SentenceEncoder(encoder).eval()


def load_tokenizer(folder: Path) -> Tokenizer:
    """Return the folder's tokenizer, which pads to the longest text of a batch and truncates at SEQUENCE_LENGTH."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(SEQUENCE_LENGTH)
    tokenizer.enable_padding(pad_id=PADDING_ID)
    return tokenizer


def tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> Tokens:
    """Return the model's inputs for a batch of texts."""
    encoded = tokenizer.encode_batch(list(texts))
    columns = ([e.ids for e in encoded], [e.attention_mask for e in encoded], [e.type_ids for e in encoded])
    return {name: torch.tensor(column, dtype=torch.int64) for name, column in zip(INPUTS, columns, strict=True)}


def texts(part: str) -> list[str]:
    """Return the sentences of a part: calibration, validation or held_out. No sentence is in two of them."""
    return (HERE / f"{part}.txt").read_text(encoding="utf-8").splitlines()


def questions_and_passages() -> tuple[list[str], list[str]]:
    """Return the questions, and the passages of which the one at the same index answers each."""
    lines = (HERE / "retrieval.jsonl").read_text(encoding="utf-8").splitlines()
    pairs = [json.loads(line) for line in lines]
    return [pair["question"] for pair in pairs], [pair["passage"] for pair in pairs]


def full_length(tokenizer: Tokenizer, part: str) -> Tokens:
    """Return one input of exactly SEQUENCE_LENGTH tokens without padding: (1, SEQUENCE_LENGTH)."""
    return tokens(tokenizer, [" ".join(texts(part))])


@functools.lru_cache(maxsize=8)
def original_embeddings(folder: Path, part: str) -> torch.Tensor:
    """Return what the original model in the folder makes of the sentences of a part, one at a time: (N, 384)."""
    model, tokenizer = load_model(str(folder)), load_tokenizer(folder)
    with torch.inference_mode():
        return torch.cat([model(**tokens(tokenizer, [text])) for text in texts(part)])


def mean_cosine(embeddings: torch.Tensor, reference: torch.Tensor) -> float:
    """Return the mean cosine between corresponding rows: 1 for the original model itself."""
    return float(torch.nn.functional.cosine_similarity(embeddings, reference, dim=1).mean())


def mean_reciprocal_rank(questions: torch.Tensor, passages: torch.Tensor) -> float:
    """Return the mean of 1 / (rank of the passage that answers): 1 when it is always the nearest."""
    similarities = questions @ passages.T
    ranks = 1 + (similarities > similarities.diagonal().unsqueeze(1)).sum(dim=1)
    return float((1.0 / ranks).mean())
