"""The first blocks of a model of repeated ones, cut out of its graph: what a form does to them, it does to all."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from nvfp4_trt.portable import find_sites

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import onnx_ir as ir

KEPT_BLOCKS = 3
"""Blocks that stay: the middle one has another on each side, as nearly all blocks of the whole model have."""
MIDDLE = 1
"""Which block that is."""
_COVERED = 0.75
"""Share of a model's linears that its repeated blocks have at least; of others, blocks say too little."""
_NUMBER = re.compile(r"(?:(?<=\.)|^)(\d+)(?=\.)")


class Blocks(NamedTuple):
    """Repeated blocks of a model."""

    path: str
    """What their layers' names begin with, before the block's number."""
    number: int
    """How many there are."""

    def block_of(self, layer: str) -> int | None:
        """Return which block a layer is in."""
        if not layer.startswith(self.path):
            return None
        match = re.match(r"(\d+)\.", layer[len(self.path) :])
        return int(match[1]) if match else None

    def is_middle(self, nodes: Iterable[str]) -> bool:
        """Tell whether nodes belong to the middle one of the kept blocks: to it, and to none behind it."""
        found = {block for node in nodes if (block := self.block_of(node)) is not None}
        return MIDDLE in found and max(found) == MIDDLE


def find_blocks(layers: Iterable[str]) -> Blocks | None:
    """Find the repeated blocks by the names of layers, as in `encoder.layer.3.output.dense`.

    Args:
        layers: names of the quantized linears.

    Returns:
        None where there are no more than one beside `KEPT_BLOCKS`, where they are not numbered from 0, where a
        layer in one has no like in the first ones, or where most linears lie elsewhere.
    """
    names = list(layers)
    members: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for name in names:
        for match in _NUMBER.finditer(name):
            members[name[: match.start()]][int(match[1])].add(name[match.end() :])
    found = [(path, blocks) for path, blocks in members.items() if _is_repeated(blocks)]
    if not found:
        return None
    path, blocks = max(found, key=lambda each: sum(map(len, each[1].values())))
    covered = sum(map(len, blocks.values()))
    return Blocks(path, len(blocks)) if covered >= _COVERED * len(names) else None


def _is_repeated(blocks: Mapping[int, set[str]]) -> bool:
    first = set().union(*(blocks.get(index, set()) for index in range(KEPT_BLOCKS)))
    return (
        len(blocks) > KEPT_BLOCKS + 1
        and sorted(blocks) == list(range(len(blocks)))
        and all(parts <= first for parts in blocks.values())
    )


def keep_first_blocks(model: ir.Model, blocks: Blocks) -> bool:
    """Cut a portable graph behind its first `KEPT_BLOCKS` blocks, in place.

    The cut is between the last GEMM of these blocks and the first of the next one, where the fewest values cross
    it, as late as possible: in a transformer only the residual stream does. What crosses it becomes the output.

    Args:
        model: a portable model.
        blocks: what `find_blocks` found in it.

    Returns:
        False, with the model as it was, where the graph does not have the blocks one behind the other.
    """
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    nodes = list(model.graph)
    position = {node: index for index, node in enumerate(nodes)}
    gemms = [(position[site.gemm], blocks.block_of(site.layer)) for site in find_sites(model.graph)]
    before = [index for index, block in gemms if block is not None and block < KEPT_BLOCKS]
    behind = [index for index, block in gemms if block is not None and block >= KEPT_BLOCKS]
    if not before or not behind or max(before) > min(behind):
        return False
    last = [index for index, block in gemms if block == KEPT_BLOCKS - 1]
    cuts = range(max(before) + 1, min(behind) + 1)
    crossing = _crossing(_depending(nodes, min(last)), position, cuts)
    # `reversed`: of several that are as good, the last one.
    cut = min(reversed(cuts), key=lambda each: len(crossing[each]))
    outputs = crossing[cut]
    if not outputs or any(value.type is None or value.shape is None for value in outputs):
        return False
    model.graph.outputs[:] = outputs
    model.graph.remove(nodes[cut:], safe=True)
    RemoveUnusedNodesPass()(model)
    for name, value in list(model.graph.initializers.items()):
        if not value.uses():
            del model.graph.initializers[name]
    return True


def _depending(nodes: Sequence[ir.Node], first: int) -> set[ir.Value]:
    """Return what depends on one node."""
    found = set(nodes[first].outputs)
    for node in nodes[first + 1 :]:
        if any(value in found for value in node.inputs):
            found.update(node.outputs)
    return found


def _crossing(
    values: set[ir.Value], position: Mapping[ir.Node, int], cuts: Iterable[int]
) -> dict[int, list[ir.Value]]:
    """Return, for each cut, the values that are made before it and used behind it, or are outputs of the model."""
    spans = [(value, *span) for value in values if (span := _span(value, position)) is not None]
    spans.sort(key=lambda each: each[1])
    return {cut: [value for value, made, used in spans if made < cut <= used] for cut in cuts}


def _span(value: ir.Value, position: Mapping[ir.Node, int]) -> tuple[int, int] | None:
    """Return where a value is made and where it is used last."""
    maker = value.producer()
    used = list(_uses(value, position))
    return None if maker is None or not used else (position[maker], max(used))


def _uses(value: ir.Value, position: Mapping[ir.Node, int]) -> Iterator[int]:
    if value.is_graph_output():
        yield len(position)
    for node, _ in value.uses():
        yield position[node]
