"""What the worker repairs in the libraries of the pinned versions, each with its cause."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

CONTRIBUTED = "com.microsoft"


def apply() -> None:
    """Apply every repair; to be called once, before the search."""
    export_as_configured()
    import_what_fusion_uses()
    tell_the_quantizer_types_and_shapes()


def export_as_configured() -> None:
    """Let torch export with the exporter that was asked for.

    Its own default is the dynamo one, and Olive 0.9.3 names none where its use_dynamo_exporter is false: opset 13 would
    silently become 18, and the fusion of transformer graphs nearly vanish.
    """
    import torch

    export = torch.onnx.export

    @functools.wraps(export)
    def explicit(*arguments: Any, dynamo: bool = False, **options: Any) -> Any:
        return export(*arguments, dynamo=dynamo, **options)

    torch.onnx.export = explicit


def import_what_fusion_uses() -> None:
    """Let a fused model import the domain of the operators that it uses.

    The transformers optimizer (ONNX Runtime 1.24.1) leaves the import of com.microsoft out of graphs whose first fused
    operator is EmbedLayerNormalization; ONNX Runtime tolerates it, ONNX's checker and shape inference do not.
    """
    from olive.passes.onnx.transformer_optimization import OrtTransformersOptimization

    original = OrtTransformersOptimization._run_for_config

    @functools.wraps(original)
    def repaired(self: Any, model: Any, config: Any, output_model_path: str) -> Any:
        import onnx

        result = original(self, model, config, output_model_path)
        proto = onnx.load(result.model_path, load_external_data=False)
        if _import_contributed(proto):
            Path(result.model_path).write_bytes(proto.SerializeToString())
        return result

    OrtTransformersOptimization._run_for_config = repaired


def tell_the_quantizer_types_and_shapes() -> None:
    """Let ONNX Runtime's quantizer (1.24.1) know the types and shapes of the graph that it has.

    It turns Gemm into MatMul and transposes the weight for it, but leaves the weight's old shape in value_info, as
    exporters write it; inference then fails with "Inferred shape and existing shape differ" for every weight that is
    not square. And behind a fused operator (of com.microsoft) ONNX infers no type; where it knows none, the quantizer
    leaves a product as it is, with a warning, or fails at the bias that belongs to it.
    """
    from onnxruntime.quantization import quant_utils

    original = quant_utils.load_model_with_shape_infer

    @functools.wraps(original)
    def repaired(model_path: Path) -> Any:
        import onnx

        proto = onnx.load(str(model_path), load_external_data=False)
        if not _forget_stale_shapes(proto):
            return _with_types_behind_fusions(original(model_path))
        beside = Path(model_path).with_name(f"{Path(model_path).stem}-repaired.onnx")  # its external data lie here too
        beside.write_bytes(proto.SerializeToString())
        try:
            return _with_types_behind_fusions(original(beside))
        finally:
            beside.unlink()

    for name, module in list(sys.modules.items()):
        if name.startswith("onnxruntime.quantization") and vars(module).get("load_model_with_shape_infer") is original:
            vars(module)["load_model_with_shape_infer"] = repaired


def _with_types_behind_fusions(proto: Any) -> Any:
    """Declare what has no type as float: fusion makes no other operators. Only a further output may be of integers."""
    import onnx

    if all(node.domain != CONTRIBUTED for node in proto.graph.node):
        return proto
    known = {value.name for value in (*proto.graph.value_info, *proto.graph.output)}
    for node in proto.graph.node:
        for name in node.output[:1] if node.domain == CONTRIBUTED else node.output:
            if name and name not in known:
                proto.graph.value_info.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return proto


def _forget_stale_shapes(proto: Any) -> bool:
    weights = {tensor.name: list(tensor.dims) for tensor in proto.graph.initializer}
    stale = [
        value
        for value in proto.graph.value_info
        if value.name in weights and [one.dim_value for one in value.type.tensor_type.shape.dim] != weights[value.name]
    ]
    for value in stale:
        proto.graph.value_info.remove(value)
    return bool(stale)


def _import_contributed(proto: Any) -> bool:
    imported = {entry.domain for entry in proto.opset_import}
    if CONTRIBUTED in imported or all(node.domain != CONTRIBUTED for node in proto.graph.node):
        return False
    entry = proto.opset_import.add()
    entry.domain, entry.version = CONTRIBUTED, 1
    return True
