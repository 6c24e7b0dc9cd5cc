"""Finding the quantized linear layers of a portable graph: which nodes belong to which layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nvfp4_trt.portable.functions import DOMAIN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import onnx_ir as ir

    from nvfp4_trt.layers import Layer

_DEQUANTIZERS = {"Dequantize", "DequantizeSingleLevel", "Fp8Dequantize"}
_QUANTIZERS = {"Quantize", "QuantizeSingleLevel", "Fp8Quantize"}
PACKED_SUFFIX = ".weight_packed"
FP8_SUFFIX = ".weight_fp8"
LAYER = "nvfp4.layer"
"""Key of a node's metadata: the layer whose weight it dequantizes, where the weight has another layer's name."""


@dataclass(frozen=True)
class Site:
    """One GEMM with an NVFP4 or FP8 weight."""

    layer: str
    """The layer's qualified name in the torch module."""
    gemm: ir.Node
    """MatMul, or Gemm with `transB`."""
    weight: ir.Node
    """The `nvfp4` node that dequantizes the weight."""
    activation: ir.Node | None
    """The `nvfp4` node that dequantizes the activation; None where it is not quantized (weight-only)."""
    quantize: ir.Node | None
    """The `nvfp4` node that quantizes the activation."""
    scale: ir.Node | None
    """The node whose output is the activation's run-time scale; None where the scale is constant."""


def is_ours(node: ir.Node | None, kinds: set[str] | None = None) -> bool:
    """Return whether a node is one of the `nvfp4` operators (or of the given kinds of them)."""
    return node is not None and node.domain == DOMAIN and (kinds is None or node.op_type in kinds)


def is_weight(node: ir.Node | None) -> bool:
    """Return whether a node dequantizes a weight: codes that are in the file."""
    if node is None or not is_ours(node, _DEQUANTIZERS):
        return False
    codes = node.inputs[0]
    return codes is not None and codes.const_value is not None


def find_sites(graph: ir.Graph) -> list[Site]:
    """Return every GEMM whose second operand is an NVFP4 or FP8 weight, in graph order."""
    return list(_sites(graph))


def _sites(graph: ir.Graph) -> Iterator[Site]:
    for node in graph:
        if node.op_type not in {"MatMul", "Gemm"} or node.domain:
            continue
        weight = _weight_of(node.inputs[1])
        if weight is None:
            continue
        activation = _producer(node.inputs[0])
        quantize = scale = None
        if is_ours(activation, _DEQUANTIZERS):
            quantize = _producer(activation.inputs[0])  # type: ignore[union-attr]
            if is_ours(quantize, _QUANTIZERS) and len(quantize.inputs) > 1:  # type: ignore[union-attr]
                scale = _producer(quantize.inputs[1])  # type: ignore[union-attr]
        else:
            activation = None
        yield Site(layer_name(weight), node, weight, activation, quantize, scale)


def layer_name(weight: ir.Node) -> str:
    """Return the layer that a weight's dequantizing node belongs to."""
    packed = weight.inputs[0]
    name = "" if packed is None else packed.name or ""
    # A model that is itself a linear layer has the name "", and its weight no dot.
    for suffix in (PACKED_SUFFIX, FP8_SUFFIX):
        name = name.removesuffix(suffix[1:])
    return weight.metadata_props.get(LAYER) or name.removesuffix(".")


def _weight_of(value: ir.Value | None) -> ir.Node | None:
    node = _producer(value)
    if node is not None and node.op_type == "Transpose" and not node.domain:
        node = _producer(node.inputs[0])
    return node if is_weight(node) else None


def _producer(value: ir.Value | None) -> ir.Node | None:
    return None if value is None else value.producer()


def interruptions(model: ir.Model, layers: Sequence[Layer]) -> dict[str, str]:
    """Return, for quantized layers with no clean FP4 GEMM in the graph, what stands in the way.

    Args:
        model: a portable model.
        layers: the layers' table from its metadata.

    Returns:
        Layer name → a clause such as `Add 'x' stands between the dequantized weight and its MatMul`.
    """
    sites = {site.layer: site for site in find_sites(model.graph)}
    weights = {layer_name(node): node for node in model.graph if is_ours(node, _DEQUANTIZERS)}
    found = {}
    for layer in layers:
        if not layer.quantized:
            continue
        site = sites.get(layer.name)
        if site is None:
            weight = weights.get(layer.name)
            found[layer.name] = (
                "its weight is not in the graph"
                if weight is None
                else f"{_first_user(weight)} its dequantized weight"
            )
        elif not layer.weight_only and site.activation is None:
            producer = _producer(site.gemm.inputs[0])
            what = "the model's input" if producer is None else f"{producer.op_type} {producer.name!r}"
            found[layer.name] = f"its MatMul reads {what}, not a dequantized activation"
    return found


def _first_user(node: ir.Node) -> str:
    """Name what stands behind a node, past a Transpose."""
    while True:
        users = [user for user, _ in node.outputs[0].uses()]
        if not users:
            return "no MatMul reads"
        if users[0].op_type != "Transpose":
            return f"{users[0].op_type} {users[0].name!r}, not a MatMul, reads"
        node = users[0]
