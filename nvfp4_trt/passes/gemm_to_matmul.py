"""Gemm → MatMul and Add, so that every quantized linear has one form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvfp4_trt.passes.base import LoweringPass
from nvfp4_trt.passes.graph import Builder, remove_unused, replace_uses
from nvfp4_trt.portable import find_sites

if TYPE_CHECKING:
    import onnx_ir as ir

    from nvfp4_trt.portable import Site


class GemmToMatMul(LoweringPass):
    """Splits each Gemm on an NVFP4 or FP8 weight into Transpose, MatMul and Add.

    Needs: `alpha = beta = 1` and `transA = 0`, as torch's exporter writes `nn.Linear`; others are left.
    After: the GEMM of every site it changed is a MatMul. Meaning: unchanged.
    """

    name = "gemm-to-matmul"

    def run(self, model: ir.Model) -> int:
        """See `LoweringPass.run`."""
        found = [site for site in find_sites(model.graph) if _is_plain_gemm(site.gemm)]
        for site in found:
            _split(model.graph, site)
        return len(found)


def _is_plain_gemm(node: ir.Node) -> bool:
    attributes = node.attributes
    ones = all(attributes.get_float(name, 1.0) == 1.0 for name in ("alpha", "beta"))
    return node.op_type == "Gemm" and ones and not attributes.get_int("transA", 0)


def _split(graph: ir.Graph, site: Site) -> None:
    gemm = site.gemm
    x, weight, bias = (*gemm.inputs, None)[:3]
    out = gemm.outputs[0]
    build = Builder(graph, (gemm.name or site.layer).replace("/Gemm", ""), before=gemm)
    if gemm.attributes.get_int("transB", 0):
        weight = build.node("Transpose", [weight], "Transpose", attributes={"perm": [1, 0]}).outputs[0]
    made = build.node("MatMul", [x, weight], "MatMul", like=out).outputs[0]
    if bias is not None:
        made = build.node("Add", [made, bias], "Add", like=out).outputs[0]
    replace_uses(graph, out, made)
    remove_unused(graph, [gemm])
