"""Names of one block's nodes, layers and tensors → those of another block."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import onnx_ir as ir

    from nvfp4_trt.planning.repeats import Run

_WORDS = re.compile(r"\d+|[^\W\d_]+|[\W_]+")


class Renaming:
    """Says what a name of a block is in a later block.

    Lowering makes names of its own out of those that it finds: `layers.1.q` becomes `layers.1.q/codes`, and
    `layers.1.q+k+v`. So a name is changed where it begins with a known one, or with what two known ones differ in.

    Args:
        nodes: of the graph with all blocks, in its order.
        run: the blocks.
        first: the block that names are of; those of the block in front of it are changed as well.
        ahead: how many blocks further on the name is to be.
    """

    def __init__(self, nodes: Sequence[ir.Node], run: Run, first: int, ahead: int) -> None:
        self._table: dict[str, str] = {}
        votes: dict[str, Counter[str]] = defaultdict(Counter)
        for index in (*run.block(first - 1), *run.block(first)):
            for old, new in zip(_names(nodes[index]), _names(nodes[index + ahead * run.period]), strict=True):
                self._table.setdefault(old, new)
                stem, changed = _stems(old, new)
                votes[stem][changed] += 1
        # Where layers share a tensor, its name is another one's: most names tell.
        stems = {stem: count.most_common(1)[0][0] for stem, count in votes.items() if stem}
        self._table = {**stems, **self._table}

    def __call__(self, name: str) -> str:
        """Return what corresponds to a name; itself where it is of no block."""
        if name in self._table:
            return self._table[name]
        ends = [match.start() for match in _WORDS.finditer(name)]
        for end in reversed(ends):
            if name[:end] in self._table:
                return self._table[name[:end]] + name[end:]
        return name

    def all(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return what corresponds to each of several names."""
        return tuple(self(name) for name in names)


def _names(node: ir.Node) -> Iterator[str]:
    """Yield the names of a node, of what it makes and of what it reads; empty where one has none."""
    yield node.name or ""
    for value in (*node.outputs, *node.inputs):
        yield "" if value is None else value.name or ""


def _stems(old: str, new: str) -> tuple[str, str]:
    """Return what two names begin with, up to the number that they differ in; nothing if they differ in more."""
    before, after = _WORDS.findall(old), _WORDS.findall(new)
    differ = [i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b]
    if len(differ) != 1 or len(before) != len(after) or not (before[differ[0]] + after[differ[0]]).isdigit():
        return "", ""
    end = differ[0] + 1
    return "".join(before[:end]), "".join(after[:end])
