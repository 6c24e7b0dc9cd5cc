"""Single-level scaling → a per-tensor scale of 1, which is the form TensorRT builds FP4 GEMMs from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvfp4_trt.passes.base import LoweringPass
from nvfp4_trt.passes.graph import scalar

if TYPE_CHECKING:
    import onnx_ir as ir

_TWO_LEVEL = {"QuantizeSingleLevel": "Quantize", "DequantizeSingleLevel": "Dequantize"}


class SingleLevel(LoweringPass):
    """Turns the single-level operators into the two-level ones with the constant scale 1.

    Needs: nothing. After: no `…SingleLevel` node is left. Meaning: unchanged, bit for bit.
    """

    name = "single-level"

    def run(self, model: ir.Model) -> int:
        """See `LoweringPass.run`."""
        found = [n for n in model.graph if n.domain == "nvfp4" and n.op_type in _TWO_LEVEL]
        for node in found:
            one = scalar(model.graph, 1.0, label="one")
            node.op_type = _TWO_LEVEL[node.op_type]
            node.resize_inputs(len(node.inputs) + 1)
            node.replace_input_with(len(node.inputs) - 1, one)
        return len(found)
