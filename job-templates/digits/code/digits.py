"""The digits example: its data (scikit-learn's scanned digits, split once and for all) and its network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SEED = 20240229
HELD_OUT_SHARE = 0.5
PIXELS = 64  # 8 x 8, each 0 (white) to 16 (black)
BRIGHTEST = 16.0
CLASSES = 10


@dataclass(frozen=True)
class Digits:
    """Images of shape (N, 64), float32, 0 to 16, and their labels of shape (N,), int64."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]


def train_and_held_out() -> tuple[Digits, Digits]:
    """Return the training digits and the held-out ones; the same split for everyone who asks."""
    images, labels = load_digits(return_X_y=True)
    train_x, held_x, train_y, held_y = train_test_split(
        images.astype(np.float32), labels.astype(np.int64), test_size=HELD_OUT_SHARE, random_state=SEED, stratify=labels
    )
    return Digits(train_x, train_y), Digits(held_x, held_y)


class DigitsNet(torch.nn.Module):
    """A residual convolutional network: (N, 64) pixels to (N, 10) logits."""

    def __init__(self, channels: int = 48, blocks: int = 4) -> None:
        super().__init__()
        self.stem = _convolution(1, channels)
        self.blocks = torch.nn.ModuleList(
            torch.nn.Sequential(_convolution(channels, channels), _convolution(channels, channels))
            for _ in range(blocks)
        )
        self.head = torch.nn.Linear(channels * 4, CLASSES)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        features = self.stem((pixels / BRIGHTEST).reshape(-1, 1, 8, 8))
        for block in self.blocks:
            features = features + block(features)
        pooled = torch.nn.functional.max_pool2d(features, 4)
        logits: torch.Tensor = self.head(pooled.flatten(1))
        return logits


def _convolution(inputs: int, outputs: int) -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        torch.nn.BatchNorm2d(outputs),
        torch.nn.ReLU(),
    )


def load_model(model_path: str) -> torch.nn.Module:
    """Return the trained network from the weights that train.py wrote."""
    network = DigitsNet()
    weights: dict[str, Any] = torch.load(model_path, map_location="cpu", weights_only=True)
    network.load_state_dict(weights)
    return network.eval()
