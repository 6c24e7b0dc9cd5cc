"""bf16 graphs for runtimes without bf16 kernels: each operator computes in fp32 and rounds to bf16 after."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from nvfp4_trt.passes.graph import Builder, replace_uses
from nvfp4_trt.portable import DOMAIN

_BF16, _FP32 = ir.DataType.BFLOAT16, ir.DataType.FLOAT
_LEFT_ALONE = {"Cast", "Constant"}
_GRAPHS = {ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS}


def holds_bf16(model: ir.Model) -> bool:
    """Return whether any value of the graph is bf16."""
    graph = model.graph
    made = (value for node in graph.all_nodes() for value in node.outputs)
    return any(value.dtype == _BF16 for value in (*graph.inputs, *graph.initializers.values(), *made))


def widen(model: ir.Model) -> None:
    """Run every bf16 operator in fp32, in place, and make the graph's bf16 inputs and outputs fp32.

    An operator gets a `Cast` up in front of it, and behind it one down: each result is rounded to bf16
    once, as by a bf16 kernel that accumulates in fp32. Nodes of domain `nvfp4` widen by themselves, so
    they stay as they are.

    Args:
        model: any checked model; what types its values lack are inferred.
    """
    ShapeInferencePass()(model)
    for node in list(model.graph.all_nodes()):
        if node.domain != DOMAIN and node.op_type not in _LEFT_ALONE and not _has_subgraph(node):
            _compute_in_fp32(node)
    _widen_inputs(model.graph)
    _widen_outputs(model.graph)


def _has_subgraph(node: ir.Node) -> bool:
    return any(attribute.type in _GRAPHS for attribute in node.attributes.values())


def _compute_in_fp32(node: ir.Node) -> None:
    graph = node.graph
    if not isinstance(graph, ir.Graph):
        raise TypeError(f"{node.name} is in no graph")
    name = node.outputs[0].name  # of values there are no two alike; a node's may be empty
    before = Builder(graph, f"{name}/widen", before=node)
    for index, value in enumerate(node.inputs):
        if value is not None and value.dtype == _BF16:
            node.replace_input_with(index, before.cast(value, _FP32, f"in{index}"))
    _widen_constants(node)
    after = Builder(graph, f"{name}/round", after=node)
    for index, value in enumerate(node.outputs):
        if value.dtype != _BF16:
            continue
        value.type = ir.TensorType(_FP32)
        rounded = after.cast(value, _BF16, f"out{index}")
        replace_uses(graph, value, rounded, keep={rounded.producer()})


def _widen_constants(node: ir.Node) -> None:
    """Widen a value that a node makes its output from, as `ConstantOfShape` does."""
    for name, attribute in list(node.attributes.items()):
        if attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype == _BF16:
            node.attributes[name] = ir.AttrTensor(name, ir.tensor(attribute.as_tensor().numpy().astype("float32")))


def _widen_inputs(graph: ir.Graph) -> None:
    for value in graph.inputs:
        if value.dtype == _BF16 and len(graph):
            value.type = ir.TensorType(_FP32)
            narrow = Builder(graph, f"{value.name}/narrow", before=graph[0]).cast(value, _BF16, "bf16")
            for user, index in list(value.uses()):
                if user is not narrow.producer():
                    user.replace_input_with(index, narrow)


def _widen_outputs(graph: ir.Graph) -> None:
    for index, value in enumerate(graph.outputs):
        if value.dtype == _BF16 and len(graph):
            wide = Builder(graph, f"{value.name}/wide", after=graph[-1]).cast(value, _FP32, "fp32")
            wide.name, value.name = value.name, f"{value.name}.bf16"
            graph.outputs[index] = wide
