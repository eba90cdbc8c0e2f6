"""ONNX models as files: a model with its external weights is copied and renamed as one thing."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from aml_tool_core import InputError

MODEL = "model.onnx"
_NO_WEIGHTS = (".onnx", ".json")


def locate(path: Path, file_name: str | None = None) -> Path:
    """Return the .onnx file that `path`, a file or a folder, stands for. Raises InputError."""
    if path.is_file():
        return path
    if file_name:
        return path / file_name
    found = sorted(path.glob("*.onnx"))
    if len(found) != 1:
        raise InputError(f"{path}: {len(found)} .onnx files; name the one to use in onnx_file_name")
    return found[0]


def copy(path: Path, folder: Path, file_name: str | None = None, *, name: str = MODEL) -> None:
    """Copy a model to `folder` under `name`; its external weights travel with it.

    Under another name than model.onnx the weights are renamed too, `<name>.data`, so that several models can lie in one
    folder; the model then says so.
    """
    source = locate(path, file_name)
    weights = external_weights(source)
    if not weights:
        shutil.copyfile(source, folder / name)
        return
    renamed = {file: file if name == MODEL else f"{name}.{index}.data" for index, file in enumerate(weights)}
    if all(old == new for old, new in renamed.items()):
        shutil.copyfile(source, folder / name)
    else:
        _save_renamed(source, folder / name, renamed)
    for old, new in renamed.items():
        (folder / new).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.parent / old, folder / new)


def external_weights(model: Path) -> list[str]:
    """Return the files, relative to the model's folder, that hold its external weights."""
    if not any(file.suffix not in _NO_WEIGHTS for file in model.parent.iterdir()):
        return []  # nothing beside it that could hold weights: spares loading a large model
    import onnx

    return sorted(_locations(onnx.load(str(model), load_external_data=False)))


def _locations(proto: object) -> set[str]:
    return {
        entry.value
        for tensor in _tensors(proto)
        for entry in tensor.external_data  # type: ignore[attr-defined]
        if entry.key == "location"
    }


def _save_renamed(source: Path, target: Path, renamed: dict[str, str]) -> None:
    import onnx

    proto = onnx.load(str(source), load_external_data=False)
    for tensor in _tensors(proto):
        for entry in tensor.external_data:  # type: ignore[attr-defined]
            if entry.key == "location":
                entry.value = renamed[entry.value]
    target.write_bytes(proto.SerializeToString())


def _tensors(proto: object) -> Iterable[object]:
    from onnx.external_data_helper import _get_all_tensors

    return [tensor for tensor in _get_all_tensors(proto) if len(tensor.external_data)]


def size_bytes(path: Path, file_name: str | None = None) -> int:
    """Return the size of a model with its external weights."""
    model = locate(path, file_name)
    return sum(file.stat().st_size for file in (model, *(model.parent / name for name in external_weights(model))))
