"""A float graph → the portable graph that `export` would make of its model, without data: shapes decide a plan."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from nvfp4_trt.layers import FP8, FP8_WEIGHT_ONLY, NVFP4, WEIGHT_ONLY, Layer
from nvfp4_trt.passes.graph import Builder, constant
from nvfp4_trt.patterns import matching
from nvfp4_trt.planning.float_file import WEIGHTS
from nvfp4_trt.portable import BLOCK, DOMAIN, VERSION
from nvfp4_trt.recipe import ActivationScaling

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nvfp4_trt.checking.facts import Facts
    from nvfp4_trt.checking.rules import Verdict
    from nvfp4_trt.planning.float_file import FloatFile
    from nvfp4_trt.recipe import Recipe

_SCALES = {ActivationScaling.DYNAMIC: "PerTensorScale", ActivationScaling.DYNAMIC_TOKEN: "PerTokenScale"}
_ANY_K = frozenset({"k-not-blocks", "k-small", "n-one"})
"""Rules that keep a layer from being FP4, and not from being FP8."""
_LAYOUTS = frozenset({"Transpose", "Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze"})


@dataclass
class _Made:
    """What was put into the graph, to be used again by layers that share a weight or an input."""

    weights: dict[tuple[ir.Value, int, int, bool], ir.Value] = field(default_factory=dict)
    """Constant, N, K and whether it is FP8 → the dequantized weight `[N, K]`."""
    activations: dict[tuple[ir.Value, str], ir.Value] = field(default_factory=dict)
    """Tensor and operator that quantizes it → the tensor, dequantized."""
    names: set[str] = field(default_factory=set)


class _Kind(NamedTuple):
    """The operators of a quantized activation."""

    quantize: str
    dequantize: str
    scale: str | None
    """What computes the scale; empty where it is a constant, None where there is none."""


def quantize_outline(read: FloatFile, recipe: Recipe) -> tuple[Layer, ...]:
    """Put the `nvfp4` operators of a recipe into a float model, in place, for each layer that can have them.

    Args:
        read: of it the model changes: weights of quantized layers become codes and scales without data.
        recipe: its patterns match the names that `check` gives to layers.

    Returns:
        Every layer, and its precision; none may be quantized.

    Raises:
        PatternMatchesNothingError: a pattern of the recipe matches no layer.
    """
    names = [facts.name for facts, _ in read.layers]
    only = matching(names, recipe.only, option="--only") if recipe.only else set(names)
    excluded = matching(names, recipe.exclude, option="--exclude")
    fp8 = matching(names, recipe.fp8, option="--fp8")
    made = _Made()
    layers = []
    for facts, verdict in read.layers:
        node = read.nodes.get(facts.node)
        reason = _refusal(verdict, node, fp8=facts.name in fp8)
        if not reason and facts.name not in only:
            reason = "not selected by --only"
        if not reason and facts.name in excluded:
            reason = "excluded by pattern"
        if not reason and node is not None:
            _quantize(read.model.graph, facts, node, recipe, made, fp8=facts.name in fp8)
        precision = facts.dtype if reason else _precision(recipe, fp8=facts.name in fp8)
        shape = tuple(extent for extent in facts.shape if isinstance(extent, int))
        layers.append(Layer(facts.name, facts.kind, shape, precision, reason))
    RemoveUnusedNodesPass()(read.model)  # and the weights that codes took the place of
    read.model.opset_imports[DOMAIN] = VERSION
    return tuple(layers)


def _precision(recipe: Recipe, *, fp8: bool) -> str:
    if recipe.activations.scaling is ActivationScaling.NONE:
        return FP8_WEIGHT_ONLY if fp8 else WEIGHT_ONLY
    return FP8 if fp8 else NVFP4


def _refusal(verdict: Verdict, node: ir.Node | None, *, fp8: bool) -> str:
    """Return why a layer stays as it is; empty where it does not."""
    if verdict.precision != NVFP4 and not (fp8 and verdict.code in _ANY_K):
        return verdict.reason
    if node is None:
        return "it is inside a branch or a loop, where export takes no layer"
    if node.op_type == "Gemm" and int(node.attributes.get_int("transA") or 0):
        return "its activation is transposed by the Gemm (transA)"
    return ""


def _quantize(graph: ir.Graph, facts: Facts, gemm: ir.Node, recipe: Recipe, made: _Made, *, fp8: bool) -> None:
    """Give a product codes on both sides, or on the weight's where the recipe leaves activations."""
    x, weight = gemm.inputs[0], gemm.inputs[1]
    if x is None or weight is None:
        return
    build = Builder(graph, facts.node, before=gemm)
    kind = _kind(recipe.activations.scaling, fp8=fp8)
    dtype = x.dtype or ir.DataType.FLOAT
    x.type = ir.TensorType(dtype)
    if recipe.activations.scaling is not ActivationScaling.NONE:
        key = (x, kind.quantize)
        if key not in made.activations:
            made.activations[key] = _activation(build, x, kind)
        gemm.replace_input_with(0, made.activations[key])
    values = _weight(build, facts, weight, dtype, made, fp8=fp8)
    if gemm.op_type == "Gemm":
        gemm.attributes["transB"] = ir.AttrInt64("transB", 1)
        gemm.replace_input_with(1, values)
        return
    turned = build.node("Transpose", [values], "Transpose", attributes={"perm": [1, 0]}).outputs[0]
    turned.type, turned.shape = values.type, ir.Shape([facts.k or 0, facts.n or 0])
    gemm.replace_input_with(1, turned)


def _kind(scaling: ActivationScaling, *, fp8: bool) -> _Kind:
    """Return the operators that a recipe quantizes an activation with, as export chooses them."""
    if fp8:
        dynamic = "Fp8TensorScale" if scaling is ActivationScaling.DYNAMIC else "Fp8TokenScale"
        return _Kind("Fp8Quantize", "Fp8Dequantize", "" if scaling is ActivationScaling.STATIC else dynamic)
    if scaling is ActivationScaling.SINGLE_LEVEL:
        return _Kind("QuantizeSingleLevel", "DequantizeSingleLevel", None)
    return _Kind("Quantize", "Dequantize", _SCALES.get(scaling, ""))


def _activation(build: Builder, x: ir.Value, kind: _Kind) -> ir.Value:
    """Return the activation, quantized and dequantized."""
    scales = []
    if kind.scale:
        scale = build.node(kind.scale, [x], f"input/{kind.scale}", domain=DOMAIN).outputs[0]
        scale.type = ir.TensorType(ir.DataType.FLOAT)
        if "Tensor" in kind.scale:
            scale.shape = ir.Shape([])
        elif x.shape is not None:
            scale.shape = ir.Shape([*x.shape[:-1], 1])
        scales = [scale]
    elif kind.scale is not None:
        scales = [constant(build.graph, f"{build.prefix}/input/scale", np.ones((), np.float32))]
    count = 1 if kind.quantize.startswith("Fp8") else 2
    codes = build.node(kind.quantize, [x, *scales], f"input/{kind.quantize}", domain=DOMAIN, outputs=count)
    return build.node(
        kind.dequantize,
        [*codes.outputs, *scales],
        f"input/{kind.dequantize}",
        attributes={"dtype": int(x.dtype or ir.DataType.FLOAT)},
        domain=DOMAIN,
        like=x,
    ).outputs[0]


def _weight(
    build: Builder, facts: Facts, weight: ir.Value, dtype: ir.DataType, made: _Made, *, fp8: bool
) -> ir.Value:
    """Return the dequantized weight `[N, K]`: the one of another layer where they share it."""
    n, k = facts.n or 0, facts.k or 0
    key = (_stored(weight), n, k, fp8)
    if key in made.weights:
        return made.weights[key]
    name = facts.name
    while name in made.names:
        name = f"{name}/{key[0].name}"
    made.names.add(name)
    stem = f"{name}." if name else ""
    if fp8:
        parts = [
            _initializer(build.graph, f"{stem}weight_fp8", (n, k), ir.DataType.FLOAT8E4M3FN),
            _initializer(build.graph, f"{stem}weight_scale", (n, 1), ir.DataType.FLOAT),
        ]
    else:
        parts = [
            _initializer(build.graph, f"{stem}weight_packed", (n, k // 2), ir.DataType.UINT8),
            _initializer(build.graph, f"{stem}weight_block_scale", (n, k // BLOCK), ir.DataType.FLOAT8E4M3FN),
            constant(build.graph, f"{stem}weight_per_tensor_scale", np.ones((), np.float32)),
        ]
    kind = "Fp8Dequantize" if fp8 else "Dequantize"
    node = build.node(kind, parts, kind, attributes={"dtype": int(dtype)}, domain=DOMAIN)
    node.metadata_props["nvfp4.layer"] = facts.name
    values = node.outputs[0]
    values.type, values.shape = ir.TensorType(dtype), ir.Shape([n, k])
    made.weights[key] = values
    return values


def _stored(weight: ir.Value) -> ir.Value:
    """Return the constant that a weight is made from by changes of layout or dtype."""
    for node in _producers(weight):
        weight = node.inputs[0] or weight
    return weight


def _producers(value: ir.Value) -> Iterator[ir.Node]:
    node = value.producer()
    while node is not None and node.op_type in _LAYOUTS and node.inputs and node.inputs[0] is not None:
        yield node
        node = node.inputs[0].producer()


def _initializer(graph: ir.Graph, name: str, shape: tuple[int, ...], dtype: ir.DataType) -> ir.Value:
    """Return a new initializer whose data lies in `WEIGHTS`."""
    size = math.prod(shape) * dtype.bitwidth // 8
    tensor = ir.ExternalTensor(WEIGHTS, 0, size, dtype, shape=ir.Shape(shape), name=name)
    value = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype), const_value=tensor)
    graph.register_initializer(value)
    return value
