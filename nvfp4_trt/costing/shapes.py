"""The shape of every tensor of a lowered ONNX model, once its inputs' shapes are numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nvfp4_trt.costing.fitting import Sized, sized

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx_ir as ir

    Shape = tuple[int, ...]

_MATMULS = ("MatMul", "Gemm")
_ATTENTION = "Attention"
_PAST_KEY = 4
"""Which input of an Attention holds the keys of the past."""
_HEADED = 4
"""Rank of a query with an axis of heads."""
_REDUCING = {"LayerNormalization", "RMSNormalization", "Softmax", "LogSoftmax"}
_LOOKUPS = {"Gather", "GatherElements", "GatherND", "Slice"}


@dataclass(frozen=True)
class NodeTensors:
    """The tensors of one node that depend on the model's inputs."""

    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    inner: tuple[Sized, ...] = ()
    """Tensors inside the node, where it may become several kernels."""


@dataclass(frozen=True)
class TensorShapes:
    """Shapes of a graph's tensors at one shape of its inputs.

    Empty, it serves for an engine of fixed shapes, whose record says them all; the rows that a lookup reads of a
    table are then not known, and the whole table is counted.
    """

    tensors: Mapping[str, Sized] = field(default_factory=dict)
    """Tensor name → its shape, in numbers and with its dynamic dimensions.

    Constants, and what is computed from them alone, are not among them.
    """
    nodes: Mapping[str, NodeTensors] = field(default_factory=dict)
    """Node name → its tensors."""
    flops: Mapping[str, int] = field(default_factory=dict)
    """Name of a MatMul, Gemm or Attention → 2 operations for each product that it sums."""
    lookups: Mapping[str, tuple[tuple[int, ...], int]] = field(default_factory=dict)
    """Name of a Gather or Slice of a constant → the table's shape, and how many elements it takes."""
    unknown: tuple[str, ...] = ()
    """Tensors whose shape inference did not find."""


def shapes_at(model: ir.Model, inputs: Mapping[str, tuple[int, ...]]) -> TensorShapes:
    """Infer the shape of every tensor of a model with its inputs fixed.

    Which dimensions are dynamic is seen by a second inference, with other numbers for those of the inputs.

    Args:
        model: a lowered model; it stays as it is, and the data of its weights is not touched.
        inputs: input name → shape. An input that is not named must have a fixed shape.

    Raises:
        ValueError: an input has no fixed shape and is not named, or its shape contradicts the model's.
    """
    from nvfp4_trt.costing.inference import Inference, other_inputs

    shapes = Inference(model, inputs).shapes()
    others = other_inputs(model, inputs)
    elsewhere = shapes if others == inputs else Inference(model, others).shapes()
    varying = _varying(model)
    made = [value.name for node in model.graph for value in node.outputs if value.name]
    return TensorShapes(
        tensors={name: sized(shape, elsewhere.get(name)) for name, shape in shapes.items() if name in varying},
        nodes={node.name: _node(node, shapes, elsewhere, varying) for node in model.graph if node.name},
        flops=_flops(model, shapes),
        lookups=_lookups(model, shapes, varying),
        unknown=tuple(name for name in made if name not in shapes),
    )


def _varying(model: ir.Model) -> set[str]:
    """Return the names of the tensors that depend on an input of the model."""
    found = {value.name or "" for value in model.graph.inputs if value.name not in model.graph.initializers}
    for node in model.graph:
        if any(value is not None and value.name in found for value in node.inputs):
            found.update(value.name or "" for value in node.outputs)
    return found


def _shape(shapes: Mapping[str, Shape], values: Sequence[ir.Value | None], index: int) -> Shape | None:
    """Return the shape of one of a node's tensors, if it has that one and its shape is known."""
    value = values[index] if index < len(values) else None
    return None if value is None else shapes.get(value.name or "")


def _node(
    node: ir.Node, shapes: Mapping[str, Shape], elsewhere: Mapping[str, Shape], varying: set[str]
) -> NodeTensors:
    inner, others = _inner(node, shapes), _inner(node, elsewhere)
    return NodeTensors(
        node.op_type,
        tuple(v.name for v in node.inputs if v is not None and v.name and v.name in varying),
        tuple(v.name for v in node.outputs if v.name and v.name in varying),
        tuple(sized(shape, others[i] if i < len(others) else None) for i, shape in enumerate(inner)),
    )


def _inner(node: ir.Node, shapes: Mapping[str, Shape]) -> tuple[Shape, ...]:
    """Return shapes that are inside a node: TensorRT may split it there into several kernels.

    Those of an attention are q, k, the scores and their sums, with batch and heads apart and as one dimension.
    """
    first, key = _shape(shapes, node.inputs, 0), _shape(shapes, node.inputs, 1)
    if not first:
        return ()
    if node.op_type in _REDUCING:  # one statistic for each row
        return ((*first[:-1], 1),)
    if node.op_type != _ATTENTION or not key:
        return ()
    heads = first[1] if len(first) == _HEADED else node.attributes["q_num_heads"].as_int()
    batch, queries, keys = first[0], first[-2], _keys(node, shapes, key)
    size = math.prod(first) // (batch * heads * queries)
    tails = ((queries, size), (keys, size), (queries, keys), (queries, 1))
    return tuple((*lead, *tail) for lead in ((batch, heads), (batch * heads,)) for tail in tails)


def _keys(node: ir.Node, shapes: Mapping[str, Shape], key: Shape) -> int:
    """Return how many keys an Attention reads, those of the past included."""
    past = _shape(shapes, node.inputs, _PAST_KEY)
    return key[-2] + (past[-2] if past else 0)


def _flops(model: ir.Model, shapes: Mapping[str, Shape]) -> dict[str, int]:
    counts = {_ATTENTION: _attention_flops, **dict.fromkeys(_MATMULS, _matmul_flops)}
    found = {node.name: counts[node.op_type](node, shapes) for node in model.graph if node.op_type in counts}
    return {name: count for name, count in found.items() if name and count is not None}


def _matmul_flops(node: ir.Node, shapes: Mapping[str, Shape]) -> int | None:
    left, result = _shape(shapes, node.inputs, 0), _shape(shapes, node.outputs, 0)
    if not left or result is None:
        return None
    transposed = "transA" in node.attributes and node.attributes["transA"].as_int()
    return 2 * math.prod(result) * left[0 if transposed else -1]


def _attention_flops(node: ir.Node, shapes: Mapping[str, Shape]) -> int | None:
    """Count both products: [.., Q, D] x [.., D, S] and [.., Q, S] x [.., S, V].

    Over all heads the widths of the first sum to the query's elements and those of the second to the result's; in
    either layout (rank 3 and rank 4) the sequence is the axis before the last.
    """
    query, key = _shape(shapes, node.inputs, 0), _shape(shapes, node.inputs, 1)
    result = _shape(shapes, node.outputs, 0)
    if query is None or key is None or result is None:
        return None
    return 2 * (math.prod(query) + math.prod(result)) * _keys(node, shapes, key)


def _lookups(model: ir.Model, shapes: Mapping[str, Shape], varying: set[str]) -> dict[str, tuple[Shape, int]]:
    found = {}
    for node in model.graph:
        table, taken = _shape(shapes, node.inputs, 0), _shape(shapes, node.outputs, 0)
        constant = node.op_type in _LOOKUPS and node.inputs[0] is not None and node.inputs[0].name not in varying
        if constant and node.name and table and taken is not None:
            found[node.name] = (table, math.prod(taken))
    return found
