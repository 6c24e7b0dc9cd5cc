"""Activation quantizers → TensorRT's dynamic block quantizer, followed by DequantizeLinear nodes."""

from __future__ import annotations

import onnx_ir as ir

from nvfp4_trt.passes.base import LoweringPass
from nvfp4_trt.passes.graph import ALONG_K, Builder, dequantize_blocks, remove_unused, replace_uses
from nvfp4_trt.passes.trt_functions import TRT_DOMAIN, TRT_QUANTIZE, trt_functions
from nvfp4_trt.portable import is_ours

_E4M3 = int(ir.DataType.FLOAT8E4M3FN)


class TensorRTQuantizers(LoweringPass):
    """Replaces each `nvfp4.Quantize` and `nvfp4.Dequantize` pair on an activation.

    Needs: every quantizer's scale is a constant (`OuterScale` has run), weights are standard (`Fp4Weights`).
    After: quantizers are `trt::TRT_FP4DynamicQuantize`; a model-local function of that name, which TensorRT
    ignores in favour of its own operator, says what it computes, so checkers and evaluators take the file.
    Meaning: that of `Fp4Weights` for the order of the three factors; codes and block scales are the same.
    """

    name = "tensorrt-quantizers"

    def run(self, model: ir.Model) -> int:
        """See `LoweringPass.run`."""
        found = [node for node in model.graph if is_ours(node, {"Quantize"})]
        for node in found:
            _replace(model.graph, node)
        if found:
            model.graph.opset_imports[TRT_DOMAIN] = 1
            for function in trt_functions():
                model.functions[function.identifier()] = function
        return len(found)


def _replace(graph: ir.Graph, node: ir.Node) -> None:
    x, scale = node.inputs
    packed, block_scale = node.outputs
    if x is None:
        raise ValueError(f"{node.name} has no input")
    build = Builder(graph, node.name or "quantize", before=node)
    quantize = build.node(
        TRT_QUANTIZE,
        [x, scale],
        "quantize",
        attributes={**ALONG_K, "scale_type": _E4M3},
        domain=TRT_DOMAIN,
        outputs=2,
    )
    codes, steps = quantize.outputs
    codes.type, codes.shape = ir.TensorType(ir.DataType.FLOAT4E2M1), x.shape
    steps.type, steps.shape = ir.TensorType(ir.DataType.FLOAT8E4M3FN), block_scale.shape
    dequantizers = [user for user, _ in packed.uses()]
    for user in dequantizers:
        out = user.outputs[0]
        build = Builder(graph, user.name or "dequantize", before=user)
        wide = build.node("DequantizeLinear", [steps, user.inputs[2]], "scales").outputs[0]
        wide.type, wide.shape = ir.TensorType(ir.DataType.FLOAT), block_scale.shape
        replace_uses(graph, out, dequantize_blocks(build, codes, wide, out))
    remove_unused(graph, [*dequantizers, node])
