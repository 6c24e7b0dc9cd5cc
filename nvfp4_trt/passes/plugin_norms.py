"""A norm in front of a plugin quantizer, with the residual's addition in front of it → part of the quantizer."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nvfp4_trt.passes.base import LoweringPass
from nvfp4_trt.passes.formulas import pieces, positions
from nvfp4_trt.passes.plugin_nodes import fold, plain_quantizers, same_shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import onnx_ir as ir

    from nvfp4_trt.passes.formulas import Array, Piece

_NORMS = {"LayerNormalization": "layer_norm", "RMSNormalization": "rms_norm"}
_LARGEST_EPSILON = 0.01
_TOLERANCE = 1e-5


class _Norm(NamedTuple):
    function: str
    x: ir.Value
    weight: ir.Value | None
    bias: ir.Value | None
    epsilon: float
    dead: tuple[ir.Node, ...]
    """The nodes that compute it, last first."""


class _Sum(NamedTuple):
    node: ir.Node
    left: ir.Value
    right: ir.Value


class PluginNorms(LoweringPass):
    """Folds LayerNorm and RMSNorm over the last axis into the quantizer behind them.

    Norms that are operators are taken as such, and those written out by what they compute (see `formulas`).
    An addition of two tensors of one shape in front goes along. What is also used elsewhere, the norm's result
    (BERT) or the sum (pre-norm models), the quantizer gives as a further output.

    Needs: `PluginLinears` has run. After: no such norm stands in front of a plugin quantizer alone.
    Meaning: up to rounding. The sum is rounded to the activation's dtype, as the addition was; the norm is
    computed in fp32 and rounded once, where a norm written out in 16 bits rounds again before its weight.
    """

    name = "plugin-norms"

    def run(self, model: ir.Model) -> int:
        """See `LoweringPass.run`."""
        count = 0
        order = positions(model.graph)
        for node, plain in plain_quantizers(model.graph):
            norm = _operator(plain.x) or _written_out(plain.x, order)
            if norm is None:
                continue
            made = replace(
                plain,
                x=norm.x,
                function=norm.function,
                epsilon=norm.epsilon,
                weight=norm.weight,
                bias=norm.bias,
            )
            add = _residual(norm.x)
            if add is None:
                fold(model.graph, node, made, norm.dead)
            else:
                made = replace(made, x=add.left, other=add.right)
                fold(model.graph, node, made, (*norm.dead, add.node), total=norm.x)
            order = positions(model.graph)
            count += 1
        return count


def _operator(y: ir.Value) -> _Norm | None:
    """Return the norm whose operator gives `y`."""
    node = y.producer()
    if node is None or node.domain or node.op_type not in _NORMS or y is not node.outputs[0]:
        return None
    x, weight, bias = (*node.inputs, None)[:3]
    if x is None or x.shape is None or x.dtype != y.dtype or any(out.uses() for out in node.outputs[1:]):
        return None
    last = node.attributes.get_int("axis", -1) in {-1, len(x.shape) - 1}
    if not last or node.attributes.get_int("stash_type", 1) != 1:
        return None
    if not all(value is None or _is_vector(value, x) for value in (weight, bias)):
        return None
    epsilon = node.attributes.get_float("epsilon", 1e-5)
    return _Norm(_NORMS[node.op_type], x, weight, bias, epsilon, (node,))


def _is_vector(value: ir.Value, x: ir.Value) -> bool:
    if value.const_value is None or x.shape is None or value.dtype != x.dtype:
        return False
    return tuple(value.const_value.shape) == (x.shape[-1],)


def _written_out(y: ir.Value, order: Mapping[ir.Node, int]) -> _Norm | None:
    """Return the norm that a row of standard operators computes.

    The longest piece that is one: without its first two nodes, a LayerNorm is an RMSNorm of centred rows.
    """
    reducing = [piece for piece in pieces(y, order, reductions=True) if _reduces(piece)]
    return next((norm for piece in reversed(reducing) if (norm := _match(piece)) is not None), None)


def _reduces(piece: Piece) -> bool:
    return any(node.op_type == "ReduceMean" for node in piece.nodes)


def _match(piece: Piece) -> _Norm | None:
    constants = piece.constants()
    scalars = [v for v in constants if v.const_value is not None and v.const_value.size == 1]
    vectors = [value for value in constants if value not in scalars]
    k = None if piece.source.shape is None else piece.source.shape[-1]
    if not isinstance(k, int) or not all(_is_vector(value, piece.source) for value in vectors):
        return None
    found = [float(v.const_value.numpy().reshape(-1)[0]) for v in scalars if v.const_value is not None]
    for epsilon in (number for number in dict.fromkeys(found) if 0 < number <= _LARGEST_EPSILON):
        # Rows so small that epsilon decides, beside rows of ordinary size.
        sizes = np.array([[1.0], [3.0], [epsilon**0.5]])
        x = sizes * np.random.default_rng(0).normal(0.25, 1.0, (3, k))
        wanted = piece.evaluate(x)
        for function, weight, bias in _readings(vectors):
            error = np.abs(_norm(x, function, weight, bias, epsilon) - wanted).max()
            if error < _TOLERANCE * np.abs(wanted).max():
                return _Norm(function, piece.source, weight, bias, epsilon, piece.nodes)
    return None


def _readings(vectors: list[ir.Value]) -> Iterator[tuple[str, ir.Value | None, ir.Value | None]]:
    """Yield every way in which a norm's vectors can be its weight and its bias."""
    if len(vectors) <= 1:
        weight = vectors[0] if vectors else None
        yield "rms_norm", weight, None
        yield "layer_norm", weight, None
    for weight, bias in itertools.permutations(vectors, 2) if len(vectors) == 2 else ():  # noqa: PLR2004
        yield "layer_norm", weight, bias
    if len(vectors) == 1:
        yield "layer_norm", None, vectors[0]


def _norm(x: Array, function: str, weight: ir.Value | None, bias: ir.Value | None, epsilon: float) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True) if function == "layer_norm" else x
    y = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon)
    for value, operation in ((weight, np.multiply), (bias, np.add)):
        if value is not None and value.const_value is not None:
            y = operation(y, value.const_value.numpy().astype(np.float64))
    return np.asarray(y)


def _residual(x: ir.Value) -> _Sum | None:
    """Return the addition of two computed tensors of one shape that gives `x`."""
    node = x.producer()
    if node is None or node.op_type != "Add" or node.domain:
        return None
    left, right = node.inputs
    if left is None or right is None:
        return None
    good = all(v.const_value is None and v.dtype == x.dtype and same_shape(v, x) for v in (left, right))
    return _Sum(node, left, right) if good else None
