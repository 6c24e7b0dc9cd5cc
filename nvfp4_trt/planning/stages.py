"""Nodes that fuse but for their reductions → one lot for each kernel."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING

from nvfp4_trt.planning.operators import Role
from nvfp4_trt.portable import BLOCK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx_ir as ir

    from nvfp4_trt.planning.outline import Outline

    Rows = tuple[int, ...]

_AXIS = "axis"
_PICKING = frozenset({"Gather", "GatherND", "Slice"})


def split(nodes: Sequence[ir.Node], outline: Outline, *, on_rows: bool) -> list[list[ir.Node]]:
    """Split nodes where reductions of other rows follow one another.

    Args:
        nodes: in the order of the graph.
        outline: of the graph.
        on_rows: whether leading dimensions count as one: they do behind an FP4 product.
    """
    rows = {node: kind for node in nodes if (kind := _rows(node, outline, on_rows=on_rows)) is not None}
    stages = _stages(nodes, rows, {node for node in nodes if _picks(node, outline)})
    _pull(nodes, stages, rows, outline)
    parts: dict[int, list[ir.Node]] = defaultdict(list)
    for node in nodes:
        parts[stages[node]].append(node)
    return [parts[stage] for stage in sorted(parts)]


def _rows(node: ir.Node, outline: Outline, *, on_rows: bool) -> Rows | None:
    """Return what a reduction has a result for; None of another node."""
    role = outline.role(node)
    shape = outline.shape(node.inputs[0]) if node.inputs else ()
    if role is Role.BLOCKS:
        return (-BLOCK,)
    if role is not Role.REDUCTION:
        return None
    left = outline.shape(node.outputs[0])
    if node.op_type.startswith(("Reduce", "Arg", "Global")):
        kept = tuple(dim for dim in left if dim != 1)
    else:
        axis = node.attributes.get_int(_AXIS, -1)
        kept = tuple(dim for dim in shape[: axis % max(1, len(shape))] if dim != 1)
    return (math.prod(kept),) if on_rows and kept else kept


def _stages(nodes: Sequence[ir.Node], rows: Mapping[ir.Node, Rows], picks: set[ir.Node]) -> dict[ir.Node, int]:
    stages: dict[ir.Node, int] = {}
    kinds: dict[int, Rows] = {}
    reduced: dict[ir.Node, int] = {}
    """Node → the stage of the last reduction that it depends on."""
    for node in nodes:
        makers = [maker for value in node.inputs if value is not None and (maker := value.producer()) in stages]
        # What was found over everything is known when the kernel is over.
        stage = max((stages[m] + (rows.get(m) == () and node not in rows) for m in makers), default=0)
        behind = max((reduced[maker] for maker in makers if maker in reduced), default=-1)
        stage += node in picks and behind == stage
        if node in rows:
            while kinds.setdefault(stage, rows[node]) != rows[node]:
                stage += 1
        stages[node] = stage
        if node in rows or behind >= 0:
            reduced[node] = stage if node in rows else behind
    return stages


def _picks(node: ir.Node, outline: Outline) -> bool:
    """Tell whether a node takes some rows of a tensor."""
    if node.op_type not in _PICKING or not node.inputs:
        return False
    before, after = outline.shape(node.inputs[0]), outline.shape(node.outputs[0])
    return before[-1:] == after[-1:] and math.prod(after) < math.prod(before)


def _pull(
    nodes: Sequence[ir.Node], stages: dict[ir.Node, int], rows: Mapping[ir.Node, Rows], outline: Outline
) -> None:
    """Move what only a later kernel reads there, down to the reduction that it comes from."""
    for node in reversed(nodes):
        readers = [user for user in outline.users(*node.outputs) if outline.role(user) is not Role.EXTENT]
        users = [user for user in readers if user in stages]
        outer = len(users) < len(readers) or any(out.is_graph_output() for out in node.outputs)
        if node in rows or outer or not users:
            continue
        least = min(stages[user] for user in users)
        if least > stages[node] and outline.shape(node.outputs[0])[-1:] != (1,):
            stages[node] = least
