"""Cleaning the exporter's graph: constants folded and shared, equal nodes merged, what is unused removed."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import onnx_ir as ir
import onnxscript.optimizer
from onnx_ir.passes import Sequential
from onnx_ir.passes.common import (
    CommonSubexpressionEliminationPass,
    DeduplicateInitializersPass,
    LiftConstantsToInitializersPass,
    NameFixPass,
    OutputFixPass,
    RemoveUnusedNodesPass,
    RemoveUnusedOpsetsPass,
)

from nvfp4_trt.exporting.scopes import module_path
from nvfp4_trt.portable import is_weight

if TYPE_CHECKING:
    from collections.abc import Iterator


def simplify(model: ir.Model) -> None:
    """Simplify a model in place, keeping what it computes.

    These are the steps of torch's own `optimize=True` without its rewrite rules, whose search through every
    pattern at every node takes longer than all of these, and finds nothing in what the exporter writes for
    linear layers, norms and attention.
    """
    onnxscript.optimizer.fold_constants(model, onnx_shape_inference=True)
    Sequential(RemoveUnusedNodesPass(), LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0))(
        model
    )
    with _weights_apart(model.graph):
        Sequential(DeduplicateInitializersPass(), CommonSubexpressionEliminationPass())(model)
    Sequential(OutputFixPass(), NameFixPass(), RemoveUnusedOpsetsPass())(model)


@contextmanager
def _weights_apart(graph: ir.Graph) -> Iterator[None]:
    """Let every layer keep its quantized weight, and the node that dequantizes it, whatever is equal to them.

    Two layers with equal weights would have one initializer under the name of the first, and, on one input, one
    GEMM: the file would have nothing of the second. A weight that is one tensor in torch too stays one
    initializer, with a node for each layer.
    """
    weights = [node for node in graph if is_weight(node)]
    for node in weights:
        node.attributes["layer"] = ir.AttrString("layer", module_path(node))  # nodes that differ are not merged
    before, held = list(graph.initializers.values()), {value for node in weights for value in node.inputs}
    for value in before:
        if value in held:
            del graph.initializers[value.name or ""]
    yield
    left = {*held, *graph.initializers.values()}
    graph.initializers.clear()
    for value in before:
        if value in left:
            graph.register_initializer(value)
    for node in weights:
        node.attributes.pop("layer")
