"""The plugin operators as nodes: their names, and how the passes make, read and replace them.

TensorRT's ONNX parser makes a plugin of a node by its operator type alone (the domain is not read), where no
built-in operator and no model-local function has that name. It looks the creator up by the attributes
`plugin_version` and `plugin_namespace`, hands over the attributes that the creator names, and every input; an
input left empty arrives as a null tensor, so nodes have no empty ones.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir

from nvfp4_trt.passes.graph import Builder, remove_unused, replace_uses

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from nvfp4_trt.portable import Site

PLUGIN_DOMAIN = "nvfp4.plugin"
PLUGIN_VERSION = 1
QUANTIZE, GEMM = "Nvfp4Quantize", "Nvfp4Gemm"
REGISTERED = {"plugin_version": "1", "plugin_namespace": "nvfp4"}
FLOATS = {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16}
"""Element types that both plugins take and give."""

_LAYERS = "nvfp4.layers"


def is_plugin(node: ir.Node | None, kind: str | None = None) -> bool:
    """Return whether a node is one of the plugin operators (or the given one)."""
    return node is not None and node.domain == PLUGIN_DOMAIN and kind in {None, node.op_type}


def is_used(value: ir.Value, *, beside: ir.Node | None = None) -> bool:
    """Return whether a value is a graph output, or read by a node other than `beside`."""
    return value.is_graph_output() or any(user is not beside for user, _ in value.uses())


def forget(graph: ir.Graph, values: Iterable[ir.Value | None]) -> None:
    """Drop those of some initializers that nothing reads any more."""
    for value in dict.fromkeys(values):
        name = "" if value is None else value.name or ""
        if value is not None and graph.initializers.get(name) is value and not is_used(value):
            del graph.initializers[name]


def same_shape(a: ir.Value | None, b: ir.Value | None) -> bool:
    """Return whether two shapes are known to be equal: same numbers, same names, nothing unknown."""
    if a is None or b is None or a.shape is None or b.shape is None or len(a.shape) != len(b.shape):
        return False
    return all(d == e and str(d) not in {"?", "None"} for d, e in zip(a.shape, b.shape, strict=True))


@dataclass(frozen=True)
class Quantizer:
    """What one `Nvfp4Quantize` node says: attributes and inputs."""

    x: ir.Value
    """[..., K], fp32, fp16 or bf16."""
    scaling: str
    """token, tensor, static or single."""
    function: str = "none"
    epsilon: float = 0.0
    other: ir.Value | None = None
    """[..., K]: the factor of silu_mul, or the residual that is added before a norm."""
    weight: ir.Value | None = None
    """[K]: a norm's."""
    bias: ir.Value | None = None
    """[K]: a layer norm's."""
    scale: ir.Value | None = None
    """fp32 [1], where static."""

    @property
    def has_residual(self) -> bool:
        """Whether `other` is added before a norm."""
        return self.other is not None and self.function != "silu_mul"

    @property
    def inputs(self) -> list[ir.Value]:
        """Inputs of the node, in order, none empty."""
        every = (self.x, self.other, self.weight, self.bias, self.scale)
        return [value for value in every if value is not None]

    def attributes(self, *, values: bool, total: bool) -> dict[str, int | float | str]:
        """Attributes of the node; `values` and `total` say whether it has those outputs."""
        return {
            **REGISTERED,
            "scaling": self.scaling,
            "function": self.function,
            "epsilon": self.epsilon,
            "has_residual": int(self.has_residual),
            "has_weight": int(self.weight is not None),
            "has_bias": int(self.bias is not None),
            "emit_values": int(values),
            "emit_sum": int(total),
        }


def plain_quantizers(graph: ir.Graph) -> Iterator[tuple[ir.Node, Quantizer]]:
    """Yield each `Nvfp4Quantize` that computes nothing before it quantizes, as node and as record."""
    for node in list(graph):
        if is_plugin(node, QUANTIZE) and node.attributes.get_string("function") == "none":
            x, *rest = node.inputs
            if x is None:
                raise ValueError(f"{node.name} has no input")
            scaling = node.attributes.get_string("scaling") or ""
            yield node, Quantizer(x, scaling, scale=rest[0] if rest else None)


def insert_quantizer(
    build: Builder, made: Quantizer, *, values: ir.Value | None = None, total: ir.Value | None = None
) -> ir.Node:
    """Insert an `Nvfp4Quantize` with types and shapes; `values` and `total` are what those outputs replace."""
    node = build.node(
        QUANTIZE,
        made.inputs,
        QUANTIZE,
        attributes=made.attributes(values=values is not None, total=total is not None),
        domain=PLUGIN_DOMAIN,
        outputs=3 + (values is not None) + (total is not None),
    )
    *lead, k = made.x.shape or [None]
    if not isinstance(k, int):
        raise ValueError(f"{build.prefix} quantizes rows of unknown length")  # noqa: TRY004 (a graph's fault)
    codes, scales, alpha, *rest = node.outputs
    codes.type, codes.shape = ir.TensorType(ir.DataType.INT8), ir.Shape([*lead, k // 2])
    scales.type, scales.shape = ir.TensorType(ir.DataType.INT8), ir.Shape([None])
    alpha.type = ir.TensorType(ir.DataType.FLOAT)
    alpha.shape = ir.Shape([*lead, 1] if made.scaling == "token" else [1])
    for value in rest:
        value.type, value.shape = made.x.type, made.x.shape
    return node


def fold(
    graph: ir.Graph, old: ir.Node, made: Quantizer, dead: Sequence[ir.Node], *, total: ir.Value | None = None
) -> None:
    """Put `made`, which also computes what feeds `old`, in place of `old`.

    Args:
        graph: where both are.
        old: a plain `Nvfp4Quantize`.
        made: what is to stand for it.
        dead: the nodes that `made` computes, last first; those that nothing else uses are removed.
        total: the sum in front of the norm, where the residual is part of `made`; the last of `dead` makes it.
    """
    x = old.inputs[0]
    if x is None:
        raise ValueError(f"{old.name} has no input")
    values = x if is_used(x, beside=old) else None
    # In front of all that reads the sum; else where the last operand is there: a norm's sum is its only one.
    place = dead[0] if total is None else dead[-1]
    total = total if total is not None and _outlives(total, dead) else None
    build = Builder(graph, (old.name or QUANTIZE).removesuffix(f"/{QUANTIZE}"), before=place)
    node = insert_quantizer(build, made, values=values, total=total)
    for before, after in zip(old.outputs, node.outputs, strict=False):
        replace_uses(graph, before, after)
    node.name, names = old.name, [value.name for value in old.outputs]
    graph.remove(old, safe=True)
    for name, value in zip(names, node.outputs, strict=False):
        value.name = name
    replaced = [value for value in (values, total) if value is not None]
    for before, after in zip(replaced, node.outputs[3:], strict=True):
        replace_uses(graph, before, after, keep={node})
    remove_unused(graph, dead)


def _outlives(value: ir.Value, dead: Sequence[ir.Node]) -> bool:
    """Return whether anything beside the nodes that go away reads a value, or they do not all go away."""
    if value.is_graph_output() or any(user not in dead for user, _ in value.uses()):
        return True
    inner = [out for node in dead[:-1] for out in node.outputs][1:]
    return any(out.is_graph_output() or any(user not in dead for user, _ in out.uses()) for out in inner)


def gemm_attributes(dtype: int, *, has_bias: bool) -> dict[str, int | float | str | Sequence[int]]:
    """Return the attributes of an `Nvfp4Gemm` whose output has ONNX's element type number `dtype`."""
    return {**REGISTERED, "dtype": dtype, "has_bias": int(has_bias)}


def set_layers(node: ir.Node, layers: Iterable[str]) -> None:
    """Note on an `Nvfp4Gemm`, or on what dequantizes a weight, which layers it computes, in the columns' order."""
    node.metadata_props[_LAYERS] = json.dumps(list(layers))


def layers_of(node: ir.Node) -> tuple[str, ...]:
    """Return the layers that `set_layers` noted."""
    return tuple(json.loads(node.metadata_props.get(_LAYERS, "[]")))


def layers_at(site: Site) -> tuple[str, ...]:
    """Return the layers that a site's GEMM computes."""
    return layers_of(site.weight) or (site.layer,)
