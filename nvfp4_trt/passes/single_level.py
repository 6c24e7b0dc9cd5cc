"""Single-level scaling → a per-tensor scale of 1, which is the form TensorRT builds FP4 GEMMs from."""

from __future__ import annotations

import onnx_ir as ir

from nvfp4_trt.passes.base import LoweringPass
from nvfp4_trt.passes.graph import scalar
from nvfp4_trt.portable import DOMAIN, portable_functions

_TWO_LEVEL = {"QuantizeSingleLevel": "Quantize", "DequantizeSingleLevel": "Dequantize"}


class SingleLevel(LoweringPass):
    """Turns the single-level operators into the two-level ones with the constant scale 1.

    Needs: nothing. After: no `…SingleLevel` node is left, and the two-level operators have their bodies.
    Meaning: unchanged, bit for bit.
    """

    name = "single-level"

    def run(self, model: ir.Model) -> int:
        """See `LoweringPass.run`."""
        found = [n for n in model.graph if n.domain == DOMAIN and n.op_type in _TWO_LEVEL]
        for node in found:
            one = scalar(model.graph, 1.0, label="one")
            node.op_type = _TWO_LEVEL[node.op_type]
            node.resize_inputs(len(node.inputs) + 1)
            node.replace_input_with(len(node.inputs) - 1, one)
        for name in sorted({node.op_type for node in found}):
            function = ir.serde.deserialize_function(portable_functions()[name])
            model.functions[function.identifier()] = function
        return len(found)
