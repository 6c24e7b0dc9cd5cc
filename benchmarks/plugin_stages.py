"""A lowered graph with plugin nodes, taken apart into what TensorRT builds between them.

TensorRT runs a plugin's layer as one opaque step: no kernel reaches across it. A node's stage is the largest
number of plugin nodes on any path to it, so that no kernel can hold nodes of two stages. Each stage becomes a
graph of its own, whose inputs are the values that it reads from plugins and from earlier stages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from nvfp4_trt.passes.plugin_nodes import is_plugin

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHAPES = {ir.DataType.INT64, ir.DataType.BOOL}
"""Element types of shape arithmetic, which a stage computes again instead of reading."""


def stages(model: ir.Model) -> Iterator[ir.Model]:
    """Yield a model for each stage that holds nodes, in order.

    Args:
        model: what `lower(model, plugin=True)` made; every value has a type and a shape.
    """
    numbers = _numbers(model.graph)
    for number in sorted(set(numbers.values())):
        own = [node for node, stage in numbers.items() if stage == number and not _is_shape(node)]
        if own:
            yield _model(model, own, number)


def plugin_nodes(model: ir.Model) -> int:
    """Return how many plugin nodes a model has, each of which is one kernel launch."""
    return sum(is_plugin(node) for node in model.graph)


def _numbers(graph: ir.Graph) -> dict[ir.Node, int]:
    """Return the stage of each node that is not a plugin's."""
    after: dict[ir.Value, int] = {}
    found = {}
    for node in graph:
        stage = max((after.get(value, 0) for value in node.inputs if value is not None), default=0)
        if not is_plugin(node):
            found[node] = stage
        for value in node.outputs:
            after[value] = stage + is_plugin(node)
    return found


def _is_shape(node: ir.Node) -> bool:
    return not is_plugin(node) and all(value.dtype in _SHAPES for value in node.outputs)


def _model(model: ir.Model, own: list[ir.Node], number: int) -> ir.Model:
    wanted = _with_shapes(own)
    nodes = [node for node in model.graph if node in wanted]
    made = {value for node in nodes for value in node.outputs}
    read = dict.fromkeys(value for node in nodes for value in node.inputs if value is not None)
    constants = [value for value in read if value.const_value is not None]
    inputs = [value for value in read if value not in made and value.const_value is None]
    outputs = [
        value
        for value in dict.fromkeys(value for node in own for value in node.outputs)
        if value.is_graph_output() or any(user not in wanted or _other(user, own) for user, _ in value.uses())
    ]
    return _copy(model, nodes, inputs, outputs, constants, number)


def _other(node: ir.Node, own: list[ir.Node]) -> bool:
    return node not in own and not _is_shape(node)


def _with_shapes(own: list[ir.Node]) -> set[ir.Node]:
    """Return nodes with the shape arithmetic that they read."""
    wanted, left = set(own), list(own)
    while left:
        for value in left.pop().inputs:
            node = None if value is None else value.producer()
            if node is not None and node not in wanted and _is_shape(node):
                wanted.add(node)
                left.append(node)
    return wanted


def _copy(
    model: ir.Model,
    nodes: list[ir.Node],
    inputs: list[ir.Value],
    outputs: list[ir.Value],
    constants: list[ir.Value],
    number: int,
) -> ir.Model:
    """Return a model of these nodes: new nodes and values, shared constants."""
    new: dict[ir.Value, ir.Value] = {}
    for value in (*inputs, *constants, *(out for node in nodes for out in node.outputs)):
        new[value] = ir.Value(name=value.name, shape=value.shape, type=value.type, const_value=value.const_value)
    copies = [
        ir.Node(
            node.domain,
            node.op_type,
            [None if value is None else new[value] for value in node.inputs],
            list(node.attributes.values()),
            outputs=[new[value] for value in node.outputs],
            name=node.name,
        )
        for node in nodes
    ]
    graph = ir.Graph(
        [new[value] for value in inputs],
        [new[value] for value in outputs],
        nodes=copies,
        initializers=[new[value] for value in constants],
        opset_imports=dict(model.graph.opset_imports),
        name=f"stage_{number}",
    )
    return ir.Model(graph, ir_version=model.ir_version)
