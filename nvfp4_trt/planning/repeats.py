"""Repeated blocks of a graph, found by its structure alone, and the same graph with fewer of them.

Blocks repeat where each node of one does what its counterpart in the next one does: the same operator, on tensors
that correspond. Names say nothing here, and neither does what weights hold.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import onnx_ir as ir

from nvfp4_trt.portable import DOMAIN

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

_LOOKED_AHEAD = 6
"""How many times the same kind of node may occur in a block for the block's length to be seen."""
_CANDIDATES = 24
_COUNTED = frozenset({ir.DataType.INT32, ir.DataType.INT64})
_SMALL = 64
"""Elements of a constant whose numbers count: shapes, axes and the like."""


class Run(NamedTuple):
    """Blocks that follow one another in a graph and are alike."""

    start: int
    """Position of the first node of the first one."""
    period: int
    """Nodes of each."""
    number: int
    """How many there are."""

    def block(self, index: int) -> range:
        """Return the positions of a block's nodes."""
        first = self.start + index * self.period
        return range(first, first + self.period)


def find_run(graph: ir.Graph) -> Run | None:
    """Return the longest run of blocks that are alike, of at least two; None where there is none."""
    nodes = list(graph)
    position = {node: index for index, node in enumerate(nodes)}
    kinds = [_kind(node) for node in nodes]
    best: Run | None = None
    for period in _periods(kinds):
        start, length = _longest(nodes, position, kinds, period)
        count = 1 + length // period
        if count > 1 and (best is None or count * period > best.number * best.period):
            best = Run(start, period, count)
    return best


def _kind(node: ir.Node) -> Hashable:
    """Return what counterparts have in common but for the tensors that they read."""
    attributes = tuple(sorted((name, str(each.value)) for name, each in node.attributes.items()))
    return node.domain, node.op_type, attributes, len(node.inputs), len(node.outputs)


def _periods(kinds: Sequence[Hashable]) -> list[int]:
    """Return the distances that nodes of one kind are most often apart, the shortest first."""
    places: dict[Hashable, list[int]] = {}
    for index, kind in enumerate(kinds):
        places.setdefault(kind, []).append(index)
    found: Counter[int] = Counter()
    for where in places.values():
        for ahead in range(1, _LOOKED_AHEAD + 1):
            found.update(after - before for before, after in zip(where, where[ahead:], strict=False))
    return sorted(period for period, _ in found.most_common(_CANDIDATES))


def _longest(
    nodes: Sequence[ir.Node], position: Mapping[ir.Node, int], kinds: Sequence[Hashable], period: int
) -> tuple[int, int]:
    """Return where the longest stretch of nodes with a counterpart one period later begins, and its length."""
    first = start = length = 0
    for index in range(len(nodes) - period):
        one, other = nodes[index], nodes[index + period]
        if kinds[index] != kinds[index + period] or not _alike(one, other, position):
            first = index + 1
        elif index + 1 - first > length:
            start, length = first, index + 1 - first
    return start, length


def _alike(one: ir.Node, other: ir.Node, position: Mapping[ir.Node, int]) -> bool:
    """Tell whether two nodes of one kind read what corresponds."""
    distance = position[other] - position[one]
    scaled = one.domain == DOMAIN
    for a, b in zip(one.inputs, other.inputs, strict=True):
        if a is b:
            continue
        if a is None or b is None:
            return False
        made, like = a.producer(), b.producer()
        if made is None or like is None:
            if made is not like or not _same_constant(a.const_value, b.const_value, scaled=scaled):
                return False
        elif position[like] - position[made] != distance or a.index() != b.index():
            return False
    return True


def _same_constant(one: ir.TensorProtocol | None, other: ir.TensorProtocol | None, *, scaled: bool) -> bool:
    """Tell whether two constants do the same: of one dtype and shape, and equal where they say what is computed.

    Args:
        one: the first.
        other: the second.
        scaled: whether an operator of NVFP4 reads them, for which numbers are scales and codes.
    """
    if one is None or other is None or one.dtype != other.dtype or tuple(one.shape) != tuple(other.shape):
        return False
    counts = one.size == 1 or (one.dtype in _COUNTED and one.size <= _SMALL)
    return scaled or not counts or bool((one.numpy() == other.numpy()).all())


def keep_blocks(graph: ir.Graph, run: Run, kept: int) -> bool:
    """Take blocks out of a graph, in place: of a run, the last one stays, and in front of it the first ones.

    Args:
        graph: what `run` was found in.
        run: of more blocks than are kept.
        kept: how many; at least two.

    Returns:
        False, with the graph as it was, where something behind a block reads more than the last one's results.
    """
    nodes = list(graph)
    last = run.block(run.number - 1).start
    gone = range(run.block(kept - 1).start, last)
    behind = set(nodes[last:])
    replaced: list[tuple[ir.Node, int, ir.Value]] = []
    for index in gone:
        for output, value in enumerate(nodes[index].outputs):
            outer = [(user, place) for user, place in value.uses() if user in behind]
            if value.is_graph_output() or (outer and index < last - run.period):
                return False
            replaced += [(user, place, nodes[index - len(gone)].outputs[output]) for user, place in outer]
    for user, place, stays in replaced:
        user.replace_input_with(place, stays)
    graph.remove(nodes[gone.start : gone.stop], safe=True)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]
    return True
