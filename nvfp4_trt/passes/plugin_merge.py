"""GEMMs that read one quantized activation → one GEMM, and a Split of its columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from nvfp4_trt.passes.base import LoweringPass
from nvfp4_trt.passes.graph import Builder, array_of, constant
from nvfp4_trt.passes.merging import joined, split_columns
from nvfp4_trt.passes.plugin_nodes import (
    GEMM,
    PLUGIN_DOMAIN,
    gemm_attributes,
    is_plugin,
    layers_of,
    set_layers,
)
from nvfp4_trt.portable import swizzle_bytes, unswizzle_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_TILES, _BETA, _BIAS = 4, 5, 6


class PluginMerge(LoweringPass):
    """Stacks the weights of linears that share an activation along N: query, key and value, for one.

    A linear whose output a plugin reads is left alone: a plugin reads whole tensors, so that the part of a
    Split would be copied for it, which costs the launch that merging saves. (A gate's output, which the
    quantizer of the down projection reads, is such a one.)

    Needs: `PluginActivations` has run, so that what plugins read is known.
    After: linears that can share a GEMM do. Meaning: unchanged, bit for bit (a column is a column).
    """

    name = "plugin-merge"

    def run(self, model: ir.Model) -> int:
        """See `LoweringPass.run`."""
        groups: dict[tuple[ir.Value | None, int], list[ir.Node]] = {}
        for node in model.graph:
            if is_plugin(node, GEMM) and not any(is_plugin(user) for user, _ in node.outputs[0].uses()):
                groups.setdefault((node.inputs[0], node.attributes.get_int("dtype", 0)), []).append(node)
        found = [nodes for nodes in groups.values() if len(nodes) > 1]
        for nodes in found:
            _merge(model.graph, nodes)
        return len(found)


def _merge(graph: ir.Graph, nodes: Sequence[ir.Node]) -> None:
    first = nodes[0]
    layers = [layer for node in nodes for layer in layers_of(node)]
    name = joined(layers)
    widths = [array_of(node.inputs[3]).shape[0] for node in nodes]
    weights, bias = _stack(graph, nodes, name, widths)
    build = Builder(graph, name, before=first)
    attributes = gemm_attributes(first.attributes.get_int("dtype", 0), has_bias=bias is not None)
    inputs = [*first.inputs[:3], *weights, *([] if bias is None else [bias])]
    made = build.node(GEMM, inputs, GEMM, attributes=attributes, domain=PLUGIN_DOMAIN, like=first.outputs[0])
    out = made.outputs[0]
    out.shape = ir.Shape([*list(first.outputs[0].shape or ())[:-1], sum(widths)])
    set_layers(made, layers)
    split_columns(build, out, widths, nodes)


def _stack(
    graph: ir.Graph, nodes: Sequence[ir.Node], name: str, widths: Sequence[int]
) -> tuple[list[ir.Value], ir.Value | None]:
    """Return codes, scales and beta of the stacked weight, and the bias where any of the nodes has one."""
    codes = np.concatenate([array_of(node.inputs[3]) for node in nodes])
    blocks = codes.shape[1] // 8
    rows = [
        unswizzle_bytes(array_of(node.inputs[_TILES]).view(np.uint8), n, blocks)
        for node, n in zip(nodes, widths, strict=True)
    ]
    betas = [np.broadcast_to(array_of(node.inputs[_BETA]), (n,)) for node, n in zip(nodes, widths, strict=True)]
    weights = [
        constant(graph, f"{name}.weight_codes", codes),
        constant(graph, f"{name}.weight_tiles", swizzle_bytes(np.concatenate(rows)).view(np.int8)),
        constant(graph, f"{name}.weight_beta", np.concatenate(betas)),
    ]
    return weights, _stack_biases(graph, nodes, name, widths)


def _stack_biases(graph: ir.Graph, nodes: Sequence[ir.Node], name: str, widths: Sequence[int]) -> ir.Value | None:
    held: list[NDArray[np.generic] | None] = [
        array_of(node.inputs[_BIAS]) if len(node.inputs) > _BIAS else None for node in nodes
    ]
    some = next((bias for bias in held if bias is not None), None)
    if some is None:
        return None
    # -0.0 and not 0.0: the one number that leaves every sum as it is, a sum of -0.0 among them.
    none = np.array(-0.0, some.dtype)
    full = [np.full(n, none) if bias is None else bias for bias, n in zip(held, widths, strict=True)]
    return constant(graph, f"{name}.bias", np.concatenate(full))
