"""Dynamic dimensions that a build gives one extent → that extent, in the graph itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

if TYPE_CHECKING:
    from collections.abc import Mapping


def fix_dims(model: ir.Model, extents: Mapping[str, int]) -> int:
    """Put numbers for named dimensions into every shape of a graph, its inputs' first.

    A profile whose smallest and largest shapes agree is not enough: TensorRT compiles a graph of dynamic shape
    for it, with the kernels that such a graph needs.

    Args:
        model: changed in place. Shapes that it computes at run time (`Shape`) are left to TensorRT, which folds
            them.
        extents: dimension name → extent; names that the graph has not are ignored.

    Returns:
        How many dimensions became numbers.
    """
    changed = 0
    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    for value in values:
        if value.shape is None:
            continue
        dims = [_extent(dim, extents) for dim in value.shape]
        fresh = sum(new != old for new, old in zip(dims, value.shape, strict=True))
        if fresh:
            value.shape = ir.Shape(dims)
            changed += fresh
    return changed


def _extent(dim: int | ir.SymbolicDim, extents: Mapping[str, int]) -> int | ir.SymbolicDim:
    return dim if isinstance(dim, int) else extents.get(str(dim.value), dim)
