#!/usr/bin/env python3
"""Make the networks of this folder's figures: the digits example's, of several widths and depths, as ONNX files.

They are not trained: what a request takes does not depend on what they have learnt. Needs PyTorch.

python networks.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "digits" / "code"))

from digits import PIXELS, DigitsNet

# Channels and residual blocks; the example's own is the third.
SIZES = ((16, 2), (32, 3), (48, 4), (64, 6))


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("networks: error: one folder is wanted")
    torch.manual_seed(0)
    for channels, blocks in SIZES:
        folder = Path(sys.argv[1]) / f"digits-{channels}x{blocks}"
        folder.mkdir(parents=True, exist_ok=True)
        torch.onnx.export(
            DigitsNet(channels, blocks).eval(),
            (torch.zeros(1, PIXELS),),
            str(folder / "model.onnx"),
            input_names=["pixels"],
            output_names=["logits"],
            dynamic_axes={"pixels": {0: "batch"}, "logits": {0: "batch"}},
            opset_version=17,
            dynamo=False,
        )
        print(folder)


if __name__ == "__main__":
    main()
