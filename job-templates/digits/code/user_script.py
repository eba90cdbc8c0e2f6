"""What the optimizer calls: the network, the held-out digits to judge it by, and what its logits mean."""

from __future__ import annotations

import torch
from digits import CLASSES, load_model, train_and_held_out
from olive.data.registry import Registry
from torch.utils.data import Dataset

__all__ = ["CLASSES", "load_model"]


class HeldOutDigits(Dataset):  # type: ignore[type-arg]  # torch's Dataset is generic only for type checkers
    """One digit at a time: ({"pixels": (64,)}, label)."""

    def __init__(self, count: int) -> None:
        self._digits = train_and_held_out()[1]
        self._count = min(count, len(self._digits.labels))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        return {"pixels": torch.from_numpy(self._digits.images[index])}, torch.tensor(self._digits.labels[index])


@Registry.register_dataset()
def held_out_digits(data_dir: str | None = None, count: int = 899) -> HeldOutDigits:
    """Return the held-out digits as a dataset; the data ships with scikit-learn, so no data_dir is needed."""
    return HeldOutDigits(count)


@Registry.register_post_process()
def most_likely_digit(logits: torch.Tensor) -> torch.Tensor:
    """Turn (N, 10) logits into (N,) digits."""
    return logits.argmax(dim=1)
