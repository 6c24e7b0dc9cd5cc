"""A portable model without its quantizers, computed in 16 bits throughout: what an FP4 engine is held against."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from nvfp4_trt.format.reference import dequantize
from nvfp4_trt.passes.graph import Builder
from nvfp4_trt.passes.unquantize import unquantize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.generic]

_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
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
    unquantize(model, partial(_stored_weight, graph))
    _narrow(graph, dtype)
    model.functions.clear()


def _stored_weight(graph: ir.Graph, node: ir.Node) -> ir.Value | None:
    """Return the numbers that a weight's codes mean; they are computed when the file is written."""
    held = [value.const_value for value in node.inputs if value is not None and value.const_value is not None]
    shape = node.outputs[0].shape
    if len(held) != len(node.inputs) or shape is None:
        return None
    name = f"{node.inputs[0] and node.inputs[0].name}/float"
    if name in graph.initializers:
        return graph.initializers[name]
    numbers = partial(_numbers, node.op_type, tuple(held), name)
    tensor = ir.LazyTensor(numbers, ir.DataType.FLOAT, ir.Shape(shape.numpy()), name=name)
    value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


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
