"""A scale computed at run time → a constant one, with the division and multiplication made explicit.

TensorRT's quantizer takes a constant per-tensor scale only. A run-time scale is constant along K, so it can
leave the GEMM: `QDQ(x; s) · Wᵀ = (QDQ(x / s; 1) · Wᵀ) · s`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from nvfp4_trt.portable import find_sites, is_ours
from nvfp4_trt.passes.base import LoweringPass
from nvfp4_trt.passes.graph import Builder, replace_uses, scalar

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

SHIFT = 2.0**-11
"""The constant scale: |x / s| reaches 2688, and SHIFT brings that to 1.3125, so that a GEMM that writes fp16
does not overflow. A power of two, so codes and block scales are those of the scale 1."""


class RuntimeScale(LoweringPass):
    """Moves every run-time activation scale out of the quantizer and behind the GEMMs that it feeds.

    Needs: `SingleLevel` and `GemmToMatMul` have run; the activation feeds MatMuls' first operands (another
    use of the dequantized activation gets the product with the scale, as before).
    After: the scale of every `nvfp4.Quantize` is a constant.
    Meaning: unchanged but for the order of rounding. `x / s` is rounded once where the format computes
    `x · ((1/s)/s_b)`, so a code or block scale within 2⁻²² (relative) of a tie may take its neighbour, and
    the multiplication by s comes after the sum. All of it is fp32; with fp16 or bf16 activations the
    portable graph rounds `e2m1 · s_b · s` to that dtype before the sum, and this form, whose factors
    e2m1 · s_b are exact there, does not.
    """

    name = "runtime-scale"

    def run(self, model: ir.Model) -> int:
        """See `LoweringPass.run`."""
        gemms = {site.gemm: site.layer for site in find_sites(model.graph)}
        found = [node for node in model.graph if is_ours(node, {"Quantize"}) and _is_computed(node.inputs[1])]
        for quantize in found:
            _rewrite(model.graph, quantize, gemms)
        return len(found)


def _is_computed(scale: ir.Value | None) -> bool:
    return scale is not None and scale.const_value is None


def _rewrite(graph: ir.Graph, quantize: ir.Node, gemms: Mapping[ir.Node, str]) -> None:
    x, scale = quantize.inputs
    if x is None or scale is None or x.dtype is None:
        raise ValueError(f"{quantize.name} has no typed input")
    shift = scalar(graph, SHIFT, label="shift")
    build = Builder(graph, quantize.name or "quantize", before=quantize)
    wide = build.cast(x, ir.DataType.FLOAT, "x_fp32")
    unit = build.node("Div", [scale, shift], "unit", like=scale).outputs[0]
    shifted = build.node("Div", [wide, unit], "x_shifted_fp32", like=wide).outputs[0]
    quantize.replace_input_with(0, build.cast(shifted, x.dtype, "x_shifted"))
    quantize.replace_input_with(1, shift)
    for activation in {user for user, _ in quantize.outputs[0].uses()}:
        activation.replace_input_with(2, shift)
        users = {user for user, _ in activation.outputs[0].uses()}
        fed = [user for user in users if user in gemms]
        if len(fed) < len(users) or activation.outputs[0].is_graph_output():
            _multiply_after(graph, activation, unit, f"{activation.name}/restored", keep=fed)
        for gemm in fed:
            _multiply_after(graph, gemm, unit, f"{gemms[gemm]}/restored")


def _multiply_after(
    graph: ir.Graph, node: ir.Node, unit: ir.Value, prefix: str, *, keep: Collection[ir.Node] = ()
) -> None:
    """Multiply the output of `node` by `unit`, in fp32, for all that use it but the nodes in `keep`."""
    out = node.outputs[0]
    if out.dtype is None:
        raise ValueError(f"{node.name} has no typed output")
    build = Builder(graph, prefix, after=node)
    wide = build.cast(out, ir.DataType.FLOAT, "fp32")
    product = build.node("Mul", [wide, unit], "times_unit", like=wide)
    narrow = build.cast(product.outputs[0], out.dtype, "narrow")
    own = {product} if wide is out else {product, wide.producer()}
    replace_uses(graph, out, narrow, keep={*keep, *own})
