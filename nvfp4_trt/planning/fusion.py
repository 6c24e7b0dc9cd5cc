"""Which nodes of a lowered graph become one kernel: a model of what TensorRT's compiler does.

Its rules, each seen in layer records:

- Products, attention and TensorRT's own FP4 quantizer are kernels of their own.
- Everything between them fuses: a node joins the nodes whose results it reads, if no such kernel lies between.
- Neighbours that read one tensor are one kernel, also where they do not read each other.
- A product of floats takes along what is pointwise behind it and reads nothing else.
- What is made of extents alone, such as rotary tables, is made by the kernel that reads it.
- A kernel reduces rows of one kind (`stages`).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from nvfp4_trt.planning.operators import FUSED, Role
from nvfp4_trt.planning.outline import Outline, Time
from nvfp4_trt.planning.products import Product, absorbed_by, epilogue, find_products
from nvfp4_trt.planning.stages import split

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    import onnx_ir as ir


class Kind(StrEnum):
    """What a group of nodes becomes."""

    FUSED = "fused"
    PRODUCT = "gemm"
    CONVOLUTION = "convolution"
    ATTENTION = "attention"
    QUANTIZER = "quantizer"
    OPAQUE = "opaque"


@dataclass(frozen=True)
class Group:
    """Nodes that become one kernel, or one and its helpers (`rows`)."""

    kind: Kind
    nodes: tuple[ir.Node, ...]
    level: float = 0.0
    """How many kernels of their own lie on a way to it at the most; the parts of what is split have the same."""
    product: Product | None = None


_KINDS = {
    Role.PRODUCT: Kind.PRODUCT,
    Role.CONVOLUTION: Kind.CONVOLUTION,
    Role.ATTENTION: Kind.ATTENTION,
    Role.QUANTIZER: Kind.QUANTIZER,
    Role.OPAQUE: Kind.OPAQUE,
}
_ELSEWHERE = FUSED | {Role.EXTENT}
"""Roles of readers for which a tensor of extents need not be in memory."""


def fuse(outline: Outline) -> list[Group]:
    """Return the groups of a graph, in an order in which they can run."""
    roles = {node: outline.role(node) for node in outline.nodes}
    products = find_products(outline)
    makers = {node: product for product in products for node in product.nodes}
    absorbed = absorbed_by(products, outline)
    levels = _levels(outline, roles)
    order = {node: index for index, node in enumerate(outline.nodes)}
    taken: dict[Product, tuple[ir.Node, ...]] = {}
    found: list[Group] = []
    fused = [node for node in levels if roles[node] in FUSED and node not in absorbed]
    for nodes in _components(outline, fused, levels):
        if all(roles[node] is Role.VIEW for node in nodes):
            continue
        product = epilogue(nodes, outline, makers)
        if product is not None and product not in taken:
            taken[product] = tuple(nodes)
            continue
        on_rows = any(_by_fp4(value, makers) for node in nodes for value in node.inputs)
        parts = split(nodes, outline, on_rows=on_rows)
        real = (part for part in parts if not all(roles[node] is Role.VIEW for node in part))
        found += [Group(Kind.FUSED, tuple(part), levels[nodes[0]] + 0.5) for part in real]
    for node in levels:
        if roles[node] not in _ELSEWHERE and (node not in makers or makers[node].nodes[0] is node):
            product = makers.get(node)
            more = () if product is None else (*product.nodes[1:], *taken.get(product, ()))
            found.append(Group(_KINDS[roles[node]], (node, *more), levels[node], product))
    found += [Group(Kind.FUSED, tuple(nodes)) for nodes in _of_extents(outline, roles, absorbed)]
    return sorted(found, key=lambda group: (group.level, order[group.nodes[-1]]))


def _levels(outline: Outline, roles: Mapping[ir.Node, Role]) -> dict[ir.Node, int]:
    """Return, for each node of run time, the most kernels of their own that lie on a way to it."""
    levels: dict[ir.Node, int] = {}
    for node in outline.nodes:
        if outline.time(node.outputs[0]) is Time.DATA:
            makers = [value.producer() for value in node.inputs if value is not None]
            level = max((levels[maker] for maker in makers if maker in levels), default=0)
            levels[node] = level + (roles[node] not in FUSED)
    return levels


@dataclass
class _Sets:
    """Disjoint sets of nodes."""

    parents: dict[ir.Node, ir.Node] = field(default_factory=dict)

    def find(self, node: ir.Node) -> ir.Node:
        """Return what stands for the set that a node is in: a new one, the first time."""
        while self.parents.setdefault(node, node) is not node:
            self.parents[node] = self.parents[self.parents[node]]
            node = self.parents[node]
        return node

    def join(self, one: ir.Node, other: ir.Node) -> None:
        """Make one set of two."""
        self.parents[self.find(one)] = self.find(other)

    def parts(self, nodes: Collection[ir.Node]) -> Iterator[list[ir.Node]]:
        """Yield the sets, their nodes in the given order."""
        found: dict[ir.Node, list[ir.Node]] = defaultdict(list)
        for node in nodes:
            found[self.find(node)].append(node)
        yield from found.values()


def _components(outline: Outline, nodes: list[ir.Node], levels: Mapping[ir.Node, int]) -> Iterator[list[ir.Node]]:
    """Yield the nodes that fuse, each lot in the order of the graph."""
    sets, inside = _Sets(), set(nodes)
    readers: dict[tuple[ir.Value, int], ir.Node] = {}
    first: dict[ir.Value, ir.Node] = {}
    for node in nodes:
        sets.find(node)
        for value in node.inputs:
            maker = None if value is None else value.producer()
            if value is None or outline.time(value) < Time.EXTENTS:
                continue
            if maker in inside and levels[maker] == levels[node]:
                sets.join(node, maker)
            elif outline.time(value) is Time.DATA:
                sets.join(node, readers.setdefault((value, levels[node]), node))
            elif levels[first.setdefault(value, node)] == levels[node]:
                sets.join(node, first[value])  # its first readers make it, together
    yield from sets.parts(nodes)


def _of_extents(
    outline: Outline, roles: Mapping[ir.Node, Role], absorbed: Collection[ir.Node]
) -> Iterator[list[ir.Node]]:
    """Yield what is made of extents and goes straight into a kernel of its own, such as a bias of an attention."""
    wanted: dict[ir.Node, None] = {}
    sets = _Sets()
    for node in reversed(outline.nodes):
        if outline.time(node.outputs[0]) is not Time.EXTENTS or node in absorbed:
            continue
        users = outline.users(*node.outputs)
        direct = any(out.is_graph_output() for out in node.outputs)
        if direct or any(user in wanted or roles[user] not in _ELSEWHERE for user in users):
            wanted[node] = None
            for user in users:
                if user in wanted:
                    sets.join(node, user)
    for nodes in sets.parts(list(reversed(wanted))):
        if not all(roles[node] is Role.VIEW for node in nodes):
            yield nodes


def _by_fp4(value: ir.Value | None, makers: Mapping[ir.Node, Product]) -> bool:
    """Tell whether a tensor is the result of an FP4 product."""
    maker = None if value is None else value.producer()
    return maker is not None and maker in makers and makers[maker].is_fp4
