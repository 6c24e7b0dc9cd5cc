"""An ONNX graph → the facts of every linear layer, product and convolution in it, in graph order."""

from __future__ import annotations

import ast
import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from onnx import TensorProto

from nvfp4_trt.checking.facts import Facts, Operand, Window
from nvfp4_trt.checking.operands import Scope, attribute, ints, walk
from nvfp4_trt.checking.outline import graphs_of, infer_shapes, subgraphs_of
from nvfp4_trt.errors import NotOurOnnxError
from nvfp4_trt.portable import DOMAIN, FP8_SUFFIX, PACKED_SUFFIX, read_metadata

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import onnx

    from nvfp4_trt.checking.facts import Extent
    from nvfp4_trt.layers import Layer

_PRODUCTS = frozenset({"MatMul", "Gemm"})
_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose", "DeformConv"})
_INTEGER = frozenset({"MatMulInteger", "QLinearMatMul", "ConvInteger", "QLinearConv"})
_HIDDEN = frozenset({"LSTM", "GRU", "RNN", "Attention", "Einsum"})
_FOREIGN = re.compile(r"matmul|gemm|conv|attention|linear|lstm|gru|moe|einsum", re.IGNORECASE)
"""Operators of other domains whose names tell that they multiply."""
_OURS = frozenset({DOMAIN, "trt"})
_SCOPES = "pkg.torch.onnx.name_scopes"
_SUFFIXES = (PACKED_SUFFIX, FP8_SUFFIX, ".weight", ".bias")
_WEIGHT_INPUT = 1
_PAST_RESULT = frozenset({"Add", "Reshape", "Identity", "Cast", "Mul", "Transpose", "Squeeze", "Unsqueeze"})
"""What a result passes on its way to an output of the model without another layer."""
_STEPS = 8


def facts_of(model: onnx.ModelProto) -> Iterator[Facts]:
    """Yield the facts of every layer, those of inner graphs behind their node.

    Args:
        model: what `read_outline` returns.
    """
    inferred = infer_shapes(model)
    # The real nodes, with the shapes that were found for them.
    del inferred.graph.node[:]
    inferred.graph.node.extend(model.graph.node)
    try:
        props = {prop.key: prop.value for prop in model.metadata_props}
        layers = {layer.name: layer for layer in read_metadata(props, file="").layers}
    except NotOurOnnxError:
        layers = {}
    quantized = has_codes(model)
    for facts in _layers(inferred.graph, None, layers):
        yield replace(facts, quantized_file=quantized)


def has_codes(model: onnx.ModelProto) -> bool:
    """Return whether a file holds NVFP4 codes, or makes them at run time."""
    return any(
        any(tensor.data_type == TensorProto.FLOAT4E2M1 for tensor in graph.initializer)
        or any(node.domain in _OURS for node in graph.node)
        or any(attribute(node, "output_dtype", 0) == TensorProto.FLOAT4E2M1 for node in graph.node)
        for graph in graphs_of(model.graph)
    )


def _layers(graph: onnx.GraphProto, outer: Scope | None, layers: Mapping[str, Layer]) -> Iterator[Facts]:
    scope = Scope(graph, outer)
    for node in graph.node:
        facts = _facts(scope, node)
        if facts is not None:
            layer = layers.get(facts.name) or layers.get(stem_of(facts))
            if layer is not None:
                facts = replace(facts, name=layer.name, kind=layer.kind, told=layer.reason)
            yield facts
        for inner in subgraphs_of([node]):
            yield from _layers(inner, scope, layers)


def stem_of(facts: Facts) -> str:
    """Return the layer that the node of a product with a weight is named after, where the weight no longer is."""
    stem, _, operator = facts.name.rpartition("/")
    weight = operator == facts.kind and any(side.constant for side in facts.operands)
    return stem if weight else facts.name


def _facts(scope: Scope, node: onnx.NodeProto) -> Facts | None:
    kind = node.op_type
    if node.domain in _OURS or not node.output:
        return None
    if node.domain not in {"", "ai.onnx"}:
        return _with_weight(scope, node, hidden=True) if _FOREIGN.search(kind) else None
    if kind in _PRODUCTS:
        return _product(scope, node)
    if kind in _CONVOLUTIONS:
        return _convolution(scope, node)
    if kind in _INTEGER:
        return replace(_with_weight(scope, node), integer=True, dtype="int8")
    return _with_weight(scope, node, hidden=True) if kind in _HIDDEN else None


def _product(scope: Scope, node: onnx.NodeProto) -> Facts | None:
    """Read a MatMul or Gemm; None where an operand is missing."""
    if len(node.input) < 2 or not all(node.input[:2]):  # noqa: PLR2004
        return None
    gemm = node.op_type == "Gemm"
    across_left, across_right = (gemm and bool(attribute(node, name, 0)) for name in ("transA", "transB"))
    vector = len(scope.shape(node.input[1]) or (0, 0)) == 1
    sums = (-2 if across_left else -1, -1 if across_right or vector else -2)
    left = walk(scope, node.input[0], sums[0])
    right = walk(scope, node.input[1], sums[1])
    k = _extent(right.operand, sums[1]) or _extent(left.operand, sums[0])
    n = 1 if vector else _extent(right.operand, -2 if across_right else -1)
    weight = right if right.operand.constant or not left.operand.constant else left
    matrix = right.operand.constant and n is not None and k is not None
    shape = right.operand.shape or ()
    one = matrix and math.prod(x for x in shape if isinstance(x, int)) == (n or 0) * (k or 0)
    return Facts(
        name=_name(node, [weight.root, *_biases(scope, node)] if weight.operand.constant else [], weight.layer),
        kind=node.op_type,
        shape=(n or 0, k or 0) if one else shape,
        dtype=_dtype(scope, node),
        node=node.name,
        n=n,
        k=k,
        left=left.operand,
        right=right.operand,
        empty=any(_empty(scope.shape(name)) for name in (*node.input[:2], node.output[0])),
        is_output=_reaches_output(scope, node),
    )


def _convolution(scope: Scope, node: onnx.NodeProto) -> Facts:
    facts = _with_weight(scope, node)
    shape = facts.shape
    spatial = tuple(x if isinstance(x, int) else 0 for x in shape[2:])
    ones = (1,) * len(spatial)
    window = Window(
        kernel=spatial,
        strides=ints(node, "strides") or ones,
        dilations=ints(node, "dilations") or ones,
        padded=any(ints(node, "pads")) or _text(node, "auto_pad") not in {"", "NOTSET", "VALID"},
        groups=attribute(node, "group", 1),
        transposed=node.op_type != "Conv",
    )
    k = math.prod(x for x in shape[1:] if isinstance(x, int)) if len(shape) > 1 else None
    n = shape[0] if shape and isinstance(shape[0], int) else None
    return replace(facts, window=window, n=n, k=k)


def _with_weight(scope: Scope, node: onnx.NodeProto, *, hidden: bool = False) -> Facts:
    """Read an operator that has its weight, if any, as its second input."""
    name = node.input[_WEIGHT_INPUT] if len(node.input) > _WEIGHT_INPUT else ""
    walked = walk(scope, name, -1) if name else None
    constant = walked is not None and walked.operand.constant
    return Facts(
        name=_name(node, [walked.root] if walked and constant else [], walked.layer if walked else ""),
        kind=node.op_type,
        shape=(scope.shape(name) or ()) if name else (),
        dtype=_dtype(scope, node),
        node=node.name,
        domain=node.domain,
        hidden=hidden,
        empty=_empty(scope.shape(name)) or _empty(scope.shape(node.output[0])),
    )


def _name(node: onnx.NodeProto, parameters: Sequence[str], layer: str) -> str:
    """Return the layer that a node is: by its parameters' names where those tell, else the node's."""
    if layer:
        return layer
    for name in parameters:
        for suffix in _SUFFIXES:
            if name.endswith(suffix):
                return name.removesuffix(suffix)
    return (_scope_of(node) if parameters else "") or node.name or node.output[0]


def _scope_of(node: onnx.NodeProto) -> str:
    """Return the module that torch's exporter says a node is of: the last but one of its scopes; empty without."""
    text = next((prop.value for prop in node.metadata_props if prop.key == _SCOPES), "[]")
    try:
        scopes = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return ""
    return str(scopes[-2]) if isinstance(scopes, list) and scopes[1:] else ""


def _biases(scope: Scope, node: onnx.NodeProto) -> list[str]:
    """Return the constants that are added to a product: exporters rename weights, and seldom biases."""
    users = scope.users.get(node.output[0], [])
    added = [*node.input[2:], *(name for user in users if user.op_type == "Add" for name in user.input)]
    return [name for name in added if scope.is_constant(name)]


def _dtype(scope: Scope, node: onnx.NodeProto) -> str:
    found = (scope.dtype(name) for name in (*node.output[:1], *node.input) if name)
    return next((dtype for dtype in found if dtype != "?"), "?")


def _extent(operand: Operand, axis: int) -> int | None:
    shape = operand.shape
    if shape is None or -axis > len(shape):
        return None
    found = shape[axis]
    return found if isinstance(found, int) else None


def _empty(shape: tuple[Extent, ...] | None) -> bool:
    return shape is not None and 0 in shape


def _text(node: onnx.NodeProto, name: str) -> str:
    return next((a.s.decode(errors="replace") for a in node.attribute if a.name == name), "")


def _reaches_output(scope: Scope, node: onnx.NodeProto) -> bool:
    name = node.output[0]
    for _ in range(_STEPS):
        if name in scope.outputs:
            return True
        users = scope.users.get(name, [])
        if len(users) != 1 or users[0].op_type not in _PAST_RESULT:
            return False
        name = users[0].output[0]
    return False
