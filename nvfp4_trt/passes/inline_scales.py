"""Run-time scales → standard operators: their function bodies swapped for TensorRT's, then inlined."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
        for proto in scale_functions().values():
            function = ir.serde.deserialize_function(proto)
            model.functions[function.identifier()] = function
        readers = [(node.name or node.op_type, *next(iter(node.outputs[0].uses()))) for node in found]
        InlinePass()(model)
        # GraphSurgeon makes doubles of Constant nodes with a float attribute.
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        for name, reader, index in readers:
            _name_after(name, reader.inputs[index])
        for key in list(model.functions):
            del model.functions[key]
        model.functions.update(kept)
        model.graph.opset_imports.pop(DOMAIN, None)
        NameFixPass()(model)
        return len(found)


def _name_after(name: str, value: ir.Value | None) -> None:
    """Name the nodes of an inlined body after the node that they were, so that a layer record can be read."""
    node = None if value is None else value.producer()
    while node is not None and (node.name or "").startswith(_BODIES):
        node.name = f"{name}/{node.op_type}"
        node = node.inputs[0].producer() if node.inputs[0] is not None else None


_BODIES = tuple(f"{name}/" for name in scale_functions())
