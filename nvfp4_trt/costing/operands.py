"""How many elements each operand of the record has: its -1 dimensions found from the graph's shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nvfp4_trt.costing.fitting import DYNAMIC, Sized, fill, reshaped, same_rank, settled, transposed, volumes
from nvfp4_trt.portable import BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from nvfp4_trt.auditing import Operand, Row
    from nvfp4_trt.costing.shapes import TensorShapes

    Shape = tuple[int, ...]
    Key = tuple[str, Shape, str]
    """Name, dimensions as recorded, dtype: what says the same in every row."""

SWIZZLED_ROWS = 128
"""Rows that one tile of swizzled block scales holds, filled or not."""
_TILE = (4, 32, DYNAMIC, 4)
"""A tile's dimensions: 128 rows as 4 x 32, then columns in fours; -1 stands for their number."""
_MATRIX = 2


@dataclass(frozen=True)
class Extent:
    """The size of one operand."""

    dims: tuple[int, ...]
    """As recorded, -1 replaced where it is known."""
    elements: int
    known: bool = True
    """Whether `elements` is certain; else it is the most that anything in the row suggests, or 0."""

    @property
    def concrete(self) -> bool:
        """Whether every dimension is known."""
        return self.known and DYNAMIC not in self.dims


class Extents:
    """The sizes of all operands of a record."""

    def __init__(self, found: Mapping[Key, Extent]) -> None:
        self._found = found
        self._whole: dict[tuple[str, str], int] = {}
        for (name, _, dtype), extent in found.items():
            self._whole[name, dtype] = max(self._whole.get((name, dtype), 0), extent.elements)

    def of(self, operand: Operand) -> Extent:
        """Return the size of an operand."""
        return self._found[_key(operand)]

    def whole(self, name: str, dtype: str) -> int:
        """Return the elements of the largest operand of that name: the tensor of which the others are views."""
        return self._whole[name, dtype]


def find_extents(rows: Sequence[Row], shapes: TensorShapes) -> Extents:
    """Return the size of every operand of a record.

    An operand with -1 takes, in this order: the tensor of its own name; the tensors at the edge of the row's own
    nodes with the same rank and fixed dimensions, then any tensor of these nodes; the same for tensors that fit
    after a reshape, then after a transposition. A GEMM inside a node takes what is inside it first. Where this
    leaves several sizes, the rows that share the operand must agree on one, or other views of it tell. Then: block
    scales in tiles of 128 rows follow the rows that they belong to; a -1 that counts rows follows the others;
    last, any tensor of the graph. Never is one of several sizes picked.
    """
    options = _all_options(rows, shapes)
    extents = {name: _extent(name[1], sizes) for name, sizes in options.items()}
    for row in rows:
        for operand, _ in _operands(row):
            if DYNAMIC not in operand.dims:
                extents[_key(operand)] = Extent(operand.dims, math.prod(operand.dims))
    _settle_by_name(extents, options)
    for settle in (_settle_tiles, _settle_by_row, _settle_tiles):
        for row in rows:
            settle(row, extents, options)
    _settle_by_graph(extents, options, shapes)
    return Extents(extents)


def _key(operand: Operand) -> Key:
    """Return what tells an operand from others."""
    return operand.name, operand.dims, operand.dtype


def _operands(row: Row) -> list[tuple[Operand, bool]]:
    return [(o, False) for o in (*row.inputs, *row.constants)] + [(o, True) for o in row.outputs]


def _all_options(rows: Sequence[Row], shapes: TensorShapes) -> dict[Key, set[int]]:
    """Return the sizes of an operand that all of its rows allow; those that any allows, where they disagree."""
    found: dict[Key, list[set[int]]] = {}
    for row in rows:
        for operand, output in _operands(row):
            if DYNAMIC in operand.dims:
                sizes = _options(row, operand, shapes, output=output)
                found.setdefault(_key(operand), []).extend([sizes] if sizes else [])
    return {name: set.intersection(*each) or set.union(*each) if each else set() for name, each in found.items()}


def _options(row: Row, operand: Operand, shapes: TensorShapes, *, output: bool) -> set[int]:
    """Return the sizes that the best kind of fit allows; empty where nothing fits."""
    if _is_tiled(operand):  # 128 rows a tile: no tensor of the graph is padded so
        return set()
    named = shapes.tensors.get(operand.name)
    if named is not None and _is_view(operand.dims, named):
        return {math.prod(named.shape)}
    edge, every, inner = _own_tensors(row, shapes, output=output)
    tiers: list[tuple[Callable[[Sequence[int], Sized], bool], Iterable[Sized]]] = [
        (same_rank, inner if row.type == "gemm" else ()),
        (transposed, inner if row.type == "gemm" else ()),
        (same_rank, edge),
        (same_rank, every),
        (reshaped, edge),
        (reshaped, every),
        (transposed, every),
    ]
    for loosen in (_as_is, settled):
        for fits, candidates in tiers:
            found = volumes(t for t in candidates if fits(operand.dims, loosen(operand.dims, t)))
            if found:
                return found
    return set()


def _is_view(dims: Shape, tensor: Sized) -> bool:
    return any(reshaped(dims, t) or same_rank(dims, t) for t in (tensor, settled(dims, tensor)))


def _as_is(_: Shape, tensor: Sized) -> Sized:
    return tensor


def _own_tensors(row: Row, shapes: TensorShapes, *, output: bool) -> tuple[set[Sized], set[Sized], set[Sized]]:
    """Return the tensors at the edge of the row's nodes on the operand's side, all of their tensors, the inner."""
    nodes = [shapes.nodes[name] for name in row.onnx if name in shapes.nodes]
    read = {name for node in nodes for name in node.inputs}
    written = {name for node in nodes for name in node.outputs}
    edge = written - read if output else read - written
    inner = {tensor for node in nodes for tensor in node.inner}
    return (
        {shapes.tensors[name] for name in edge if name in shapes.tensors},
        {shapes.tensors[name] for name in read | written if name in shapes.tensors} | inner,
        inner,
    )


def _extent(dims: Shape, sizes: set[int]) -> Extent:
    if len(sizes) != 1:
        return Extent(dims, max(sizes, default=0), known=False)
    (elements,) = sizes
    return Extent(fill(dims, elements) or dims, elements)


def _settle_by_name(extents: dict[Key, Extent], options: dict[Key, set[int]]) -> None:
    """Choose among several sizes that of the same tensor where it is recorded with other dimensions."""
    sizes: dict[tuple[str, str], set[int]] = {}
    for (name, _, dtype), extent in extents.items():
        if extent.known:
            sizes.setdefault((name, dtype), set()).add(extent.elements)
    for (name, dims, dtype), extent in extents.items():
        agreed = options.get((name, dims, dtype), set()) & sizes.get((name, dtype), set())
        if not extent.known and len(agreed) == 1:
            extents[name, dims, dtype] = _extent(dims, agreed)


def _is_tiled(operand: Operand) -> bool:
    return len(operand.dims) > len(_TILE) and all(
        tile in (DYNAMIC, dim) for tile, dim in zip(_TILE, operand.dims[-len(_TILE) :], strict=True)
    )


def _settle_tiles(row: Row, extents: dict[Key, Extent], _: dict[Key, set[int]]) -> None:
    """Size block scales in tiles by the row's other FP4 or FP8 operands that have as many columns of scales."""
    held = [(o, extents[_key(o)]) for o, _ in _operands(row)]
    for operand, extent in held:
        if extent.known or not _is_tiled(operand):
            continue
        fours = operand.dims[-2]
        counts = {
            math.prod(other.dims[:-1])
            for source, other in held
            if other.concrete
            and source is not operand
            and _scale_columns(source, other) in {4 * fours, *_short(fours)}
        }
        if len(counts) == 1:
            tiles = -(-counts.pop() // SWIZZLED_ROWS)
            dims = tuple(tiles if dim == DYNAMIC else dim for dim in operand.dims)
            if operand.dims.count(DYNAMIC) == 1:
                extents[_key(operand)] = Extent(dims, math.prod(dims))


def _short(fours: int) -> range:
    """Return the column counts that are padded to so many fours."""
    return range(4 * fours - 3, 4 * fours)


def _scale_columns(operand: Operand, extent: Extent) -> int:
    """Return how many block scales a row of an operand has; 0 where it is neither codes nor scales."""
    if len(extent.dims) < _MATRIX or _is_tiled(operand):
        return 0
    if operand.is_fp4:
        return extent.dims[-1] // BLOCK
    return extent.dims[-1] if operand.dtype == "FP8" else 0


def _settle_by_row(row: Row, extents: dict[Key, Extent], options: dict[Key, set[int]]) -> None:
    """Give a single -1 the extent that the row's other single -1s agree on, where all of them count rows.

    They do in a GEMM, and where all of them are `[-1, columns]`; elsewhere one may be a batch, another its rows.
    """
    held = [(o, extents[_key(o)]) for o, _ in _operands(row) if o.dims.count(DYNAMIC) == 1 and not _is_tiled(o)]
    matrices = all(len(o.dims) == _MATRIX and o.dims[0] == DYNAMIC for o, _ in held)
    agreed = {extent.dims[o.dims.index(DYNAMIC)] for o, extent in held if extent.known}
    if len(agreed) != 1 or not (matrices or row.type == "gemm"):
        return
    (size,) = agreed
    for operand, extent in held:
        dims = tuple(size if dim == DYNAMIC else dim for dim in operand.dims)
        allowed = options.get(_key(operand))
        if not extent.known and (not allowed or math.prod(dims) in allowed):
            extents[_key(operand)] = Extent(dims, math.prod(dims))


def _settle_by_graph(extents: dict[Key, Extent], options: dict[Key, set[int]], shapes: TensorShapes) -> None:
    every = set(shapes.tensors.values())
    for name, extent in extents.items():
        if extent.known or options.get(name) or DYNAMIC not in name[1]:
            continue
        found = volumes(tensor for tensor in every if same_rank(name[1], tensor))
        if len(found) == 1:
            extents[name] = _extent(name[1], found)
