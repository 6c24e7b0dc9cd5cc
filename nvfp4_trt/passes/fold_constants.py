"""What is computed of small constants alone → its value."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from nvfp4_trt.passes.base import LoweringPass
from nvfp4_trt.passes.graph import array_of, constant, remove_unused, replace_uses

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Known = dict[ir.Value, NDArray[np.generic]]

LARGEST = 1 << 22
"""Elements of a value that is folded: as many as pairs of 2048 positions."""

_NUMBERS = "Abs Add Ceil Clip Div Exp Floor Log Max Min Mod Mul Neg Pow Round Sign Sqrt Sub"
_TRUTHS = "And Equal Greater GreaterOrEqual Less LessOrEqual Not Or Where Xor"
_SHAPES = "Cast Concat Expand Gather Identity Range Reshape Slice Squeeze Tile Transpose Trilu Unsqueeze"
_FOLDED = frozenset(f"{_NUMBERS} {_TRUTHS} {_SHAPES}".split())
_EXACT = {ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL}


class FoldConstants(LoweringPass):
    """Computes nodes that read integers, truth values and single numbers of the file only.

    With fixed shapes, a relative position bias looks up what is a function of constants: distances of positions,
    their logarithms, buckets. The exporter folds small tensors, and TensorRT's compiler fails where it folds such
    int64 ones itself ("Cannot convert scalar operand of type 11 to float"). Tensors of floats are weights: what is
    computed of them stays.

    Needs: shape inference has run (torch's exporter does). After: no node that it knows, of a stated shape, reads
    nothing but such constants. Meaning: unchanged; ONNX's reference evaluator computes the values, bit for bit.
    """

    name = "fold-constants"

    def run(self, model: ir.Model) -> int:
        """See `LoweringPass.run`."""
        graph = model.graph
        known: Known = {}
        folded = [node for node in graph if _fold(node, known, graph.opset_imports)]
        gone = set(folded)
        for node in folded:
            out = node.outputs[0]
            if any(user not in gone for user, _ in out.uses()):
                replace_uses(graph, out, constant(graph, f"{out.name}/value", known[out]))
        remove_unused(graph, folded[::-1])
        return len(folded)


def _fold(node: ir.Node, known: Known, opsets: dict[str, int]) -> bool:
    """Compute a node's value from known ones, where that is to be."""
    out = node.outputs[0]
    if node.domain or node.op_type not in _FOLDED or out.is_graph_output() or not _is_small(out):
        return False
    given = [value for value in node.inputs if value is not None]
    if not all(value in known or _is_number(value) for value in given):
        return False
    feeds = {value.name or "": known[value] if value in known else array_of(value) for value in given}
    with np.errstate(all="ignore"):
        (made,) = ReferenceEvaluator(ir.to_proto(node), opsets=dict(opsets)).run(None, feeds)
    known[out] = np.asarray(made)
    return True


def _is_small(value: ir.Value) -> bool:
    shape = value.shape
    return shape is not None and shape.is_static() and math.prod(shape.numpy()) <= LARGEST


def _is_number(value: ir.Value) -> bool:
    """Tell whether a value of the file is an integer or truth tensor, or a single number."""
    if value.const_value is None:
        return False
    return value.const_value.size == 1 or (value.dtype in _EXACT and value.const_value.size <= LARGEST)
