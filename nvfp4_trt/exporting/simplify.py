"""Cleaning the exporter's graph: constants folded and shared, equal nodes merged, what is unused removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    import onnx_ir as ir


def simplify(model: ir.Model) -> None:
    """Simplify a model in place, keeping what it computes.

    These are the steps of torch's own `optimize=True` without its rewrite rules, whose search through every
    pattern at every node takes longer than all of these, and finds nothing in what the exporter writes for
    linear layers, norms and attention.
    """
    onnxscript.optimizer.fold_constants(model, onnx_shape_inference=True)
    Sequential(
        RemoveUnusedNodesPass(),
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        DeduplicateInitializersPass(),
        CommonSubexpressionEliminationPass(),
        OutputFixPass(),
        NameFixPass(),
        RemoveUnusedOpsetsPass(),
    )(model)
