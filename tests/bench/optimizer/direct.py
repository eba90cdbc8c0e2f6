"""Call Olive itself on an example's search: `direct.py EXAMPLE_FOLDER MODEL_FOLDER`, in an empty folder.

The configuration gets absolute paths and a cache here, and PyTorch's exporter is made explicit, without which Olive
0.9.3 would search another graph; nothing else of the tool is used.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

import torch

SCRIPTS = ("user_script", "model_script", "script_dir")
OF_MODEL = ("model_path", "data_dir")


def absolute(value: Any, code: Path, model: Path) -> Any:
    """Return a configuration whose paths do not depend on the current folder."""
    if isinstance(value, list):
        return [absolute(entry, code, model) for entry in value]
    if not isinstance(value, dict):
        return value
    result: dict[str, Any] = {}
    for key, entry in value.items():
        if key in SCRIPTS:
            result[key] = str(code / entry)
        elif key in OF_MODEL:
            result[key] = str(model / entry)
        elif key == "additional_files":
            result[key] = [str(model / name) for name in entry]
        else:
            result[key] = absolute(entry, code, model)
    return result


def main() -> None:
    example, model = Path(sys.argv[1]), Path(sys.argv[2])
    configuration = json.loads((example / "optimizer.json").read_text(encoding="utf-8"))
    configuration = absolute(configuration, example / "code", model)
    configuration["engine"].update(
        cache_dir=str(Path("cache").absolute()),
        output_dir=str(Path("out").absolute()),
        packaging_config={"type": "Zipfile", "name": "OutputModels"},
        plot_pareto_frontier=True,
        log_severity_level=1,
    )
    configuration["engine"]["search_strategy"]["output_model_num"] = 1
    sys.path.insert(0, str(example / "code"))
    torch.onnx.export = functools.partial(torch.onnx.export, dynamo=False)
    from olive.workflows import run

    output = run(configuration)
    if not output.has_output_model():
        raise SystemExit("Olive found no model; see the log above")


if __name__ == "__main__":
    main()
