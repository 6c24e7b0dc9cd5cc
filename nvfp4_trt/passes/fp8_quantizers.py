"""FP8 weights and activations → QuantizeLinear and DequantizeLinear, which TensorRT builds FP8 GEMMs from."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir

from nvfp4_trt.passes.base import LoweringPass
from nvfp4_trt.passes.graph import Builder, array_of, constant, remove_unused, replace_uses
from nvfp4_trt.portable import is_ours

_E4M3 = ir.DataType.FLOAT8E4M3FN


class Fp8Quantizers(LoweringPass):
    """Replaces each `nvfp4.Fp8Quantize` and `nvfp4.Fp8Dequantize`.

    Needs: every quantizer's scale is a constant (`OuterScale` has run).
    After: no FP8 operator of domain `nvfp4` is left but run-time scales; a weight's scales are along its axis 0.
    Meaning: unchanged, bit for bit.
    """

    name = "fp8-quantizers"

    def run(self, model: ir.Model) -> int:
        """See `LoweringPass.run`."""
        graph = model.graph
        found = [node for node in graph if is_ours(node, {"Fp8Quantize", "Fp8Dequantize"})]
        for node in found:
            if node.op_type == "Fp8Quantize":
                _quantize(graph, node)
            else:
                _dequantize(graph, node)
        return len(found)


def _quantize(graph: ir.Graph, node: ir.Node) -> None:
    x, scale = node.inputs
    if x is None:
        raise ValueError(f"{node.name} has no input")
    build = Builder(graph, node.name or "quantize", before=node)
    zero = constant(graph, "nvfp4.e4m3_zero", np.zeros((), ml_dtypes.float8_e4m3fn))
    wide = build.cast(x, ir.DataType.FLOAT, "x_fp32")
    codes = build.node("QuantizeLinear", [wide, scale, zero], "codes", like=node.outputs[0]).outputs[0]
    codes.type = ir.TensorType(_E4M3)
    replace_uses(graph, node.outputs[0], codes)
    remove_unused(graph, [node])


def _dequantize(graph: ir.Graph, node: ir.Node) -> None:
    codes, scale = node.inputs
    if codes is None or scale is None:
        raise ValueError(f"{node.name} has no operands")
    build = Builder(graph, node.name or "dequantize", before=node)
    attributes = None
    if codes.const_value is not None:  # a weight's, one for each channel
        scale = constant(graph, f"{scale.name}s", array_of(scale).reshape(-1))
        attributes = {"axis": 0}
    out = node.outputs[0]
    values = build.node("DequantizeLinear", [codes, scale], "values", attributes=attributes, like=out).outputs[0]
    values.type = ir.TensorType(ir.DataType.FLOAT)
    replace_uses(graph, out, build.cast(values, out.dtype or ir.DataType.FLOAT, "cast"))
    remove_unused(graph, [node])
