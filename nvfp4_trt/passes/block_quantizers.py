"""Activation quantizers → standard operators that TensorRT fuses with what stands in front of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import onnx_ir as ir

from nvfp4_trt.passes.base import LoweringPass
from nvfp4_trt.passes.graph import (
    ALONG_K,
    Builder,
    array_of,
    constant,
    dequantize_blocks,
    remove_unused,
    replace_uses,
    scalar,
)
from nvfp4_trt.portable import BLOCK, is_ours

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_FLOAT = ir.TensorType(ir.DataType.FLOAT)
QUARTER = 4
"""Elements of a block that one ReduceMax takes the largest of. Up to so many, TensorRT unrolls a reduction and
fuses it as pointwise arithmetic; over 8 or 16 it ends a kernel."""
_LEAST_STEP = np.float32(2.0**-9)
"""The smallest e4m3 number. It stands in for a block scale of zero where codes are divided by it: whatever the
codes are then, they are multiplied by that zero again."""


class BlockQuantizers(LoweringPass):
    """Replaces each `nvfp4.Quantize` and `nvfp4.Dequantize` pair on an activation by QuantizeLinear nodes.

    TensorRT's own quantizer is a kernel, and in a graph of dynamic shape the layout of its scales another. As
    standard operators, both are part of the kernel in front, where that is no reduction, or of one kernel. What
    it takes: the block's amax is no ReduceMax over 16, which would end a kernel, but two over four; and the number
    of rows must be dynamic, or TensorRT moves the layout in front of the Max behind them.

    Needs: activations are rows (`FlattenRows`), every quantizer's scale is a constant (`OuterScale`), weights are
    standard (`Fp4Weights`). After: no quantizer of an activation with K known and rank 2 is `nvfp4`'s; those of
    another rank are left to `TensorRTQuantizers`.
    Meaning: the block scales are those of `format.md`; a code within 2⁻²² (relative) of a tie may take its
    neighbour, since `x / (s_b · s)` is rounded twice where the format computes `x · ((1/s)/s_b)`. Where
    `OuterScale` rounded its quotient to 16 bits for TensorRT's quantizer, this one takes it in fp32.
    """

    name = "block-quantizers"

    def run(self, model: ir.Model) -> int:
        """See `LoweringPass.run`."""
        found = [node for node in model.graph if is_ours(node, {"Quantize"})]
        return sum(_replace(model.graph, node) for node in found)


def _replace(graph: ir.Graph, node: ir.Node) -> bool:
    given, scale = node.inputs
    if given is None or given.shape is None or len(given.shape) != 2 or scale is None:  # noqa: PLR2004
        return False
    rows, k = given.shape[0], given.shape[1]
    if not isinstance(k, int):
        return False
    nodes = _Fp32(graph, node)
    x, blocks = _wide(given, nodes.build), ir.Shape([rows, k // BLOCK])
    peak = _block_amax(x, rows, k, nodes)
    sixth = nodes.add("Div", [peak, scalar(graph, 6.0, label="six")], "sixth", blocks)
    # Changes no number, no amax being negative. Without it the layout of the scales is a kernel again: TensorRT
    # moves the Reshape behind the amax past the e4m3 cast.
    per_code = nodes.add("Max", [sixth, scalar(graph, 0.0, label="zero")], "per_code", blocks)
    zero = constant(graph, "nvfp4.e4m3_zero", np.zeros((), ml_dtypes.float8_e4m3fn))
    stored = nodes.add("QuantizeLinear", [per_code, scale, zero], "block_scale", blocks)
    stored.type = ir.TensorType(ir.DataType.FLOAT8E4M3FN)
    steps = nodes.add("DequantizeLinear", [stored, scale], "steps", blocks)
    least = constant(graph, f"{node.name}/least", _LEAST_STEP * array_of(scale).astype(np.float32))
    divisors = nodes.add("Max", [steps, least], "divisors", blocks)
    fp4 = ir.DataType.FLOAT4E2M1
    to_codes = {**ALONG_K, "output_dtype": int(fp4)}
    codes = nodes.add("QuantizeLinear", [x, divisors], "codes", given.shape, to_codes)
    codes.type = ir.TensorType(fp4)
    dequantizers = [user for user, _ in node.outputs[0].uses()]
    for user in dequantizers:
        out, own = user.outputs[0], steps
        build = Builder(graph, user.name or "dequantize", before=user)
        if user.inputs[2] is not scale:
            own = build.node("DequantizeLinear", [stored, user.inputs[2]], "scales", like=steps).outputs[0]
        replace_uses(graph, out, dequantize_blocks(build, codes, own, out))
    remove_unused(graph, [*dequantizers, node, given.producer()])  # the last: a Cast that `_wide` went round
    return True


class _Fp32:
    """Makes nodes with fp32 outputs of a stated shape in front of a quantizer."""

    def __init__(self, graph: ir.Graph, quantizer: ir.Node) -> None:
        self.graph = graph
        self.build = Builder(graph, quantizer.name or "quantize", before=quantizer)

    def add(
        self,
        kind: str,
        inputs: Sequence[ir.Value],
        label: str,
        shape: ir.Shape,
        attributes: Mapping[str, int] | None = None,
    ) -> ir.Value:
        out = self.build.node(kind, inputs, label, attributes=attributes).outputs[0]
        out.type, out.shape = _FLOAT, shape
        return out


def _wide(x: ir.Value, build: Builder) -> ir.Value:
    """Return x in fp32: what a Cast in front narrowed for TensorRT's quantizer, where there is one."""
    cast = x.producer()
    if cast is not None and cast.op_type == "Cast" and not cast.domain:
        source = cast.inputs[0]
        if source is not None and source.dtype == ir.DataType.FLOAT:
            return source
    return build.cast(x, ir.DataType.FLOAT, "x_fp32")


def _block_amax(x: ir.Value, rows: int | ir.SymbolicDim, k: int, nodes: _Fp32) -> ir.Value:
    """Return the largest magnitude of each block of 16, `[rows, K / 16]`: of each quarter, then of the four."""
    count, quarters = k // BLOCK, BLOCK // QUARTER
    magnitude = nodes.add("Abs", [x], "magnitude", ir.Shape([rows, k]))
    apart = constant(nodes.graph, f"nvfp4.blocks_{k}", np.array([-1, count, quarters, QUARTER], np.int64))
    parts = nodes.add("Reshape", [magnitude, apart], "quarters", ir.Shape([rows, count, quarters, QUARTER]))
    last, dropped = constant(nodes.graph, "nvfp4.last", np.array([-1], np.int64)), {"keepdims": 0}
    peaks = nodes.add("ReduceMax", [parts, last], "peaks", ir.Shape([rows, count, quarters]), dropped)
    return nodes.add("ReduceMax", [peaks, last], "block_amax", ir.Shape([rows, count]), dropped)
