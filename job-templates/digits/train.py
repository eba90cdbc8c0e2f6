"""Train the digits network in a few seconds and write its weights; also writes the payload of the load test.

python job-templates/digits/train.py --output MODEL_FOLDER
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent / "code"))

from digits import SEED, Digits, DigitsNet, train_and_held_out

EPOCHS = 14
BATCH = 64
PAYLOAD_LINES = 64
LARGEST_BATCH = 8


def train(digits: Digits) -> DigitsNet:
    """Return the network, trained; the same weights for the same torch build."""
    torch.set_num_threads(1)  # the layers are small: several threads wait, for one another and for all else that runs
    torch.manual_seed(SEED)
    network = DigitsNet()
    images, labels = torch.from_numpy(digits.images), torch.from_numpy(digits.labels)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.02)
    steps = EPOCHS * (len(labels) // BATCH + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(labels)).split(BATCH):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(images[batch]), labels[batch], label_smoothing=0.05).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def accuracy(network: torch.nn.Module, digits: Digits) -> float:
    """Return the share of digits that the network names right."""
    with torch.inference_mode():
        named = network(torch.from_numpy(digits.images)).argmax(dim=1).numpy()
    return float((named == digits.labels).mean())


def payload(digits: Digits) -> str:
    """Return request bodies as JSON Lines: batches of 1 to 8 held-out digits, always the same ones."""
    choose = np.random.default_rng(SEED)
    lines = []
    for line in range(PAYLOAD_LINES):
        chosen = choose.choice(len(digits.labels), size=1 + line % LARGEST_BATCH, replace=False)
        lines.append(json.dumps({"data": digits.images[chosen].astype(int).tolist()}, separators=(",", ":")))
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, help="folder for the weights, digits.pt")
    parser.add_argument("--payload", type=Path, help="write the request bodies to this file")
    arguments = parser.parse_args()
    training, held_out = train_and_held_out()
    if arguments.payload:
        arguments.payload.write_text(payload(held_out), encoding="utf-8")
    if arguments.output:
        network = train(training)
        arguments.output.mkdir(parents=True, exist_ok=True)
        torch.save(network.state_dict(), arguments.output / "digits.pt")
        print(f"held-out accuracy {accuracy(network, held_out):.4f}, weights in {arguments.output / 'digits.pt'}")


if __name__ == "__main__":
    main()
