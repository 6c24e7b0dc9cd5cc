"""Small helpers that the passes share: constants, and nodes put in place of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from nvfp4_trt.portable import BLOCK

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

ALONG_K = {"axis": -1, "block_size": BLOCK}
"""Attributes of QuantizeLinear and DequantizeLinear with a scale for each block of K."""


def constant(graph: ir.Graph, name: str, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> ir.Value:
    """Return the graph's initializer `name`, made from `array` where it is not there yet."""
    if name in graph.initializers:
        return graph.initializers[name]
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def scalar(graph: ir.Graph, number: float, *, label: str) -> ir.Value:
    """Return an fp32 scalar initializer named after what it is for."""
    return constant(graph, f"nvfp4.{label}", np.array(number, dtype=np.float32))


def array_of(value: ir.Value | None) -> NDArray[np.generic]:
    """Return the data of an initializer.

    Raises:
        ValueError: the value is not a constant.
    """
    if value is None or value.const_value is None:
        raise ValueError(f"{value and value.name} is not in the file")
    return value.const_value.numpy()


class Builder:
    """Makes nodes in a row, named below `prefix`: in front of the node `before`, or behind `after`."""

    def __init__(
        self, graph: ir.Graph, prefix: str, *, before: ir.Node | None = None, after: ir.Node | None = None
    ) -> None:
        if (before is None) == (after is None):
            raise ValueError("give one of before and after")
        self.graph, self.prefix, self.before, self.after = graph, prefix, before, after

    def _insert(self, made: ir.Node) -> None:
        if self.before is not None:
            self.graph.insert_before(self.before, made)
        elif self.after is not None:
            self.graph.insert_after(self.after, made)
            self.after = made

    def node(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        label: str,
        *,
        attributes: Mapping[str, int | float | str | Sequence[int]] | None = None,
        domain: str = "",
        outputs: int = 1,
        like: ir.Value | None = None,
    ) -> ir.Node:
        """Insert a node `prefix/label`; its first output takes type and shape from `like`, where given."""
        name = f"{self.prefix}/{label}"
        made = ir.node(op, inputs, attributes or {}, domain=domain, num_outputs=outputs, name=name)
        for index, value in enumerate(made.outputs):
            value.name = name if index == 0 else f"{name}.{index}"
        if like is not None:
            made.outputs[0].type, made.outputs[0].shape = like.type, like.shape
        self._insert(made)
        return made

    def cast(self, value: ir.Value, to: ir.DataType, label: str) -> ir.Value:
        """Return `value` as `to`: itself where it already is."""
        if value.dtype == to:
            return value
        made = self.node("Cast", [value], label, attributes={"to": int(to)}).outputs[0]
        made.type, made.shape = ir.TensorType(to), value.shape
        return made


def dequantize_blocks(build: Builder, codes: ir.Value, steps: ir.Value, like: ir.Value) -> ir.Value:
    """Return the numbers of FLOAT4E2M1 codes, in the dtype of `like`.

    Args:
        build: where the nodes go.
        codes: `[..., K]`.
        steps: fp32 `[..., K / 16]`: block scales times the per-tensor scale.
        like: what the numbers take the place of.
    """
    values = build.node("DequantizeLinear", [codes, steps], "values", attributes=ALONG_K).outputs[0]
    values.type, values.shape = ir.TensorType(ir.DataType.FLOAT), codes.shape
    return build.cast(values, like.dtype or ir.DataType.FLOAT, "cast")


def remove_unused(graph: ir.Graph, nodes: Sequence[ir.Node | None]) -> None:
    """Remove those nodes that nothing uses any more, in the given order."""
    for node in nodes:
        if node is None or node.graph is not graph:
            continue
        if not any(out.uses() or out.is_graph_output() for out in node.outputs):
            graph.remove(node, safe=True)


def replace_uses(graph: ir.Graph, old: ir.Value, new: ir.Value, *, keep: Collection[ir.Node | None] = ()) -> None:
    """Let everything but the nodes in `keep` use `new` instead of `old`, which gives up a graph output's name."""
    for node, index in list(old.uses()):
        if node not in keep:
            node.replace_input_with(index, new)
    for index, output in enumerate(graph.outputs):
        if output is old:
            new.name, old.name = old.name, f"{new.name}.before"
            graph.outputs[index] = new
