"""What one deploys without ONNX: the original model under PyTorch; answers the example's requests in its form.

Written to be fast, for it is the baseline: no gradients, the attention that PyTorch prefers, a thread per core, and the
texts of a request in one batch, in which PyTorch's embeddings do not depend on each other.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import AutoModel

SEQUENCE_LENGTH = 128
DECIMALS = 6
model: torch.nn.Module
tokenizer: Tokenizer


def init() -> None:
    """Load the model and its tokenizer once per process."""
    global model, tokenizer
    folder = Path(os.environ["AZUREML_MODEL_DIR"]) / os.environ["MODEL_FOLDER_NAME"]
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(SEQUENCE_LENGTH)
    tokenizer.enable_padding()
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads", flush=True)


def run(body: str) -> dict[str, list[list[float]]]:
    """Answer `{"texts": ["..."]}` with `{"embeddings": [[384 numbers]]}`, each of length 1."""
    encoded = tokenizer.encode_batch(json.loads(body)["texts"])
    mask = torch.tensor([one.attention_mask for one in encoded])
    with torch.inference_mode():
        states = model(
            input_ids=torch.tensor([one.ids for one in encoded]),
            attention_mask=mask,
            token_type_ids=torch.tensor([one.type_ids for one in encoded]),
        )[0]
        weights = mask.unsqueeze(-1)
        mean = (states * weights).sum(dim=1) / weights.sum(dim=1)
        found = torch.nn.functional.normalize(mean, dim=1)
    return {"embeddings": found.numpy().round(DECIMALS).tolist()}
