"""Activation quantizers → standard operators that TensorRT fuses with what stands in front of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import onnx_ir as ir

from nvfp4_trt.passes.base import LoweringPass
from nvfp4_trt.passes.graph import Builder, constant, remove_unused, replace_uses, scalar
from nvfp4_trt.portable import is_ours

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCK = 16
_FLOAT = ir.TensorType(ir.DataType.FLOAT)
_LEAST_STEP = 2.0**-9
"""The smallest e4m3 number. It stands in for a block scale of zero where codes are divided by it: whatever the
codes are then, they are multiplied by that zero again."""


class BlockQuantizers(LoweringPass):
    """Replaces each `nvfp4.Quantize` and `nvfp4.Dequantize` pair on an activation by QuantizeLinear nodes.

    TensorRT's own quantizer is a kernel, and in a graph of dynamic shape the layout of its scales another. As
    standard operators, both are part of the kernel in front, where that is no reduction, or of one kernel. What
    it takes: the block's amax is no ReduceMax, which would end a kernel, but a Max of the block's 16 elements
    apart; and the number of rows must be dynamic, or TensorRT moves the layout in front of that Max.

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
        found = [node for node in model.graph if is_ours(node, {"Quantize"}) and _is_rows(node.inputs[0])]
        for node in found:
            _replace(model.graph, node)
        return len(found)


def _is_rows(x: ir.Value | None) -> bool:
    return x is not None and x.shape is not None and len(x.shape) == 2 and isinstance(x.shape[1], int)  # noqa: PLR2004


def _replace(graph: ir.Graph, node: ir.Node) -> None:
    given, scale = node.inputs
    if given is None or given.shape is None or scale is None:
        raise ValueError(f"{node.name} has no input of known shape")
    rows, k = given.shape[0], given.shape[1]
    if not isinstance(k, int):
        raise TypeError(f"K of {node.name} is not known")
    build = _Typed(graph, node.name or "quantize", node, ir.Shape([rows, k]))
    x = build.wide(given)
    peak = build.block_amax(x, k)
    blocks = ir.Shape([rows, k // BLOCK])
    sixth = build.op("Div", [peak, scalar(graph, 6.0, label="six")], "sixth", blocks)
    # Changes no number, no amax being negative. Without it the layout of the scales is a kernel again: TensorRT
    # moves the Reshape behind the amax past the e4m3 cast.
    per_code = build.op("Max", [sixth, scalar(graph, 0.0, label="zero")], "per_code", blocks)
    stored = build.op("QuantizeLinear", [per_code, scale, _e4m3_zero(graph)], "block_scale", blocks)
    stored.type = ir.TensorType(ir.DataType.FLOAT8E4M3FN)
    steps = build.op("DequantizeLinear", [stored, scale], "steps", blocks)
    least = constant(graph, f"{node.name}/least", np.float32(_LEAST_STEP) * _number(scale))
    divisors = build.op("Max", [steps, least], "divisors", blocks)
    fp4 = ir.DataType.FLOAT4E2M1
    along_k = {"axis": -1, "block_size": BLOCK}
    codes = build.op("QuantizeLinear", [x, divisors], "codes", x.shape, {**along_k, "output_dtype": int(fp4)})
    codes.type = ir.TensorType(fp4)
    dequantizers = [user for user, _ in node.outputs[0].uses()]
    for user in dequantizers:
        out = user.outputs[0]
        after = _Typed(graph, user.name or "dequantize", user, ir.Shape([rows, k]))
        values = after.op("DequantizeLinear", [codes, steps], "values", x.shape, along_k)
        replace_uses(graph, out, after.build.cast(values, out.dtype or ir.DataType.FLOAT, "cast"))
    remove_unused(graph, [*dequantizers, node])


class _Typed:
    """Makes fp32 nodes of a stated shape in front of a node."""

    def __init__(self, graph: ir.Graph, prefix: str, before: ir.Node, shape: ir.Shape) -> None:
        self.graph, self.shape = graph, shape
        self.build = Builder(graph, prefix, before=before)

    def op(
        self,
        kind: str,
        inputs: Sequence[ir.Value],
        label: str,
        shape: ir.Shape | None,
        attributes: dict[str, int] | None = None,
    ) -> ir.Value:
        out = self.build.node(kind, inputs, label, attributes=attributes).outputs[0]
        out.type, out.shape = _FLOAT, shape
        return out

    def wide(self, x: ir.Value) -> ir.Value:
        """Return x in fp32: what a Cast in front narrowed for TensorRT's quantizer, where there is one."""
        cast = x.producer()
        if cast is not None and cast.op_type == "Cast" and not cast.domain:
            source = cast.inputs[0]
            if source is not None and source.dtype == ir.DataType.FLOAT:
                return source
        return self.build.cast(x, ir.DataType.FLOAT, "x_fp32")

    def block_amax(self, x: ir.Value, k: int) -> ir.Value:
        """Return the largest magnitude of each block of 16, `[rows, K / 16]`, by pairs."""
        rows, blocks = self.shape[0], k // BLOCK
        shape = constant(self.graph, f"nvfp4.blocks_{k}", np.array([-1, blocks, BLOCK], np.int64))
        apart = self.op("Reshape", [x, shape], "blocks", ir.Shape([rows, blocks, BLOCK]))
        ones = constant(self.graph, "nvfp4.ones_16", np.ones(BLOCK, np.int64))
        split = self.build.node("Split", [apart, ones], "elements", attributes={"axis": 2}, outputs=BLOCK)
        column = ir.Shape([rows, blocks, 1])
        for element in split.outputs:
            element.type, element.shape = _FLOAT, column
        left = [self.op("Abs", [e], f"magnitude_{i}", column) for i, e in enumerate(split.outputs)]
        while len(left) > 1:
            pairs = zip(left[::2], left[1::2], strict=True)
            left = [self.op("Max", [*pair], f"peak_{len(left) // 2}_{i}", column) for i, pair in enumerate(pairs)]
        flat = constant(self.graph, f"nvfp4.rows_{blocks}", np.array([-1, blocks], np.int64))
        return self.op("Reshape", [left[0], flat], "block_amax", ir.Shape([rows, blocks]))


def _e4m3_zero(graph: ir.Graph) -> ir.Value:
    return constant(graph, "nvfp4.e4m3_zero", np.zeros((), ml_dtypes.float8_e4m3fn))


def _number(scale: ir.Value) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    if scale.const_value is None:
        raise ValueError(f"{scale.name} is no constant")
    return scale.const_value.numpy().astype(np.float32)
