"""The same model in 16 bits and in FP8, made from its portable graph; weights are shapes without data."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from nvfp4_trt.passes.graph import constant, replace_uses
from nvfp4_trt.passes.unquantize import remove_ours, unquantize
from nvfp4_trt.portable import DOMAIN, find_sites, is_ours

if TYPE_CHECKING:
    from collections.abc import Sequence

_SCALES = {"PerTokenScale": "Fp8TokenScale", "PerTensorScale": "Fp8TensorScale"}
_E4M3 = ir.DataType.FLOAT8E4M3FN


def to_16_bits(model: ir.Model) -> None:
    """Take the quantizers out of a portable model, in place; weights keep their names' stems and get no data.

    Args:
        model: what `portable.load` returns. Run nothing on it: asked for, a weight is zeros.
    """
    unquantize(model, lambda node: _weight(model.graph, f"{node.name}/float", _shape(node), _dtype(node)))


def to_fp8(model: ir.Model) -> None:
    """Make every NVFP4 linear of a portable model FP8, in place: its scales where they were, weights by channel.

    Linears whose activations are not quantized get a constant scale for them: W8A8 is what FP8 engines are.

    Args:
        model: see `to_16_bits`.
    """
    graph = model.graph
    one = constant(graph, "nvfp4.plan_scale", np.ones((), np.float32))
    made: dict[str, ir.Value] = {}
    for site in find_sites(graph):
        if is_ours(site.weight, {"Fp8Dequantize"}):
            continue
        x = site.gemm.inputs[0] if site.quantize is None else site.quantize.inputs[0]
        if x is None or site.gemm.inputs[0] is None:
            continue
        scale = site.quantize.inputs[1] if site.quantize is not None and len(site.quantize.inputs) > 1 else one
        if site.scale is not None and site.scale.op_type in _SCALES:
            site.scale.op_type = _SCALES[site.scale.op_type]
            site.scale.attributes.clear()
        # Layers that shared a quantizer share its like.
        name = f"{site.layer if site.quantize is None else site.quantize.name}/fp8"
        if name not in made:
            made[name] = _fp8_activation(
                graph, name, x, scale or one, dtype=_dtype(site.weight), before=site.quantize or site.gemm
            )
        site.gemm.replace_input_with(0, made[name])
        _fp8_weight(graph, site.layer, site.weight)
    remove_ours(model)


def _fp8_activation(
    graph: ir.Graph, name: str, x: ir.Value, scale: ir.Value, *, dtype: ir.DataType, before: ir.Node
) -> ir.Value:
    """Return the activation, quantized to FP8 and dequantized to the weight's dtype: its own may not be known."""
    codes = ir.node("Fp8Quantize", [x, scale], domain=DOMAIN, name=f"{name}/codes")
    _like(codes, x, _E4M3)
    attributes = {"dtype": int(dtype)}
    values = ir.node("Fp8Dequantize", [codes.outputs[0], scale], attributes, domain=DOMAIN, name=f"{name}/values")
    _like(values, x, dtype)
    graph.insert_before(before, [codes, values])
    return values.outputs[0]


def _fp8_weight(graph: ir.Graph, layer: str, weight: ir.Node) -> None:
    out = weight.outputs[0]
    shape = _shape(weight)
    # `layer_name` reads the layer off this name.
    codes = _weight(graph, f"{layer}.weight_fp8" if layer else "weight_fp8", shape, _E4M3)
    scale = _weight(graph, f"{layer}.weight_fp8_scale", (shape[0], 1), ir.DataType.FLOAT)
    attributes = {"dtype": int(_dtype(weight))}
    made = ir.node("Fp8Dequantize", [codes, scale], attributes, domain=DOMAIN, name=f"{weight.name}/fp8")
    _like(made, out, _dtype(weight))
    graph.insert_before(weight, made)
    replace_uses(graph, out, made.outputs[0])


def _like(node: ir.Node, value: ir.Value, dtype: ir.DataType) -> None:
    """Name a new node's output after it, and give it another value's shape."""
    made = node.outputs[0]
    made.name, made.shape, made.type = node.name, value.shape, ir.TensorType(dtype)


def _weight(graph: ir.Graph, name: str, shape: Sequence[int], dtype: ir.DataType) -> ir.Value:
    """Return a new initializer of that shape, whose zeros are made when they are asked for."""
    if name in graph.initializers:
        return graph.initializers[name]
    extents = ir.Shape(shape)
    tensor = ir.LazyTensor(partial(_zeros, tuple(shape), dtype, name), dtype, extents, name=name)
    value = ir.Value(name=name, shape=extents, type=ir.TensorType(dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def _zeros(shape: tuple[int, ...], dtype: ir.DataType, name: str) -> ir.TensorProtocol:
    return ir.tensor(np.zeros(shape, dtype.numpy()), name=name)


def _shape(node: ir.Node) -> tuple[int, ...]:
    """Return the shape of the weight that a node dequantizes: that of its codes, of which a byte may hold two."""
    codes = node.inputs[0]
    dims = [dim for dim in (() if codes is None else codes.shape or ()) if isinstance(dim, int)]
    packed = not is_ours(node, {"Fp8Dequantize"})
    return (*dims[:-1], dims[-1] * 2) if packed and dims else tuple(dims)


def _dtype(node: ir.Node) -> ir.DataType:
    """Return the dtype that a node dequantizes to."""
    return ir.DataType(node.attributes.get_int("dtype", int(ir.DataType.FLOAT)))
