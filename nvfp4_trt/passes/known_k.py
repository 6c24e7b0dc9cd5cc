"""Activations whose K TensorRT could not work out → the same with K written down."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nvfp4_trt.passes.base import LoweringPass
from nvfp4_trt.passes.graph import Builder, constant
from nvfp4_trt.portable import is_ours

if TYPE_CHECKING:
    import onnx_ir as ir


class KnownK(LoweringPass):
    """Gives the Reshape in front of a quantizer a shape whose last element is K, a constant.

    A model that folds its heads by `reshape(batch, sequence, -1)` exports the -1; TensorRT's quantizer needs
    the extent of the axis that it blocks when the engine is built.

    Needs: shape inference has run (torch's exporter does). After: no quantizer is fed by a Reshape whose
    last extent is computed. Meaning: unchanged.
    """

    name = "known-k"

    def run(self, model: ir.Model) -> int:
        """See `LoweringPass.run`."""
        graph = model.graph
        activations = {node.inputs[0] for node in graph if is_ours(node, {"Quantize", "QuantizeSingleLevel"})}
        found = [node for node in graph if node.op_type == "Reshape" and node.outputs[0] in activations]
        return sum(_write_k(graph, node) for node in found)


def _write_k(graph: ir.Graph, node: ir.Node) -> bool:
    shape, out = node.inputs[1], node.outputs[0]
    if shape is None or shape.const_value is not None or out.shape is None or not isinstance(out.shape[-1], int):
        return False
    rank, k = len(out.shape), out.shape[-1]
    build = Builder(graph, node.name or "Reshape", before=node)
    axes = constant(graph, "nvfp4.first", np.array([0], dtype=np.int64))
    stop = constant(graph, f"nvfp4.axis_{rank - 1}", np.array([rank - 1], dtype=np.int64))
    lead = build.node("Slice", [shape, axes, stop], "rows").outputs[0]
    last = constant(graph, f"nvfp4.k_{k}", np.array([k], dtype=np.int64))
    node.replace_input_with(1, build.node("Concat", [lead, last], "shape", attributes={"axis": 0}).outputs[0])
    return True
