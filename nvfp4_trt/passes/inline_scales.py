"""Run-time scales → standard operators: their function bodies swapped for TensorRT's, then inlined."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass, LiftConstantsToInitializersPass, NameFixPass

from nvfp4_trt.passes.base import LoweringPass
from nvfp4_trt.passes.trt_functions import TRT_DOMAIN, scale_functions
from nvfp4_trt.portable import DOMAIN, is_ours

if TYPE_CHECKING:
    from onnx_ir import Function


class InlineScales(LoweringPass):
    """Gives `PerTensorScale` and `PerTokenScale` the bodies that TensorRT fuses best, and inlines them.

    Needs: no other `nvfp4` operator is left. After: no function of domain `nvfp4` is left.
    Meaning: unchanged on finite input (a maximum does not depend on the order it is taken in); NaN spreads
    over what the scale is taken over.
    """

    name = "inline-scales"

    def run(self, model: ir.Model) -> int:
        """See `LoweringPass.run`."""
        found = [node for node in model.graph if is_ours(node) and node.outputs[0].uses()]
        kept: dict[ir.OperatorIdentifier, Function] = {
            key: function for key, function in model.functions.items() if function.domain == TRT_DOMAIN
        }
        for key in list(model.functions):
            del model.functions[key]
        for index, node in enumerate(found):
            node.overload = f"{index}"
            function = _body(node)
            model.functions[function.identifier()] = function
        InlinePass()(model)
        # GraphSurgeon makes doubles of Constant nodes with a float attribute.
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        for key in list(model.functions):
            del model.functions[key]
        model.functions.update(kept)
        model.graph.opset_imports.pop(DOMAIN, None)
        NameFixPass()(model)
        return len(found)


def _body(node: ir.Node) -> Function:
    """Return what a node becomes, named after it, so that a layer record can be read.

    A function for each call: of one that is called often, the inliner counts through all names that it has given.
    """
    proto = onnx.FunctionProto()
    proto.CopyFrom(scale_functions()[node.op_type])
    proto.overload = node.overload
    name = node.name or f"{node.op_type}_{node.overload}"
    inner = {output for each in proto.node for output in each.output} - set(proto.output)
    for each in proto.node:
        each.name = f"{name}/{each.op_type}"
        for names in (each.input, each.output):
            names[:] = [f"{name}/{value}" if value in inner else value for value in names]
    return ir.serde.deserialize_function(proto)
