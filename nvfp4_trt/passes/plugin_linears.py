"""Quantized linears → `Nvfp4Quantize` and `Nvfp4Gemm`, the plugin's two operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nvfp4_trt.passes.base import LoweringPass
from nvfp4_trt.passes.graph import Builder, array_of, constant, remove_unused, replace_uses
from nvfp4_trt.passes.plugin_nodes import (
    FLOATS,
    GEMM,
    PLUGIN_DOMAIN,
    Quantizer,
    forget,
    gemm_attributes,
    insert_quantizer,
    layers_at,
    set_layers,
)
from nvfp4_trt.portable import find_sites, is_ours, swizzle_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx_ir as ir

    from nvfp4_trt.portable import Site

_SCALES = {"PerTokenScale": "token", "PerTensorScale": "tensor"}
_RULE = ("floor", "zero_amax_scale", "zero_block_scale")
_K_STEP, _N_STEP = 32, 8


class PluginLinears(LoweringPass):
    """Replaces each W4A4 linear whose shape and dtypes the plugin takes: K a multiple of 32, N of 8.

    The bias's Add becomes part of the GEMM. Weights become INT8 initializers with the bytes of the portable
    file, their block scales INT8 in the GEMM's tiles. Linears that the plugin does not take, weight-only ones
    among them, stay as they are for the passes that follow.

    Needs: `GemmToMatMul` has run. After: no W4A4 linear of such a shape is left in portable form.
    Meaning: `(Σ a·b) · alpha · beta + bias` in fp32, rounded once, where the portable form multiplies
    dequantized values that were rounded to the activation's dtype, and rounds before and after the bias.
    """

    name = "plugin-linears"

    def run(self, model: ir.Model) -> int:
        """See `LoweringPass.run`."""
        graph = model.graph
        quantized: dict[ir.Node, ir.Node] = {}
        found = [site for site in find_sites(graph) if _fits(site)]
        read = [value for site in found for value in (*site.weight.inputs, *_inputs(site.quantize))]
        for site in found:
            if site.quantize is not None and site.quantize not in quantized:
                quantized[site.quantize] = _quantize(graph, site)
            _multiply(graph, site, quantized[site.quantize])  # type: ignore[index]
        forget(graph, read)
        if found:
            graph.opset_imports[PLUGIN_DOMAIN] = 1
        return len(found)


def _inputs(node: ir.Node | None) -> Sequence[ir.Value | None]:
    return () if node is None else node.inputs


def _fits(site: Site) -> bool:
    """Return whether the plugin takes a linear."""
    out, packed = site.gemm.outputs[0], site.weight.inputs[0]
    if site.gemm.op_type != "MatMul" or is_ours(site.weight, {"Fp8Dequantize"}):
        return False
    if packed is None or packed.shape is None or len(packed.shape) != 2:  # noqa: PLR2004
        return False
    n, half = packed.shape
    if not isinstance(n, int) or not isinstance(half, int):
        return False
    k = 2 * half
    x = None if site.quantize is None else site.quantize.inputs[0]
    if n % _N_STEP or k % _K_STEP or out.dtype not in FLOATS or x is None or x.dtype not in FLOATS:
        return False
    return x.shape is not None and len(x.shape) > 0 and x.shape[-1] == k and _scaling(site) is not None


def _scaling(site: Site) -> str | None:
    """Return the plugin's name of where an activation's scale comes from; None where it has no such way."""
    quantize = site.quantize
    if quantize is None or any(quantize.attributes.get_float(name, 0.0) for name in _RULE):
        return None
    if any(quantize.attributes.get_int(name, 0) for name in ("arithmetic", "unsigned_zero")):
        return None
    if quantize.op_type == "QuantizeSingleLevel":
        return "single"
    if site.scale is None:
        scale = quantize.inputs[1]
        return "static" if scale is not None and scale.const_value is not None else None
    if site.scale.attributes.get_int("arithmetic", 0) or site.scale.inputs[0] is not quantize.inputs[0]:
        return None
    return _SCALES.get(site.scale.op_type)


def _quantize(graph: ir.Graph, site: Site) -> ir.Node:
    quantize, scaling = site.quantize, _scaling(site)
    if quantize is None or scaling is None or quantize.inputs[0] is None:
        raise ValueError(f"{site.layer} has no quantized activation")
    scale = None
    if scaling == "static":
        number = array_of(quantize.inputs[1]).astype(np.float32).reshape(1)
        scale = constant(graph, f"{quantize.name}.scale", number)
    prefix = (quantize.name or site.layer).removesuffix("/Quantize").removesuffix("/QuantizeSingleLevel")
    build = Builder(graph, prefix, before=quantize)
    return insert_quantizer(build, Quantizer(quantize.inputs[0], scaling, scale=scale))


def _multiply(graph: ir.Graph, site: Site, quantize: ir.Node) -> None:
    out = site.gemm.outputs[0]
    bias, add = _bias(site.gemm)
    codes, scales, beta = _weight(graph, site)
    inputs = [*quantize.outputs[:3], codes, scales, beta, *([] if bias is None else [bias])]
    attributes = gemm_attributes(int(out.dtype or 0), has_bias=bias is not None)
    build = Builder(graph, site.layer, before=site.gemm)
    made = build.node(GEMM, inputs, GEMM, attributes=attributes, domain=PLUGIN_DOMAIN, like=out)
    set_layers(made, layers_at(site))
    replace_uses(graph, out if add is None else add.outputs[0], made.outputs[0], keep={add} if add else ())
    transposed = site.gemm.inputs[1].producer() if site.gemm.inputs[1] is not None else None
    remove_unused(graph, [add, site.gemm, transposed, site.weight, site.activation, site.quantize, site.scale])


def _bias(gemm: ir.Node) -> tuple[ir.Value | None, ir.Node | None]:
    """Return the constant that is added to a GEMM's columns, and the node that adds it."""
    out = gemm.outputs[0]
    users = [user for user, _ in out.uses()]
    if len(users) != 1 or out.is_graph_output() or users[0].op_type != "Add" or users[0].domain:
        return None, None
    add = users[0]
    other = add.inputs[0] if add.inputs[1] is out else add.inputs[1]
    if other is None or other.const_value is None or other.dtype != out.dtype or out.shape is None:
        return None, None
    return (other, add) if tuple(other.const_value.shape) == (out.shape[-1],) else (None, None)


def _weight(graph: ir.Graph, site: Site) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Return codes INT8 [N, K/2], block scales INT8 in tiles, and the scale fp32 [1], as initializers."""
    packed, block_scale, *scale = site.weight.inputs
    stem = (packed.name if packed is not None else None) or site.layer
    stem = stem.removesuffix("_packed")
    rows = array_of(block_scale).view(np.uint8)
    number = array_of(scale[0]).astype(np.float32).reshape(1) if scale else np.ones(1, np.float32)
    return (
        constant(graph, f"{stem}_codes", array_of(packed).view(np.int8)),
        constant(graph, f"{stem}_tiles", swizzle_bytes(rows).view(np.int8)),
        constant(graph, f"{stem}_beta", number),
    )
