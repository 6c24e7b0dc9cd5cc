"""Taking the quantizers out of a portable graph: what remains is the model in floats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvfp4_trt.passes.graph import replace_uses
from nvfp4_trt.portable import is_ours

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx_ir as ir

_QUANTIZE = {"Quantize", "QuantizeSingleLevel", "Fp8Quantize"}
_DEQUANTIZE = {"Dequantize", "DequantizeSingleLevel", "Fp8Dequantize"}


def unquantize(model: ir.Model, weight: Callable[[ir.Node], ir.Value | None]) -> None:
    """Let what reads a dequantized value read the float it came from, in place; attention's operands too.

    Args:
        model: what `portable.load` returns.
        weight: returns the float weight in place of a node that dequantizes one; None leaves the node.
    """
    for node in [node for node in model.graph if is_ours(node, _DEQUANTIZE)]:
        codes = node.inputs[0]
        quantize = None if codes is None else codes.producer()
        source = quantize.inputs[0] if quantize is not None and is_ours(quantize, _QUANTIZE) else weight(node)
        if source is not None:
            replace_uses(model.graph, node.outputs[0], source)
    remove_ours(model)


def remove_ours(model: ir.Model) -> None:
    """Remove the quantizing nodes that nothing reads any more, and their constants."""
    for node in reversed(list(model.graph)):
        read = any(out.uses() or out.is_graph_output() for out in node.outputs)
        if is_ours(node) and not read:
            model.graph.remove(node, safe=True)
    for name, value in list(model.graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del model.graph.initializers[name]
