"""GEMMs of a lowered graph: which of them become one, and what they take along."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nvfp4_trt.planning.factors import Factor, factor_of
from nvfp4_trt.planning.operators import Role
from nvfp4_trt.planning.outline import Outline, Time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import onnx_ir as ir

_FEW = 8
"""Nodes that stand between a product and a Split of its columns at the most: a bias, views."""


@dataclass(frozen=True)
class Product:
    """One GEMM of the engine."""

    nodes: tuple[ir.Node, ...]
    """MatMul or Gemm; several that read one tensor where TensorRT makes one of them."""
    sides: tuple[tuple[Factor, Factor], ...]
    """Left and right side of each."""

    @property
    def is_fp4(self) -> bool:
        """Whether both sides are e2m1 codes."""
        return all(side.is_fp4 for pair in self.sides for side in pair)

    @property
    def is_fp8(self) -> bool:
        """Whether both sides are e4m3 codes."""
        return all(side.is_fp8 for pair in self.sides for side in pair)

    @property
    def plain(self) -> bool:
        """Whether it multiplies floats."""
        return not self.is_fp4 and not self.is_fp8

    @property
    def dequantized(self) -> tuple[Factor, ...]:
        """Weights that have codes though the product multiplies floats: a kernel dequantizes each in every run."""
        if not self.plain:
            return ()
        return tuple(right for _, right in self.sides if right.is_fp4 or right.is_fp8)


def find_products(outline: Outline) -> list[Product]:
    """Return the products of a graph, in its order.

    Those of floats that read one tensor and have constant weights are one: TensorRT puts the weights side by side.
    """
    found: dict[object, list[ir.Node]] = {}
    sides: dict[ir.Node, tuple[Factor, Factor]] = {}
    for node in outline.nodes:
        left, right = (*node.inputs, None, None)[:2]
        if outline.role(node) is not Role.PRODUCT or outline.time(node.outputs[0]) is not Time.DATA:
            continue
        if left is None or right is None:
            continue
        pair = factor_of(left), factor_of(right)
        sides[node] = pair
        weight = pair[1].value.const_value is not None and pair[1].scale is None and not pair[1].is_fp8
        floats = weight and not pair[0].is_fp4 and not pair[0].is_fp8 and node.op_type == "MatMul"
        found.setdefault(pair[0].value if floats else node, []).append(node)
    return [Product(tuple(nodes), tuple(sides[node] for node in nodes)) for nodes in found.values()]


def absorbed_by(products: Iterable[Product], outline: Outline) -> set[ir.Node]:
    """Return the nodes that are part of products: dequantizers, and a Split of a plain product's columns.

    TensorRT splits the weight instead, and the bias with it, so that what reads the parts reads separate tensors.
    """
    makers = {node: product for product in products for node in product.nodes}
    found = {node for p in makers.values() for pair in p.sides for side in pair for node in side.absorbed}
    # From the products back: a dequantizer stays where something else reads it too.
    for node in reversed([node for node in outline.nodes if node in found]):
        users = outline.users(*node.outputs)
        outer = any(out.is_graph_output() for out in node.outputs)
        if outer or any(user not in makers and user not in found for user in users):
            found.remove(node)
    for node, product in makers.items():
        if product.plain:
            found.update(_to_split(node, outline))
    return found


def _to_split(product: ir.Node, outline: Outline) -> list[ir.Node]:
    """Return what stands between a product and a Split of its columns, and the Split; nothing without one."""
    found: list[ir.Node] = []
    node = product
    for _ in range(_FEW):
        users = [user for user in outline.users(node.outputs[0]) if outline.role(user) is not Role.EXTENT]
        if len(users) != 1 or node.outputs[0].is_graph_output():
            return []
        node = users[0]
        found.append(node)
        if node.op_type == "Split":
            last = len(outline.shape(node.inputs[0])) - 1
            return found if node.attributes.get_int("axis", 0) in {-1, last} else []
        alone = sum(outline.time(value) is Time.DATA for value in node.inputs) == 1
        if not alone or outline.role(node) not in {Role.POINTWISE, Role.VIEW}:
            return []
    return []


def epilogue(nodes: Iterable[ir.Node], outline: Outline, makers: dict[ir.Node, Product]) -> Product | None:
    """Return the plain product that takes nodes along as its epilogue, if one does.

    They are pointwise, and its result is all that they read at run time.
    """
    inside = set(nodes)
    read = set(_read(inside, outline))
    if len(read) != 1 or any(outline.role(node) not in {Role.POINTWISE, Role.VIEW} for node in inside):
        return None
    maker = read.pop().producer()
    product = makers.get(maker) if maker is not None else None
    return product if product is not None and product.plain and len(product.nodes) == 1 else None


def _read(inside: set[ir.Node], outline: Outline) -> Iterator[ir.Value]:
    for node in inside:
        for value in node.inputs:
            if value is not None and value.producer() not in inside and outline.time(value) is Time.DATA:
                yield value
