"""A portable model without its quantizers, computed in 16 bits throughout: what an FP4 engine is held against."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from nvfp4_trt.format.reference import dequantize
from nvfp4_trt.passes.graph import Builder, remove_unused, replace_uses
from nvfp4_trt.portable import find_sites, is_ours

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.generic]

_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
_WEIGHTS = {"Dequantize", "DequantizeSingleLevel", "Fp8Dequantize"}
_KEEPS_FP32 = {"Resize": (1, 2), "Upsample": (1,)}
"""Operators that want fp32 in these inputs, whatever they compute in."""


def to_floats(model: ir.Model, dtype: ir.DataType) -> None:
    """Take the quantizers out of a portable model, in place, and compute in one 16-bit dtype.

    Weights are what their codes mean: a GPU that multiplies zeros takes less power, and is faster. Inputs and
    outputs keep their dtypes. What the model computes in fp32, such as norms, is in 16 bits too.

    Args:
        model: what `portable.load` returns.
        dtype: BFLOAT16 or FLOAT16.
    """
    graph = model.graph
    for site in find_sites(graph):
        if site.activation is not None and site.quantize is not None and site.quantize.inputs[0] is not None:
            replace_uses(graph, site.activation.outputs[0], site.quantize.inputs[0])
    for node in [node for node in graph if is_ours(node, _WEIGHTS)]:
        _store_weight(graph, node)
    remove_unused(graph, [node for node in reversed(list(graph)) if is_ours(node)])
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]
    _narrow(graph, dtype)
    model.functions.clear()


def _store_weight(graph: ir.Graph, node: ir.Node) -> None:
    """Replace a weight's codes by the numbers that they mean; they are computed when the file is written."""
    held = [value.const_value for value in node.inputs if value is not None and value.const_value is not None]
    out = node.outputs[0]
    if len(held) != len(node.inputs) or out.shape is None:
        return
    name = f"{node.inputs[0] and node.inputs[0].name}/float"
    numbers = partial(_numbers, node.op_type, tuple(held), name)
    tensor = ir.LazyTensor(numbers, ir.DataType.FLOAT, ir.Shape(out.shape.numpy()), name=name)
    value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    replace_uses(graph, out, value)


def _numbers(operator: str, held: tuple[ir.TensorProtocol, ...], name: str) -> ir.TensorProtocol:
    codes, *scales = (tensor.numpy() for tensor in held)
    if operator == "Fp8Dequantize":
        made: Array = codes.astype(np.float32) * scales[0].astype(np.float32)
    elif operator == "DequantizeSingleLevel":
        made = dequantize(codes, scales[0].view(np.uint8), None)
    else:
        made = dequantize(codes, scales[0].view(np.uint8), scales[1])
    return ir.tensor(made, name=name)


def _narrow(graph: ir.Graph, dtype: ir.DataType) -> None:
    """Compute in `dtype` wherever floats are computed with."""
    keeps = {
        node.inputs[index]
        for node in graph
        for index in _KEEPS_FP32.get(node.op_type, ())
        if index < len(node.inputs)
    }
    for value in graph.initializers.values():
        if (
            value.dtype in _FLOATS
            and value.dtype != dtype
            and value not in keeps
            and value.const_value is not None
        ):
            cast = partial(_cast, value.const_value, dtype)
            shape = ir.Shape(value.const_value.shape.numpy())
            value.const_value = ir.LazyTensor(cast, dtype, shape, name=value.name)
            value.dtype = dtype
    for node in graph.all_nodes():
        _narrow_node(node, dtype)
    _keep_ports(graph, dtype)


def _narrow_node(node: ir.Node, dtype: ir.DataType) -> None:
    to = node.attributes.get("to")
    if node.op_type == "Cast" and to is not None and ir.DataType(to.as_int()) in _FLOATS:
        node.attributes["to"] = ir.AttrInt64("to", int(dtype))
    for name, attribute in list(node.attributes.items()):
        if attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype in _FLOATS:
            node.attributes[name] = ir.AttrTensor(name, _cast(attribute.as_tensor(), dtype))
    for value in node.outputs:
        if value.dtype in _FLOATS:
            value.dtype = dtype


def _keep_ports(graph: ir.Graph, dtype: ir.DataType) -> None:
    """Cast behind each float input and in front of each float output, which keep dtype and name."""
    for value in graph.inputs:
        if value.dtype in _FLOATS and value.dtype != dtype and value.uses():
            users = list(value.uses())
            narrowed = Builder(graph, f"{value.name}/16", before=graph[0]).cast(value, dtype, "cast")
            for node, index in users:
                node.replace_input_with(index, narrowed)
    for index, value in enumerate(list(graph.outputs)):
        if value.dtype == dtype and value.producer() is not None:
            wide = Builder(graph, f"{value.name}/32", after=graph[-1]).cast(value, ir.DataType.FLOAT, "cast")
            wide.name, value.name = value.name, f"{value.name}/16"
            graph.outputs[index] = wide


def _cast(tensor: ir.TensorProtocol, dtype: ir.DataType) -> ir.TensorProtocol:
    return ir.tensor(tensor.numpy().astype(dtype.numpy()), dtype=dtype, name=tensor.name)
