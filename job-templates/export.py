#!/usr/bin/env python3
"""Export an example's PyTorch model to ONNX as it is: what one would deploy without the optimizer.

python job-templates/export.py digits --model_path MODEL_FOLDER --output FOLDER
"""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import sys
import warnings
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
OPSET = 17


def export(example: Path, model_folder: Path, output: Path) -> None:
    """Write model.onnx, and the files that travel with the model, as the example's optimizer.json describes it."""
    described = json.loads((example / "optimizer.json").read_text(encoding="utf-8"))["input_model"]
    sys.path.insert(0, str(example / "code"))
    user_script = importlib.import_module(Path(described["model_script"]).stem)
    model = getattr(user_script, described["model_loader"])(str(model_folder / described["model_path"])).eval()
    io = described["io_config"]
    inputs = tuple(
        torch.zeros(shape, dtype=getattr(torch, kind))
        for shape, kind in zip(io["input_shapes"], io["input_types"], strict=True)
    )
    axes = {name: {int(axis): label for axis, label in named.items()} for name, named in io["dynamic_axes"].items()}
    output.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore", "You are using the legacy TorchScript-based ONNX export")  # on purpose
    torch.onnx.export(
        model,
        inputs,
        str(output / "model.onnx"),
        input_names=io["input_names"],
        output_names=io["output_names"],
        dynamic_axes=axes,
        opset_version=OPSET,
        dynamo=False,
    )
    for name in described.get("model_attributes", {}).get("additional_files", ()):
        shutil.copy(model_folder / name, output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("example", help="a folder beside this file, e.g. digits")
    parser.add_argument("--model_path", type=Path, required=True, help="the folder that train.py wrote")
    parser.add_argument("--output", type=Path, required=True, help="folder for model.onnx")
    given = parser.parse_args()
    export(HERE / given.example, given.model_path, given.output)


if __name__ == "__main__":
    main()
