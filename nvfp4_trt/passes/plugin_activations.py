"""An activation function in front of a plugin quantizer → part of the quantizer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnx_ir as ir

from nvfp4_trt.passes.base import LoweringPass
from nvfp4_trt.passes.formulas import erf, pieces, positions, sigmoid
from nvfp4_trt.passes.plugin_nodes import fold, plain_quantizers, same_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nvfp4_trt.passes.formulas import Array

_SAMPLES: Array = np.linspace(-8.0, 8.0, 257)
_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x * sigmoid(x),
}
# What rounding the constants of a formula to the dtype can make of it. GELU's two forms differ by 4.7e-4.
_TOLERANCE = {ir.DataType.FLOAT: 1e-6, ir.DataType.FLOAT16: 2e-4, ir.DataType.BFLOAT16: 2e-3}


class _Activation(NamedTuple):
    function: str
    x: ir.Value
    dead: tuple[ir.Node, ...]
    """The nodes that compute it, last first."""
    other: ir.Value | None = None


class PluginActivations(LoweringPass):
    """Folds GELU (either form), SiLU, SiLU times another tensor, and ReLU into the quantizer behind them.

    Operators of those names are taken as such; anything else by what it computes (see `formulas`). Where the
    result is also used elsewhere, the quantizer gives it as a further output.

    Needs: `PluginLinears` has run. After: no such function stands in front of a plugin quantizer alone.
    Meaning: up to rounding. The function is computed in fp32 and rounded once to the activation's dtype; a
    16-bit graph of several operators rounds after each.
    """

    name = "plugin-activations"

    def run(self, model: ir.Model) -> int:
        """See `LoweringPass.run`."""
        count = 0
        order = positions(model.graph)
        for node, plain in plain_quantizers(model.graph):
            found = _product(plain.x, order) or _activation(plain.x, order)
            if found is not None:
                made = replace(plain, x=found.x, other=found.other, function=found.function)
                fold(model.graph, node, made, found.dead)
                order = positions(model.graph)
                count += 1
        return count


def _activation(y: ir.Value, order: Mapping[ir.Node, int]) -> _Activation | None:
    """Return the function of one tensor that gives `y`."""
    node = y.producer()
    if node is None or node.domain:
        return None
    x = node.inputs[0] if node.inputs else None
    if node.op_type in {"Gelu", "Relu"} and x is not None:
        tanh = node.attributes.get_string("approximate", "none") == "tanh"
        name = "relu" if node.op_type == "Relu" else "gelu_tanh" if tanh else "gelu"
        return _Activation(name, x, (node,))
    for piece in pieces(y, order):
        if any(value.const_value is None or value.const_value.size != 1 for value in piece.constants()):
            return None
        nearest = _nearest(piece.evaluate(_SAMPLES), y.dtype)
        if nearest is not None:
            return _Activation(nearest, piece.source, piece.nodes)
    return None


def _nearest(found: Array, dtype: ir.DataType | None) -> str | None:
    errors = {name: float(np.abs(found - function(_SAMPLES)).max()) for name, function in _FUNCTIONS.items()}
    name = min(errors, key=lambda each: errors[each] if errors[each] == errors[each] else np.inf)
    return name if dtype in _TOLERANCE and errors[name] < _TOLERANCE[dtype] else None


def _product(y: ir.Value, order: Mapping[ir.Node, int]) -> _Activation | None:
    """Return the SiLU and its factor whose product `y` is."""
    node = y.producer()
    if node is None or node.op_type != "Mul" or node.domain:
        return None
    for left, right in (node.inputs, node.inputs[::-1]):
        if left is None or right is None or right.const_value is not None or right.dtype != y.dtype:
            continue
        found = _activation(left, order) if same_shape(left, y) and same_shape(right, y) else None
        if found is not None and found.function == "silu" and right is not found.x:
            return _Activation("silu_mul", found.x, (node, *_alone(found.dead, node)), right)
    return None


def _alone(nodes: tuple[ir.Node, ...], reader: ir.Node) -> tuple[ir.Node, ...]:
    """Return the nodes of the SiLU where only the product reads it, else none: it stays for the others."""
    out = nodes[0].outputs[0]
    shared = out.is_graph_output() or any(user is not reader for user, _ in out.uses())
    return () if shared else nodes
