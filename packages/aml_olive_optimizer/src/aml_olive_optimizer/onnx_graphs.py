"""What an ONNX file tells of its graph: its inputs, and whether it is a transformer's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aml_tool_core import InputError

# ONNX tensor types by the names that Olive's dummy data know.
_TYPES = {1: "float32", 10: "float16", 11: "float64", 6: "int32", 7: "int64", 3: "int8", 2: "uint8", 9: "bool"}


@dataclass(frozen=True)
class Input:
    """One input of a model; an open dimension has its name (or nothing) in place of a size."""

    name: str
    shape: tuple[int | str | None, ...]
    type: str | None  # None: one that cannot be generated

    @property
    def is_open(self) -> bool:
        """Whether a dimension has no size."""
        return any(not isinstance(size, int) for size in self.shape)


def read(model: Path) -> tuple[list[Input], bool]:
    """Return a model's inputs, and whether its graph is a transformer's. Raises InputError."""
    import onnx

    try:
        proto = onnx.load(str(model), load_external_data=False)
    except Exception as error:  # protobuf's DecodeError shares no base class with anything of ours
        raise InputError(f"{model}: not an ONNX model: {error}") from None
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = []
    for entry in proto.graph.input:
        if entry.name in weights or entry.type.HasField("optional_type"):
            continue  # it need not be fed
        tensor = entry.type.tensor_type
        shape = tuple(
            dimension.dim_value if dimension.HasField("dim_value") else (dimension.dim_param or None)
            for dimension in tensor.shape.dim
        )
        inputs.append(Input(entry.name, shape, _TYPES.get(tensor.elem_type)))
    counts: dict[str, int] = {}
    for node in proto.graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    # Attention is a softmax between two matrix products; with normalized layers, that is a transformer.
    normalized = counts.get("LayerNormalization", 0) or counts.get("ReduceMean", 0)
    return inputs, counts.get("Softmax", 0) > 0 and counts.get("MatMul", 0) > 2 * counts["Softmax"] and normalized > 0
