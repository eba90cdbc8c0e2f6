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
    infer_shapes_of_what_is_there()
    quantize_between_fused_operators()


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


def infer_shapes_of_what_is_there() -> None:
    """Let ONNX Runtime's quantizer infer the shapes of the graph that it has, not of the one that it had.

    ONNXQuantizer (1.24.1) turns Gemm into MatMul and transposes the weight for it, but leaves the weight's old shape in
    value_info, as exporters write it; inference then fails with "Inferred shape and existing shape differ" for every
    weight that is not square.
    """
    from onnxruntime.quantization import quant_utils

    original = quant_utils.load_model_with_shape_infer

    @functools.wraps(original)
    def repaired(model_path: Path) -> Any:
        import onnx

        proto = onnx.load(str(model_path), load_external_data=False)
        if not _forget_stale_shapes(proto):
            return original(model_path)
        beside = Path(model_path).with_name(f"{Path(model_path).stem}-repaired.onnx")  # its external data lie here too
        beside.write_bytes(proto.SerializeToString())
        try:
            return original(beside)
        finally:
            beside.unlink()

    for name, module in list(sys.modules.items()):
        if name.startswith("onnxruntime.quantization") and vars(module).get("load_model_with_shape_infer") is original:
            vars(module)["load_model_with_shape_infer"] = repaired


def quantize_between_fused_operators() -> None:
    """Let dynamic quantization reach the matrix products of a fused graph.

    ONNX infers no type behind an operator of com.microsoft, and where it knows no type, ONNX Runtime (1.24.1) leaves
    the product as it is, with a warning. In these graphs unknown means float: fusion makes no other operators.
    """
    import onnxruntime.quantization

    original = onnxruntime.quantization.quantize_dynamic

    @functools.wraps(original)
    def repaired(model_input: Any, *arguments: Any, extra_options: dict[str, Any] | None = None, **options: Any) -> Any:
        import onnx

        settings = dict(extra_options or {})
        proto = model_input
        if not isinstance(proto, onnx.ModelProto):
            proto = onnx.load(str(model_input), load_external_data=False)
        if any(node.domain == CONTRIBUTED for node in proto.graph.node):
            settings.setdefault("DefaultTensorType", onnx.TensorProto.FLOAT)
        return original(model_input, *arguments, extra_options=settings, **options)

    onnxruntime.quantization.quantize_dynamic = repaired


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
