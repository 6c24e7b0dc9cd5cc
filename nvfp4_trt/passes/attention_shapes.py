"""Attention whose key TensorRT cannot prove to have the value's shape → the same with its shapes written down."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nvfp4_trt.passes.base import LoweringPass
from nvfp4_trt.passes.graph import Builder, constant

if TYPE_CHECKING:
    import onnx_ir as ir


class AttentionShapes(LoweringPass):
    """Puts a Reshape to a stated shape in front of the query, key and value of each Attention.

    TensorRT's attention layer demands that key and value have one shape, a number of query heads that theirs
    divides, and one size of all heads. A rotary embedding multiplies the key by angles that are made of the
    sequence's extent; to TensorRT the product's extent is one of two, which it cannot tell to be the value's. And
    what a model counts by -1 is no number to it. Here the dynamic extents of key and value are the value's, and
    the others are constants. TensorRT drops these Reshapes once it has inferred shapes: they cost no kernel.

    Needs: shape inference has run (torch's exporter does). Attention of fixed shapes is left alone.
    After: extents that the file states are constants to TensorRT, and those of key and value are the same.
    Meaning: unchanged (the operator's definition gives key and value one batch, sequence and number of heads).
    """

    name = "attention-shapes"

    def run(self, model: ir.Model) -> int:
        """See `LoweringPass.run`."""
        found = [node for node in model.graph if node.op_type == "Attention" and not node.domain]
        return sum(_state(model.graph, node) for node in found)


def _state(graph: ir.Graph, attention: ir.Node) -> bool:
    query, key, value = attention.inputs[:3]
    if query is None or key is None or value is None:
        return False
    if not all(each.shape is not None and len(each.shape) > 1 for each in (query, key, value)):
        return False
    if all(each.shape.is_static() for each in (query, key, value) if each.shape is not None):
        return False
    build = Builder(graph, attention.name or "attention", before=attention)
    for index, (label, leading) in enumerate((("query", query), ("key", value), ("value", value))):
        attention.replace_input_with(index, _reshaped(build, attention.inputs[index], leading, label))
    return True


def _reshaped(build: Builder, x: ir.Value | None, leading: ir.Value, label: str) -> ir.Value:
    """Return `x` with its last extent, and with all others those of `leading`."""
    if x is None or x.shape is None or leading.shape is None:
        raise ValueError(f"{build.prefix} has no typed {label}")
    last = len(x.shape) - 1
    extents = []
    for axis, own in enumerate(x.shape):
        source = x if axis == last else leading
        known = next((e for e in (own, source.shape[axis]) if isinstance(e, int)), None)  # type: ignore[index]
        if known is not None:
            extent = constant(build.graph, f"nvfp4.k_{known}", np.array([known], dtype=np.int64))
        else:
            attributes = {"start": axis, "end": axis + 1}
            extent = build.node("Shape", [source], f"{label}_extent_{axis}", attributes=attributes).outputs[0]
        extents.append(extent)
    shape = build.node("Concat", extents, f"{label}_shape", attributes={"axis": 0}).outputs[0]
    return build.node("Reshape", [x, shape], label, like=x).outputs[0]
