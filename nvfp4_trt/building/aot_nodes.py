"""Plugin nodes in the form of ahead-of-time plugins: every node of a kind with the same tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from nvfp4_trt.passes.graph import replace_uses
from nvfp4_trt.plugin.aot import GEMM_AOT, QUANTIZE_AOT, TENSORS
from nvfp4_trt.plugin.aot_plans import check_scaling
from nvfp4_trt.plugin.fields import (
    DOMAIN,
    GEMM,
    NAMESPACE,
    QUANTIZE,
    VERSION,
    QuantizeFields,
    field_values,
    read_fields,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

REGISTERED = {"plugin_version": VERSION, "plugin_namespace": NAMESPACE}
_KINDS = {QUANTIZE: QUANTIZE_AOT, GEMM: GEMM_AOT}


def use_aot_nodes(model: ir.Model) -> int:
    """Change every plugin node of a lowered model, in place, and return how many there are.

    An input that a node does not have is stood for by its first input (a GEMM's bias by its beta), of which the
    kernel then reads nothing; an output that it does not have is a single element. Names stay.

    Raises:
        FeatureUnsupportedError: a node's scale is computed at run time for a whole tensor.
    """
    found = [node for node in model.graph if node.domain == DOMAIN]
    for node in found:
        _change(model.graph, node)
    return len(found)


def _change(graph: ir.Graph, node: ir.Node) -> None:
    given = {name: each.value for name, each in node.attributes.items() if name not in REGISTERED}
    fields = read_fields(node.op_type, given)
    if isinstance(fields, QuantizeFields):
        check_scaling(fields, node.name or node.op_type)
    kind = _KINDS[node.op_type]
    inputs, outputs = TENSORS[kind]
    held = dict(zip(fields.inputs, node.inputs, strict=True))
    filler = held["x"] if isinstance(fields, QuantizeFields) else held["beta"]
    made = ir.node(
        kind,
        [held.get(name, filler) for name in inputs],
        # Every attribute: TensorRT passes them on in their order, and one left out would shift the rest.
        {**REGISTERED, **field_values(fields)},
        domain=DOMAIN,
        num_outputs=len(outputs),
    )
    graph.insert_before(node, made)
    _take_outputs(graph, node, dict(zip(fields.outputs, node.outputs, strict=True)), made, outputs)


def _take_outputs(
    graph: ir.Graph, node: ir.Node, held: dict[str, ir.Value], made: ir.Node, outputs: Sequence[str]
) -> None:
    """Put `made` in the place of `node`, whose outputs are `held` by what they are."""
    names = {name: value.name for name, value in held.items()}
    for name, value in zip(outputs, made.outputs, strict=True):
        if name in held:
            value.type, value.shape = held[name].type, held[name].shape
            replace_uses(graph, held[name], value)
    graph.remove(node, safe=True)
    made.name = node.name
    for name, value in zip(outputs, made.outputs, strict=True):
        value.name = names.get(name, f"{node.name}/{name}")
