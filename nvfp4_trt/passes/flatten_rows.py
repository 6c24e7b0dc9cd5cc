"""Activations of any rank → rows: `[..., K]` becomes `[rows, K]` at each quantizer, and back after its GEMMs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from nvfp4_trt.passes.base import LoweringPass
from nvfp4_trt.passes.graph import Builder, constant, replace_uses
from nvfp4_trt.portable import find_sites, is_ours

if TYPE_CHECKING:
    from nvfp4_trt.portable import Site


class FlattenRows(LoweringPass):
    """Quantizes and multiplies rank-2 rows.

    TensorRT's quantizer refuses rank 1 and rank 4 and above, and flattened rows cost no more kernels than
    rank 3 does. A site is left alone where the dequantized activation is a graph output, or has a use beside
    GEMMs with NVFP4 or FP8 weights.

    Needs: `SingleLevel`, `GemmToMatMul` and `KnownK` have run. After: quantizers that it changed see rank 2.
    Meaning: unchanged (a row is a row; the per-tensor scale is taken over the same elements).
    """

    name = "flatten-rows"

    def run(self, model: ir.Model) -> int:
        """See `LoweringPass.run`."""
        by_quantizer: dict[ir.Node, list[Site]] = {}
        for site in find_sites(model.graph):
            if site.quantize is not None:
                by_quantizer.setdefault(site.quantize, []).append(site)
        return sum(_flatten(model.graph, quantize, sites) for quantize, sites in by_quantizer.items())


def _flatten(graph: ir.Graph, quantize: ir.Node, sites: list[Site]) -> bool:
    x = quantize.inputs[0]
    if x is None or x.shape is None or len(x.shape) == 2 or not isinstance(x.shape[-1], int):  # noqa: PLR2004
        return False
    rank, k = len(x.shape), x.shape[-1]
    gemms = {site.gemm for site in sites}
    dequantized = {site.activation.outputs[0] for site in sites if site.activation}
    if any(y.is_graph_output() or any(user not in gemms for user, _ in y.uses()) for y in dequantized):
        return False
    scale = sites[0].scale
    build = Builder(graph, quantize.name or "quantize", before=scale if is_ours(scale) and scale else quantize)
    rows_shape = constant(graph, f"nvfp4.rows_{k}", np.array([-1, k], dtype=np.int64))
    rows = build.node("Reshape", [x, rows_shape], "rows").outputs[0]
    rows.type, rows.shape = x.type, ir.Shape([None, k])
    lead = build.node("Shape", [x], "lead", attributes={"start": 0, "end": rank - 1}).outputs[0]
    quantize.replace_input_with(0, rows)
    if scale is not None and is_ours(scale):
        scale.replace_input_with(0, rows)
        _set_rows(scale, rank)
    elif scale is not None and scale.outputs[0].shape is not None and len(scale.outputs[0].shape) == rank:
        column = constant(graph, "nvfp4.rows_1", np.array([-1, 1], dtype=np.int64))
        flat = build.node("Reshape", [scale.outputs[0], column], "scale_rows").outputs[0]
        flat.type, flat.shape = scale.outputs[0].type, ir.Shape([None, 1])
        for user in {quantize, *(s.activation for s in sites if s.activation)}:
            user.replace_input_with(len(user.inputs) - 1, flat)
    for node in {quantize, *(s.activation for s in sites if s.activation)}:
        _set_rows(node, rank)
    for site in sites:
        _restore(graph, site, lead)
    return True


def _set_rows(node: ir.Node, rank: int) -> None:
    for value in node.outputs:
        if value.shape is not None and len(value.shape) == rank:
            value.shape = ir.Shape([None, value.shape[-1]])


def _restore(graph: ir.Graph, site: Site, lead: ir.Value) -> None:
    out = site.gemm.outputs[0]
    n = site.weight.inputs[0].shape[0]  # type: ignore[union-attr, index]
    width = constant(graph, f"nvfp4.k_{n}", np.array([n], dtype=np.int64))
    build = Builder(graph, f"{site.layer}/unflatten", after=site.gemm)
    shape = build.node("Concat", [lead, width], "shape", attributes={"axis": 0}).outputs[0]
    full = build.node("Reshape", [out, shape], "y", like=out)
    out.shape = ir.Shape([None, n])
    replace_uses(graph, out, full.outputs[0], keep={full})
