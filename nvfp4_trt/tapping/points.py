"""Where a layer's input and output are in a portable graph, and which call of a layer each GEMM is."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from nvfp4_trt.portable import find_sites

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import onnx_ir as ir

    from nvfp4_trt.portable import Site
    from nvfp4_trt.tapping.calls import Call

_Named = TypeVar("_Named", "Call", "Site")


class Form(NamedTuple):
    """What belongs to a layer beside its GEMM."""

    bias: bool = False
    smoothed: bool = False
    """A multiplication in front of the quantizer (see `transforms.smoothing`)."""
    branch: bool = False
    """An addition behind the GEMM (see `transforms.low_rank`)."""


class Point(NamedTuple):
    """A layer's place in a graph."""

    call: Call
    site: Site
    x: str
    """Name of the value that enters it."""
    y: str
    """Name of the value that leaves it."""


def find_points(graph: ir.Graph, calls: Sequence[Call], forms: Mapping[str, Form]) -> list[Point]:
    """Find the calls of layers in a portable graph.

    A GEMM has its layer's name. A file of an earlier version may hold equal weights once, under one layer's name:
    what names leave open is taken in order, in which the graph and the forward call the same.

    Args:
        graph: of a portable file.
        calls: of the torch module's layers, in the order in which a forward makes them.
        forms: of each layer.

    Returns:
        The calls that the graph has, in their order. A GEMM whose result nothing uses is not in a file.
    """
    found: dict[Call, Site] = {}
    sites = find_sites(graph)
    asked, named = _by_layer(calls), _by_layer(sites)
    for name, those in asked.items():
        if len(named[name]) == len(those):
            found |= dict(zip(those, named.pop(name), strict=True))
    left = [call for call in calls if call not in found]
    open_sites = [site for site in sites if site.layer in named]
    if len(open_sites) == len(left):
        found |= dict(zip(left, open_sites, strict=True))
    return [_point(call, found[call], forms[call.layer]) for call in calls if call in found]


def _by_layer(items: Iterable[_Named]) -> defaultdict[str, list[_Named]]:
    found: defaultdict[str, list[_Named]] = defaultdict(list)
    for item in items:
        found[item.layer].append(item)
    return found


def _point(call: Call, site: Site, form: Form) -> Point:
    x = site.quantize.inputs[0] if site.quantize is not None else site.gemm.inputs[0]
    if x is None:
        raise ValueError(f"{site.gemm.name} has no input")
    if form.smoothed:
        x = _in_front(x)
    y = site.gemm.outputs[0]
    if form.bias and site.gemm.op_type == "MatMul":
        y = _behind(y)
    if form.branch:
        y = _behind(y)
    return Point(call, site, str(x.name), str(y.name))


def _in_front(x: ir.Value) -> ir.Value:
    """Return what is multiplied by a constant to give x."""
    node = x.producer()
    if node is None or node.op_type != "Mul":
        return x
    moving = [value for value in node.inputs if value is not None and value.const_value is None]
    return moving[0] if len(moving) == 1 else x


def _behind(y: ir.Value) -> ir.Value:
    """Return y with what is added to it, where that is all that is done with it."""
    users = [node for node, _ in y.uses()]
    return users[0].outputs[0] if len(users) == 1 and users[0].op_type == "Add" else y
