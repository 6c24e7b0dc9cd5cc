"""Recognizing what a piece of a graph computes, by computing it.

Exporters write one function in many forms: GELU alone differs in the order of its products, in where a
division by √2 stands, in Pow against Mul. Instead of one pattern for each form, the nodes behind a value are
walked back to a single source, evaluated in fp64 on chosen samples, and compared with the functions that
are looked for.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nvfp4_trt.passes.graph import array_of
from nvfp4_trt.passes.plugin_nodes import same_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import onnx_ir as ir
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

LONGEST = 24
"""Nodes that a piece may have; the longest known, GELU by Tanh with its casts, has 13."""

erf: Callable[[Array], Array] = np.vectorize(math.erf, otypes=[np.float64])


def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + e⁻ˣ)."""
    return np.asarray(1 / (1 + np.exp(-x)))


_ELEMENTWISE: dict[str, Callable[..., Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
    "Sqrt": np.sqrt,
    "Reciprocal": np.reciprocal,
    "Neg": np.negative,
    "Exp": np.exp,
    "Erf": erf,
    "Tanh": np.tanh,
    "Sigmoid": sigmoid,
    "Identity": np.asarray,
    "Cast": np.asarray,
}


class Piece(NamedTuple):
    """Nodes that compute a value from one other value and constants."""

    source: ir.Value
    nodes: tuple[ir.Node, ...]
    """Last first."""

    def constants(self) -> list[ir.Value]:
        """Return the constants that the nodes read, in the order of the nodes."""
        values = [value for node in reversed(self.nodes) for value in operands(node)]
        return list(dict.fromkeys(value for value in values if value.const_value is not None))

    def evaluate(self, x: Array) -> Array:
        """Compute the piece in fp64 for the source `x`."""
        known: dict[ir.Value, Array] = {self.source: x}
        for node in reversed(self.nodes):
            given = [
                array_of(value).astype(np.float64) if value.const_value is not None else known[value]
                for value in operands(node)
            ]
            known[node.outputs[0]] = _mean(*given) if node.op_type == "ReduceMean" else _apply(node, given)
        return known[self.nodes[0].outputs[0]]


def operands(node: ir.Node) -> list[ir.Value]:
    """Return what a node computes with: its inputs, without the axes of a reduction."""
    given = node.inputs[:1] if node.op_type == "ReduceMean" else node.inputs
    return [value for value in given if value is not None]


def positions(graph: ir.Graph) -> dict[ir.Node, int]:
    """Return each node's place in the graph's order."""
    return {node: index for index, node in enumerate(graph)}


def pieces(y: ir.Value, order: Mapping[ir.Node, int], *, reductions: bool = False) -> Iterator[Piece]:
    """Yield, shortest first, the pieces that end in `y` and start from one value of its shape and dtype.

    Args:
        y: any value of a graph.
        order: the graph's `positions`.
        reductions: whether means over the last axis may be part of a piece.
    """
    front: dict[ir.Value, None] = {y: None}
    nodes: list[ir.Node] = []
    while front and len(nodes) < LONGEST:
        # Of what is left, the value made last: whatever else is left cannot depend on it.
        latest = max(front, key=lambda value: order.get(value.producer(), -1))  # type: ignore[arg-type]
        node = latest.producer()
        if node is None or node not in order or not _is_known(node, reductions=reductions):
            return
        del front[latest]
        nodes.append(node)
        front |= dict.fromkeys(value for value in operands(node) if value.const_value is None)
        if len(front) == 1:
            (source,) = front
            if source.dtype == y.dtype and same_shape(source, y):
                yield Piece(source, tuple(nodes))


def _is_known(node: ir.Node, *, reductions: bool) -> bool:
    if node.domain or len(node.outputs) > 1:
        return False
    return node.op_type in _ELEMENTWISE or (reductions and _is_row_mean(node))


def _is_row_mean(node: ir.Node) -> bool:
    if node.op_type != "ReduceMean" or len(node.inputs) < 2 or not node.attributes.get_int("keepdims", 1):  # noqa: PLR2004
        return False
    x, axes = node.inputs[:2]
    if x is None or x.shape is None or axes is None or axes.const_value is None:
        return False
    return [int(axis) % len(x.shape) for axis in axes.const_value.numpy().reshape(-1)] == [len(x.shape) - 1]


def _mean(x: Array) -> Array:
    return np.asarray(x.mean(axis=-1, keepdims=True))


def _apply(node: ir.Node, given: list[Array]) -> Array:
    with np.errstate(all="ignore"):
        return _ELEMENTWISE[node.op_type](*given)
