"""Where the operands of a product come from: walked back through layouts to a weight, codes or an activation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto, helper

from nvfp4_trt.checking.facts import Codes, Operand
from nvfp4_trt.checking.outline import TRT_DOMAIN, subgraphs_of
from nvfp4_trt.portable import BLOCK, DOMAIN, LAYER

if TYPE_CHECKING:
    from nvfp4_trt.checking.facts import Extent

    Shape = tuple[Extent, ...]

_LAYOUTS = frozenset({"Transpose", "Reshape", "Cast", "Identity", "Unsqueeze", "Squeeze", "Flatten", "Expand"})
"""What may stand between a dequantizer and its product."""
_FAR = 64
"""Nodes that a walk goes back at most: where a chain is longer, its end is an activation or a weight."""
_DEQUANTIZERS = frozenset({"Dequantize", "DequantizeSingleLevel"})
_FP8_DEQUANTIZER = "Fp8Dequantize"
_FP4_CODES = "float4e2m1"
_FP8_CODES = "float8e4m3fn"
_UNKNOWN_QUANTIZERS = frozenset({"TRT_FP4QDQ"})
_PRODUCTS = frozenset({"MatMul", "Gemm", "Conv"})


class Scope:
    """The tensors of a graph, and of those around it."""

    def __init__(self, graph: onnx.GraphProto, outer: Scope | None = None) -> None:
        self.outer = outer
        self.outputs = {value.name for value in graph.output}
        self.makers: dict[str, onnx.NodeProto] = {}
        self.users: dict[str, list[onnx.NodeProto]] = {}
        self.constants: set[str] = set()
        self.types: dict[str, onnx.TypeProto.Tensor] = {}
        for value in (*graph.value_info, *graph.input, *graph.output):
            self.types[value.name] = value.type.tensor_type
        for tensor in graph.initializer:
            self.types[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, tensor.dims).tensor_type
            self.constants.add(tensor.name)
        for node in graph.node:
            self._add(node)

    def _add(self, node: onnx.NodeProto) -> None:
        for name in node.input:
            self.users.setdefault(name, []).append(node)
        for name in node.output:
            self.makers[name] = node
        values = [attribute.t for attribute in node.attribute if attribute.HasField("t")]
        if node.op_type == "Constant" and values:
            tensor = values[0]
            self.types[node.output[0]] = helper.make_tensor_type_proto(tensor.data_type, tensor.dims).tensor_type
        varies = node.op_type.startswith("Random") or any(
            subgraphs_of([node])
        )  # their graphs read past the inputs
        if not varies and all(not name or self.is_constant(name) for name in node.input):
            self.constants.update(node.output)

    def is_constant(self, name: str) -> bool:
        """Return whether a tensor does not depend on the model's inputs."""
        return name in self.constants or (self._is_outer(name) and self.outer.is_constant(name))  # type: ignore[union-attr]

    def maker(self, name: str) -> onnx.NodeProto | None:
        """Return the node that makes a tensor."""
        if self._is_outer(name):
            return self.outer.maker(name)  # type: ignore[union-attr]
        return self.makers.get(name)

    def shape(self, name: str) -> Shape | None:
        """Return a tensor's shape, if its rank is known."""
        if self._is_outer(name):
            return self.outer.shape(name)  # type: ignore[union-attr]
        kind = self.types.get(name)
        if kind is None or not kind.HasField("shape"):
            return None
        return tuple(
            dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in kind.shape.dim
        )

    def dtype(self, name: str) -> str:
        """Return a tensor's element type, `float16` and the like; `?` where it is not known."""
        if self._is_outer(name):
            return self.outer.dtype(name)  # type: ignore[union-attr]
        kind = self.types.get(name)
        return "?" if kind is None or not kind.elem_type else dtype_name(kind.elem_type)

    def _is_outer(self, name: str) -> bool:
        return self.outer is not None and name not in self.makers and name not in self.types


def dtype_name(elem_type: int) -> str:
    """Return torch's name of an ONNX element type."""
    try:
        name: str = TensorProto.DataType.Name(elem_type).lower()
    except ValueError:
        return "?"
    return {"float": "float32", "double": "float64"}.get(name, name)


def attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    """Return an integer attribute."""
    return next((a.i for a in node.attribute if a.name == name), default)


def ints(node: onnx.NodeProto, name: str) -> tuple[int, ...]:
    """Return an attribute of integers; empty where it is not there."""
    return next((tuple(a.ints) for a in node.attribute if a.name == name), ())


@dataclass(frozen=True)
class Walked:
    """An operand, and where the walk back ended."""

    operand: Operand
    root: str
    """Name of the tensor: of codes, of a weight as it is stored, or of the activation."""
    layer: str = ""
    """The layer that a portable file says it belongs to."""


def walk(scope: Scope, name: str, axis: int) -> Walked:
    """Follow one operand of a product back.

    Args:
        scope: the graph.
        name: the tensor that the product reads.
        axis: the dimension that the product sums over, counted from the end (-1 is the last).
    """
    read = Operand(scope.is_constant(name), scope.dtype(name), scope.shape(name))
    at: int | None = axis
    between = ""
    for _ in range(_FAR):
        node = scope.maker(name)
        if node is None or not any(node.input):
            break
        found = _dequantized(scope, node, at)
        if found is not None:
            if found.operand.constant and not read.constant:
                break  # rows of a quantized table, and not a quantized activation
            return replace(found, operand=replace(found.operand, shape=read.shape, between=between))
        if node.domain == TRT_DOMAIN and node.op_type in _UNKNOWN_QUANTIZERS:
            return Walked(replace(read, quantizer=node.op_type), node.input[0])
        source = node.input[0]
        if node.op_type in _LAYOUTS and not node.domain:
            at = _axis_before(scope, node, at)
        elif not read.constant and between:
            break  # two operators away from codes, it is an activation that was computed from them
        elif node.op_type in _PRODUCTS:
            break
        else:
            between = f"{node.op_type} {node.name!r}" if node.name else node.op_type
            source = _towards_codes(scope, node)
        name = source
    return Walked(read, name)


def _towards_codes(scope: Scope, node: onnx.NodeProto) -> str:
    """Return the input of an operator that is dequantized, or else its first."""
    inputs: list[str] = [name for name in node.input if name]
    makers = ((name, scope.maker(name)) for name in inputs)
    return next((name for name, maker in makers if maker is not None and _is_dequantizer(maker)), inputs[0])


def _is_dequantizer(node: onnx.NodeProto) -> bool:
    if node.domain == DOMAIN:
        return node.op_type in {*_DEQUANTIZERS, _FP8_DEQUANTIZER}
    return node.op_type == "DequantizeLinear" and not node.domain


def _dequantized(scope: Scope, node: onnx.NodeProto, axis: int | None) -> Walked | None:
    """Return what a dequantizer says of an operand; None for another node."""
    if not _is_dequantizer(node):
        return None
    codes = node.input[0]
    constant = scope.is_constant(codes)
    layer: str = next((p.value for p in node.metadata_props if p.key == LAYER), "")
    if node.domain == DOMAIN and node.op_type == _FP8_DEQUANTIZER:
        return Walked(Operand(constant, _FP8_CODES), codes, layer)
    if node.domain == DOMAIN:
        found = Codes(portable=True, along_k=axis in {None, -1})
        return Walked(Operand(constant, _FP4_CODES, codes=found), codes, layer)
    maker = scope.maker(codes)
    operator = maker is not None and maker.domain == TRT_DOMAIN
    stored = _FP4_CODES if operator else _stored(scope, codes)
    if stored != _FP4_CODES:
        return Walked(Operand(constant, stored), codes, layer)
    return Walked(Operand(constant, stored, codes=_codes(scope, node, maker, axis)), codes, layer)


def _stored(scope: Scope, codes: str) -> str:
    maker = scope.maker(codes)
    if maker is not None and maker.op_type == "QuantizeLinear":
        wanted = attribute(maker, "output_dtype", 0)
        if wanted:
            return dtype_name(wanted)
        return scope.dtype(maker.input[2]) if len(maker.input) > 2 else "uint8"  # noqa: PLR2004 (a zero point)
    return scope.dtype(codes)


def _codes(scope: Scope, node: onnx.NodeProto, maker: onnx.NodeProto | None, axis: int | None) -> Codes:
    """Read FLOAT4E2M1 codes: `node` dequantizes them, and `maker` quantizes what they are, if anything does."""
    shape = scope.shape(node.input[0]) or scope.shape(node.output[0])
    blocks = attribute(node, "axis", 1)
    if blocks >= 0 and shape is not None:
        blocks -= len(shape)
    aligned = axis is None or blocks >= 0 or blocks == axis
    steps = scope.maker(node.input[1])
    two_level = steps is not None and steps.op_type == "DequantizeLinear"
    operator = maker is not None and maker.domain == TRT_DOMAIN
    scales = [steps.input[1]] if two_level and steps is not None else []
    if operator and maker is not None:
        scales += list(maker.input[1:2])
    source = scope.shape(maker.input[0]) if maker is not None else None
    return Codes(
        portable=False,
        along_k=aligned,
        two_level=two_level,
        run_time_scale=any(not scope.is_constant(scale) for scale in scales),
        operator=operator,
        rank=None if source is None else len(source),
        block=attribute(maker, "block_size", BLOCK) if operator and maker is not None else BLOCK,
    )


def _axis_before(scope: Scope, node: onnx.NodeProto, axis: int | None) -> int | None:
    """Return where a dimension was in front of a change of layout; None where that is not known."""
    if axis is None or node.op_type in {"Cast", "Identity"}:
        return axis
    before, after = scope.shape(node.input[0]), scope.shape(node.output[0])
    if node.op_type == "Transpose":
        order = ints(node, "perm") or tuple(reversed(range(len(before or ()))))
        return order[axis] - len(order) if -axis <= len(order) else None
    if before is None or after is None or -axis > min(len(before), len(after)):
        return None
    return axis if before[axis:] == after[axis:] else None
