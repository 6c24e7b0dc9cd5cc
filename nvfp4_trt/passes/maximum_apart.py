"""An activation between two GEMMs → computed twice, for its maximum and for its codes, and never written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import onnx_ir as ir

from nvfp4_trt.passes.base import LoweringPass
from nvfp4_trt.passes.graph import Builder, constant
from nvfp4_trt.portable import is_ours

if TYPE_CHECKING:
    from collections.abc import Collection

_ELEMENTWISE = {"Add", "Cast", "Clip", "Div", "Erf", "Gelu", "Max", "Min", "Mul", "Neg", "Relu", "Sigmoid", "Sub"}
_ELEMENTWISE |= {"Swish", "Tanh"}
_MOVES = {"Reshape", "Split", "Transpose", "Unsqueeze", "Squeeze"}
_SCALES = {"PerTensorScale", "PerTokenScale"}
_PRODUCTS = {"Attention", "MatMul"}
_LEAST: dict[ir.DataType, np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = {
    ir.DataType.FLOAT: np.array(np.finfo(np.float32).min),
    ir.DataType.FLOAT16: np.array(np.finfo(np.float16).min),
    ir.DataType.BFLOAT16: np.array(ml_dtypes.finfo(ml_dtypes.bfloat16).min),
}
"""The smallest finite number of a dtype: the maximum with it changes no finite number."""


class MaximumApart(LoweringPass):
    """Gives each run-time scale behind a GEMM or an attention a copy of the operators between the two.

    A maximum ends a kernel, which then writes the activation in 16 bits for the kernel that quantizes it.
    With two copies, a kernel reads the GEMM's output and writes the maximum, and another reads it again and
    writes FP4: the activation (after a GELU, a SwiGLU, or an attention's transposition) is never in memory.
    TensorRT would make one of two equal copies, so this one begins with a Max with the smallest finite number.

    Needs: `OuterScale` has run, and `InlineScales` has not. What lies between is elementwise or moves elements,
    and has no other use: an activation that is read by a residual sum is in memory anyway.
    After: the scale's operand is its own. Meaning: unchanged but for a negative infinity in a GEMM's output.
    """

    name = "maximum-apart"

    def run(self, model: ir.Model) -> int:
        """See `LoweringPass.run`."""
        found = [node for node in model.graph if is_ours(node, _SCALES)]
        return sum(_part(model.graph, node) for node in found)


def _part(graph: ir.Graph, scale: ir.Node) -> bool:
    x = scale.inputs[0]
    between: list[ir.Node] = []
    ends: set[ir.Value] = set()
    if x is None or not _walk(x, between, ends):
        return False
    made = {end for end in ends if _is_product(end)}
    inside: dict[ir.Node, None] = {}
    for node in between:  # what depends on a product; the others are scales
        if any(each in made for each in node.inputs):
            inside[node] = None
            made.update(node.outputs)
    if not inside or any(not _stays(user, inside) for value in made - {x} for user, _ in value.uses()):
        return False
    build = Builder(graph, f"{scale.name}/apart", before=scale)
    copies = {end: _held(build, end) for end in sorted(ends, key=lambda each: each.name or "") if _is_product(end)}
    for index, node in enumerate(inside):
        _copy(build, node, copies, index)
    scale.replace_input_with(0, copies[x])
    return True


def _walk(value: ir.Value, between: list[ir.Node], ends: set[ir.Value]) -> bool:
    """Collect what computes a value from products and constants, in order; tell whether there is nothing else."""
    node = value.producer()
    if node in between or value in ends:
        return True
    if node is None:
        return value.const_value is not None
    if node.domain == "" and node.op_type in _ELEMENTWISE | _MOVES:
        read = node.inputs[:1] if node.op_type in _MOVES else node.inputs
        if not all(_walk(each, between, ends) for each in read if each is not None):
            return False
        between.append(node)
        return True
    ends.add(value)
    return _is_product(value) or is_ours(node, _SCALES)


def _is_product(value: ir.Value) -> bool:
    node = value.producer()
    return node is not None and node.domain == "" and node.op_type in _PRODUCTS and value.dtype in _LEAST


def _stays(user: ir.Node, inside: Collection[ir.Node]) -> bool:
    return user in inside or user.op_type == "Shape"


def _held(build: Builder, end: ir.Value) -> ir.Value:
    """Return a product's output as something that TensorRT does not know to be the same."""
    dtype = end.dtype or ir.DataType.FLOAT
    least = constant(build.graph, f"nvfp4.least_{dtype.name.lower()}", _LEAST[dtype])
    return build.node("Max", [end, least], f"{end.name}", like=end).outputs[0]


def _copy(build: Builder, node: ir.Node, copies: dict[ir.Value, ir.Value], index: int) -> None:
    inputs = [each if each is None else copies.get(each, each) for each in node.inputs]
    name = f"{node.op_type}_{index}"
    made = build.node(node.op_type, inputs, name, outputs=len(node.outputs))
    made.attributes.update(node.attributes)
    for old, new in zip(node.outputs, made.outputs, strict=True):
        new.type, new.shape = old.type, old.shape
        copies[old] = new
