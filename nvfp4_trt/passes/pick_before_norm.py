"""Rows picked behind a norm → the norm of the rows picked in front of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvfp4_trt.passes.base import LoweringPass
from nvfp4_trt.passes.graph import Builder
from nvfp4_trt.portable import is_ours

if TYPE_CHECKING:
    import onnx_ir as ir

_NORMS = {"LayerNormalization", "RMSNormalization"}


class PickBeforeNorm(LoweringPass):
    """Turns `Gather(norm(x))` in front of a quantizer into `norm(Gather(x))`.

    A classifier's head reads one token of each sequence. TensorRT fuses that Gather with the end of the norm,
    and then the amax of a run-time scale is a kernel of its own. Picked first, the norm, the amax and the
    division of those few rows are one kernel; the other rows' norm stays whole.

    Needs: the norm is over the last axis alone and the Gather along another. After: no quantizer reads such
    a Gather of a norm. Meaning: unchanged (a norm treats each row alone).
    """

    name = "pick-before-norm"

    def run(self, model: ir.Model) -> int:
        """See `LoweringPass.run`."""
        graph = model.graph
        quantizers = [node for node in graph if is_ours(node, {"Quantize", "QuantizeSingleLevel"})]
        read = {node.inputs[0] for node in quantizers}
        found = [node for node in graph if node.op_type == "Gather" and node.outputs[0] in read]
        return sum(_swap(graph, node) for node in found)


def _swap(graph: ir.Graph, gather: ir.Node) -> bool:
    normed, ids = gather.inputs
    norm = None if normed is None else normed.producer()
    if norm is None or norm.op_type not in _NORMS or norm.domain or ids is None:
        return False
    source = norm.inputs[0]
    if source is None or source.shape is None:
        return False
    last = len(source.shape) - 1
    axis = gather.attributes.get_int("axis", 0) % (last + 1)
    if norm.attributes.get_int("axis", -1) not in {-1, last} or axis == last:
        return False
    out = gather.outputs[0]
    build = Builder(graph, gather.name or "pick", before=gather)
    picked = build.node("Gather", [source, ids], "picked", attributes={"axis": axis}, like=out).outputs[0]
    epsilon = norm.attributes.get_float("epsilon", 1e-5)
    again = build.node(
        norm.op_type,
        [picked, *norm.inputs[1:]],
        "norm",
        attributes={"axis": -1, "epsilon": epsilon},
        like=out,
    )
    out.replace_all_uses_with(again.outputs[0])
    graph.remove(gather, safe=True)
    return True
