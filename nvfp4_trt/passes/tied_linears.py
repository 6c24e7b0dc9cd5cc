"""Linears with one weight that read one activation → one GEMM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvfp4_trt.passes.base import LoweringPass
from nvfp4_trt.passes.graph import remove_unused, replace_uses
from nvfp4_trt.passes.plugin_nodes import layers_at, set_layers
from nvfp4_trt.portable import find_sites

if TYPE_CHECKING:
    import onnx_ir as ir

    from nvfp4_trt.portable import Site


class TiedLinears(LoweringPass):
    """Computes once what layers with a shared weight compute of one input; their biases are added apart.

    TensorRT makes one GEMM of them by itself, and its record has the name of one of their nodes: the other's
    layer would seem lost.

    Needs: `GemmToMatMul` has run. After: no two MatMuls multiply one value by one quantized weight.
    Meaning: unchanged, bit for bit.
    """

    name = "tied-linears"

    def run(self, model: ir.Model) -> int:
        """See `LoweringPass.run`."""
        graph = model.graph
        known: dict[tuple[ir.Value | None, ...], Site] = {}
        changes = 0
        for site in find_sites(graph):
            if site.gemm.op_type != "MatMul":
                continue
            first = known.setdefault((site.gemm.inputs[0], *site.weight.inputs), site)
            if first is site:
                continue
            set_layers(first.weight, dict.fromkeys((*layers_at(first), *layers_at(site))))
            replace_uses(graph, site.gemm.outputs[0], first.gemm.outputs[0])
            remove_unused(graph, [site.gemm, site.gemm.inputs[1].producer(), site.weight])  # type: ignore[union-attr]
            changes += 1
        return changes
