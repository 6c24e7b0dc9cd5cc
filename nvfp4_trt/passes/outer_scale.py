"""An activation's per-tensor scale → out of the quantizer, in front of it and behind the GEMMs that it feeds.

TensorRT's quantizer takes a constant per-tensor scale only. A scale computed at run time is constant along K,
so it can leave the GEMM: `QDQ(x; s) · Wᵀ = (QDQ(x / s; 1) · Wᵀ) · s`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from nvfp4_trt.passes.base import LoweringPass
from nvfp4_trt.passes.graph import Builder, array_of, constant, replace_uses, scalar
from nvfp4_trt.portable import find_sites, is_ours

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

SHIFT = 2.0**-11
"""The constant scale: |x / s| reaches 2688, and SHIFT brings that to 1.3125, so that a GEMM that writes fp16
does not overflow. A power of two, so codes and block scales are those of the scale 1."""

FP8_SHIFT = 2.0**-9
"""The same for FP8: |x / s| reaches 448, and this brings that to 0.875."""

_SHIFTS = {"Quantize": ("shift", SHIFT), "Fp8Quantize": ("fp8_shift", FP8_SHIFT)}
_HALF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


class OuterScale(LoweringPass):
    """Takes a scale out of the quantized values: they are dequantized with a constant, and multiplied after.

    Run-time scales need it, and a division by the scale in front: TensorRT's quantizer takes a constant. Constant
    scales stay in the quantizer, and leave it behind it where the GEMM writes 16 bits: without the multiplication
    between them, TensorRT may move a Split behind a GEMM into its weight, and the GEMM is no longer FP4.

    Needs: `SingleLevel` and `GemmToMatMul` have run.
    After: the scale of every `nvfp4.Quantize` is a constant; of every one with a run-time scale, `SHIFT`. The same
    of `nvfp4.Fp8Quantize`, with `FP8_SHIFT`.
    Meaning: unchanged but for the order of rounding. The multiplication comes after the sum. Of constant scales,
    codes and block scales are the format's. With a run-time scale, `x / s` is rounded once where the format
    computes `x · ((1/s)/s_b)`, so a code or block scale within 2⁻²² (relative) of a tie may take its neighbour.
    With 16-bit activations, that `x / s` is rounded to fp16 (2⁻¹² relative) and s, for the multiplication, to the
    activation's dtype (2⁻¹² for fp16, 2⁻⁹ for bf16), while the factors e2m1 · s_b are exact there, which the
    portable form's `e2m1 · s_b · s` are not. FP8 codes are the portable form's:
    QuantizeLinear takes fp32, and `x / s` is divided by nothing else.
    """

    name = "outer-scale"

    def run(self, model: ir.Model) -> int:
        """See `LoweringPass.run`."""
        gemms = {site.gemm: site.layer for site in find_sites(model.graph)}
        found = [node for node in model.graph if is_ours(node, set(_SHIFTS)) and _concerns(node)]
        for quantize in found:
            _rewrite(model.graph, quantize, gemms)
        return len(found)


def _concerns(quantize: ir.Node) -> bool:
    x, scale = quantize.inputs
    if x is None or scale is None:
        return False
    return scale.const_value is None or x.dtype in _HALF


def _rewrite(graph: ir.Graph, quantize: ir.Node, gemms: Mapping[ir.Node, str]) -> None:
    x, scale = quantize.inputs
    if x is None or scale is None or x.dtype is None:
        raise ValueError(f"{quantize.name} has no typed input")
    prefix = quantize.name or "quantize"
    label, number = _SHIFTS[quantize.op_type]
    shift = scalar(graph, number, label=label)
    build = Builder(graph, prefix, before=quantize)
    unit = _unit(graph, build, scale, shift)
    factor = build.cast(unit, x.dtype, "factor")
    if scale.const_value is None:
        wide = build.cast(x, ir.DataType.FLOAT, "x_fp32")
        shifted = build.node("Div", [wide, unit], "x_shifted_fp32", like=wide).outputs[0]
        halved = x.dtype in _HALF and quantize.op_type == "Quantize"  # TensorRT's quantizer takes 16 bits then
        narrow = ir.DataType.FLOAT16 if halved else ir.DataType.FLOAT
        quantize.replace_input_with(0, build.cast(shifted, narrow, "x_shifted"))
        quantize.replace_input_with(1, shift)
    for activation in {user for user, _ in quantize.outputs[0].uses()}:
        activation.replace_input_with(len(activation.inputs) - 1, shift)
        users = {user for user, _ in activation.outputs[0].uses()}
        fed = [user for user in users if user in gemms]
        if len(fed) < len(users) or activation.outputs[0].is_graph_output():
            _multiply_after(graph, activation, factor, f"{activation.name}/restored", keep=fed)
        for gemm in fed:
            _multiply_after(graph, gemm, factor, f"{gemms[gemm]}/restored")


def _unit(graph: ir.Graph, build: Builder, scale: ir.Value, shift: ir.Value) -> ir.Value:
    """Return scale / shift, which is exact: a constant where the scale is."""
    if scale.const_value is not None:
        array = scale.const_value.numpy().astype(np.float32) / array_of(shift).astype(np.float32)
        return constant(graph, f"{build.prefix}/unit", array)
    return build.node("Div", [scale, shift], "unit", like=scale).outputs[0]


def _multiply_after(
    graph: ir.Graph, node: ir.Node, factor: ir.Value, prefix: str, *, keep: Collection[ir.Node] = ()
) -> None:
    """Multiply the output of `node` by `factor` for all that use it but the nodes in `keep`."""
    out = node.outputs[0]
    product = Builder(graph, prefix, after=node).node("Mul", [out, factor], "times_scale", like=out)
    replace_uses(graph, out, product.outputs[0], keep={*keep, product})
