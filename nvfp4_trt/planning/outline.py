"""A lowered graph at one shape of its inputs: shapes, dtypes, and what of it is left to run time."""

from __future__ import annotations

import math
from enum import IntEnum
from typing import TYPE_CHECKING

import onnx_ir as ir

from nvfp4_trt.auditing.record import BITS
from nvfp4_trt.costing.inference import Inference
from nvfp4_trt.passes import QUARTER
from nvfp4_trt.planning.operators import Role, role_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Shape = tuple[int, ...]

_TABLES = frozenset({"Expand", "Gather", "GatherElements", "GatherND", "Pad", "Reshape", "Slice", "Tile"})
"""What makes a tensor where its first input is a constant and another one an extent."""
_UNFOLDED = frozenset({"Expand", "Gather", "GatherElements", "GatherND"})
_FOLDED = 64
"""TensorRT computes these of constants when it builds up to about so many elements."""
NAMES = {
    ir.DataType.FLOAT4E2M1: "FP4E2M1",
    ir.DataType.FLOAT8E4M3FN: "FP8",
    ir.DataType.FLOAT16: "Half",
    ir.DataType.BFLOAT16: "BFloat16",
    ir.DataType.FLOAT: "Float",
    ir.DataType.DOUBLE: "Float",
    ir.DataType.INT32: "Int32",
    ir.DataType.INT64: "Int64",
    ir.DataType.INT8: "Int8",
    ir.DataType.UINT8: "UInt8",
    ir.DataType.BOOL: "Bool",
}
"""Dtype → TensorRT's name of it, as layer records have it."""


class Time(IntEnum):
    """When a tensor is computed."""

    BUILD = 0
    HOST = 1
    """At run time, from extents, on the host."""
    EXTENTS = 2
    """At run time, from extents and constants alone, on the device."""
    DATA = 3
    """At run time, from what the inputs hold."""


class Outline:
    """Shapes, dtypes and times of a graph's tensors.

    Args:
        model: a lowered model; it stays as it is, and no weight is read.
        inputs: input name → shape; inputs that are not named must have a fixed shape.
        narrow: take fp32 activations for 16 bits: the engine of the same model in bf16.

    Raises:
        ValueError: an input has no fixed shape and is not named, or its shape contradicts the model's.
    """

    def __init__(self, model: ir.Model, inputs: Mapping[str, Shape], *, narrow: bool = False) -> None:
        self.graph = model.graph
        found = Inference(model, inputs)
        self._shapes, self._dtypes = found.shapes(), found.dtypes()
        self._narrow = narrow
        self.dynamic = any(
            not isinstance(dim, int)
            for value in model.graph.inputs
            if value.name not in model.graph.initializers
            for dim in value.shape or ()
        )
        self.nodes = _alive(model.graph)
        self._alive = frozenset(self.nodes)
        self._times: dict[ir.Value, Time] = {
            value: Time.DATA for value in model.graph.inputs if value.name not in model.graph.initializers
        }
        for node in self.nodes:
            time = self._time_of(node)
            self._times.update(dict.fromkeys(node.outputs, time))

    @property
    def unknown(self) -> Iterator[ir.Value]:
        """The tensors of run time whose shape is not known."""
        for node in self.nodes:
            for value in node.outputs:
                read = value.is_graph_output() or self.users(value)
                if read and self.time(value) is Time.DATA and value.name not in self._shapes:
                    yield value

    def users(self, *values: ir.Value) -> list[ir.Node]:
        """Return the nodes that read any of these tensors and matter to an output."""
        return [user for value in values for user, _ in value.uses() if user in self._alive]

    def time(self, value: ir.Value | None) -> Time:
        """Return when a tensor is computed."""
        return Time.BUILD if value is None else self._times.get(value, Time.BUILD)

    def shape(self, value: ir.Value | None) -> Shape:
        """Return the shape of a tensor; `()` where it is not known."""
        return () if value is None else self._shapes.get(value.name or "", ())

    def elements(self, value: ir.Value | None) -> int:
        """Return the number of a tensor's elements."""
        return math.prod(self.shape(value))

    def dtype(self, value: ir.Value) -> str:
        """Return TensorRT's name of a tensor's dtype."""
        held = value.dtype or self._dtypes.get(value.name or "")
        name = NAMES.get(held, "Float") if held is not None else "Float"
        return "BFloat16" if self._narrow and name == "Float" and self.elements(value) > _FOLDED else name

    def nbytes(self, value: ir.Value) -> int:
        """Return the bytes of a tensor."""
        return -(-self.elements(value) * BITS.get(self.dtype(value), 32) // 8)

    def role(self, node: ir.Node) -> Role:
        """Return a node's role."""
        role = role_of(node.domain, node.op_type)
        if node.op_type == "QuantizeLinear" and node.outputs[0].dtype == ir.DataType.FLOAT4E2M1:
            return Role.BLOCKS
        if node.op_type == "ReduceMax" and self.shape(node.inputs[0])[-1:] == (QUARTER,):
            return Role.BLOCKS  # of `BlockQuantizers`
        if role is Role.PRODUCT and self.shape(node.inputs[0])[-1:] == (1,):
            return Role.POINTWISE  # an outer product, as of positions and frequencies
        return role

    def _time_of(self, node: ir.Node) -> Time:
        times = [self.time(value) for value in reads(node)]
        latest = max(times, default=Time.BUILD)
        role = role_of(node.domain, node.op_type)
        if role is Role.EXTENT:
            return Time.HOST if self.dynamic and latest is Time.DATA else Time.BUILD
        if latest is Time.HOST and (role is Role.SOURCE or (node.op_type in _TABLES and times[0] is Time.BUILD)):
            return Time.EXTENTS
        large = node.op_type in _UNFOLDED and self.elements(node.outputs[0]) > _FOLDED
        return Time.EXTENTS if latest is Time.BUILD and large else latest


def reads(node: ir.Node) -> Iterator[ir.Value]:
    """Yield the tensors that a node reads, those that its branches or its body take from outside too."""
    yield from (value for value in node.inputs if value is not None)
    for attribute in node.attributes.values():
        if attribute.type in {ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS}:
            held = [attribute.value] if attribute.type == ir.AttributeType.GRAPH else attribute.value
            inner = [each for graph in held for each in graph.all_nodes()]
            made = {value for each in inner for value in each.outputs}
            read = (value for each in inner for value in each.inputs if value is not None)
            yield from (value for value in dict.fromkeys(read) if value not in made)


def _alive(graph: ir.Graph) -> tuple[ir.Node, ...]:
    """Return the nodes that an output of the graph depends on, in its order."""
    wanted = {value.producer() for value in graph.outputs}
    for node in reversed(list(graph)):
        if node in wanted:
            wanted.update(value.producer() for value in reads(node))
    return tuple(node for node in graph if node in wanted)
