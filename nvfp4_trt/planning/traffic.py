"""What each kernel reads and writes: the tensors that cross from one group of nodes to another."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from nvfp4_trt.auditing import Operand
from nvfp4_trt.planning.operators import Role
from nvfp4_trt.planning.outline import Time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import onnx_ir as ir

    from nvfp4_trt.planning.fusion import Group
    from nvfp4_trt.planning.outline import Outline
    from nvfp4_trt.planning.products import Product

    Sides = tuple[list[Operand], list[Operand], list[Operand]]

_LOOKUPS = frozenset({"Gather", "GatherElements", "GatherND", "Slice"})
STATISTIC = "/statistic"
"""Ends the name of what a norm that ends a kernel leaves of each row."""
_NORMS = ("LayerNormalization", "RMSNormalization")


class Traffic:
    """The operands of every group.

    Args:
        outline: of the graph.
        groups: all of them.
    """

    def __init__(self, outline: Outline, groups: Sequence[Group]) -> None:
        self._outline = outline
        self.products: tuple[Product, ...] = tuple(g.product for g in groups if g.product is not None)
        self._groups = groups
        self._last = {_last_reduction(group, outline) for group in groups}
        self._by_fp8 = {node for p in self.products if p.is_fp8 for node in p.nodes}
        self._homes = {node: index for index, group in enumerate(groups) for node in group.nodes}
        self._reads = [dict.fromkeys(self._read_by(group)) for group in groups]
        self._readers: dict[ir.Value, set[int]] = defaultdict(set)
        for index, values in enumerate(self._reads):
            for value in values:
                self._readers[value].add(index)
        self._outputs = {self._source(value) for value in outline.graph.outputs}

    def of(self, group: Group) -> Sides:
        """Return what a group reads at run time, its constants, and what it writes."""
        index = self._homes[group.nodes[0]]
        read, constants = self._operands(index, group.nodes)
        return read, constants, self.results(group)

    def epilogue(self, group: Group) -> Sides:
        """Return what the nodes of a product's group beside the product itself read."""
        assert group.product is not None  # noqa: S101 (the caller has looked)
        index = self._homes[group.nodes[0]]
        others = [node for node in group.nodes if node not in group.product.nodes]
        read, constants = self._operands(index, others)
        for node in group.product.nodes:
            constants += [self.operand(v) for v in node.inputs[2:] if v is not None and v.const_value is not None]
        return read, constants, []

    def results(self, group: Group) -> list[Operand]:
        """Return what a group writes for others: of a product, its whole result."""
        index = self._homes[group.nodes[0]]
        if group.product is not None and len(group.nodes) == len(group.product.nodes):
            parts = [self.operand(node.outputs[0]) for node in group.nodes]
            *lead, _ = parts[0].dims or (0,)
            width = sum(part.dims[-1] for part in parts if part.dims)
            return [parts[0].model_copy(update={"dims": (*lead, width)})]
        found: dict[str, Operand] = {}
        for node in group.nodes:
            for value in node.outputs:
                readers = self._readers.get(value, set()) - {index}
                if readers or value in self._outputs:
                    for part in {self._part_of(index, reader) for reader in readers} or {False}:
                        found.update((operand.name, operand) for operand in self._crossing(value, part=part))
        return list(found.values())

    def operand(self, value: ir.Value) -> Operand:
        """Return a whole tensor as an operand."""
        dims, dtype = self._outline.shape(value), self._outline.dtype(value)
        if not dims and value.shape is not None:
            dims = tuple(dim for dim in value.shape if isinstance(dim, int))
        if value.producer() in self._by_fp8:
            dtype = "Float"  # its scales come after it
        return Operand(name=value.name or "", dims=dims, dtype=dtype)

    def _operands(self, index: int, nodes: Iterable[ir.Node]) -> tuple[list[Operand], list[Operand]]:
        read: dict[str, Operand] = {}
        constants: dict[str, Operand] = {}
        for node in nodes:
            for position, value in enumerate(node.inputs):
                if value is None or self._outline.role(node) is Role.EXTENT:
                    continue
                if self._outline.time(value) is Time.BUILD:
                    constants[value.name or ""] = self._constant(node, position, value)
                    continue
                source = self._source(value)
                maker = source.producer()
                home = None if maker is None else self._homes.get(maker)
                if home != index and self._in_memory(source):
                    part = home is not None and self._part_of(home, index)
                    read.update((operand.name, operand) for operand in self._crossing(source, part=part))
        return list(read.values()), list(constants.values())

    def _constant(self, node: ir.Node, position: int, value: ir.Value) -> Operand:
        """Return a constant; of one that rows are looked up in, what is taken."""
        operand = self.operand(value)
        if node.op_type in _LOOKUPS and position == 0:
            taken = self._outline.shape(node.outputs[0])
            if taken and self._outline.elements(node.outputs[0]) < self._outline.elements(value):
                return operand.model_copy(update={"dims": taken})
        return operand

    def _part_of(self, home: int, reader: int) -> bool:
        """Tell whether two groups are parts of what was split."""
        return self._groups[home].level == self._groups[reader].level and home != reader

    def _crossing(self, value: ir.Value, *, part: bool) -> Iterator[Operand]:
        """Yield what crosses: of a norm that ends a kernel, 32 bits and a statistic of each row."""
        root = self._root(value)
        operand = self.operand(root)
        maker = root.producer()
        own = maker is not None and self._homes.get(maker) == self._homes.get(value.producer() or maker)
        if part and own and maker in self._last and maker.op_type in _NORMS:  # type: ignore[union-attr]
            yield operand.model_copy(update={"name": f"{root.name}/wide", "dtype": "Float"})
            dims = (*operand.dims[:-1], 1)
            yield Operand(name=f"{root.name}{STATISTIC}", dims=dims, dtype="Float")
        else:
            yield operand

    def _root(self, value: ir.Value) -> ir.Value:
        """Return the tensor that a value is a view of."""
        maker = value.producer()
        while maker is not None and maker.op_type != "Cast" and self._outline.role(maker) is Role.VIEW:
            source = maker.inputs[0]
            if source is None:
                break
            value, maker = source, source.producer()
        return value

    def _in_memory(self, value: ir.Value) -> bool:
        """Tell whether a tensor is in memory: an input, or written by a kernel."""
        maker = value.producer()
        time = self._outline.time(value)
        if maker is None:
            return time is Time.DATA
        return time is Time.DATA or (time is Time.EXTENTS and maker in self._homes)

    def _read_by(self, group: Group) -> Iterator[ir.Value]:
        if group.product is not None:
            for left, right in group.product.sides:
                for value in (left.value, left.scale, right.value, right.scale):
                    if value is not None:
                        yield self._source(value)
        for node in group.nodes:
            if group.product is None or node not in group.product.nodes:
                yield from (self._source(value) for value in node.inputs if value is not None)

    def _source(self, value: ir.Value) -> ir.Value:
        """Return what a value is a view of, where no kernel makes the view."""
        maker = value.producer()
        while maker is not None and maker not in self._homes and self._outline.role(maker) is Role.VIEW:
            source = maker.inputs[0]
            if source is None:
                break
            value, maker = source, source.producer()
        return value


def _last_reduction(group: Group, outline: Outline) -> ir.Node | None:
    """Return the reduction that a group ends with, if it has one."""
    return next((node for node in reversed(group.nodes) if outline.role(node) is Role.REDUCTION), None)
