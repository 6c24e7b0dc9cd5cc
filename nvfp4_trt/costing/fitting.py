"""Whether an operand of the record, which says -1 for a dynamic dimension, can be a tensor of the graph."""

from __future__ import annotations

import math
from itertools import groupby, permutations
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DYNAMIC = -1
_MAX_PERMUTED = 5
"""Rank up to which transpositions are tried."""
_MIN_OPEN = 3
"""An operand of dynamic dimensions alone fits by a reshape only from this rank on: it says too little else."""


class Sized(NamedTuple):
    """A tensor's shape in numbers, and the same with -1 where a dimension depends on the inputs' dimensions."""

    shape: tuple[int, ...]
    pattern: tuple[int, ...]


def sized(shape: Sequence[int], other: Sequence[int] | None) -> Sized:
    """Tell a tensor's dynamic dimensions by its shape at other dimensions of the inputs; all, without that."""
    if other is None or len(other) != len(shape):
        return Sized(tuple(shape), (DYNAMIC,) * len(shape))
    return Sized(tuple(shape), tuple(a if a == b else DYNAMIC for a, b in zip(shape, other, strict=True)))


def fill(pattern: Sequence[int], elements: int) -> tuple[int, ...] | None:
    """Return the dimensions of a pattern with one -1 that has so many elements; None where they do not fit."""
    fixed = math.prod(dim for dim in pattern if dim != DYNAMIC)
    if list(pattern).count(DYNAMIC) != 1 or fixed <= 0 or elements % fixed:
        return None
    return tuple(elements // fixed if dim == DYNAMIC else dim for dim in pattern)


def same_rank(dims: Sequence[int], tensor: Sized) -> bool:
    """Tell whether the dimensions agree one by one: fixed ones with a fixed one, -1 with a dynamic one."""
    return tuple(dims) == tensor.pattern


def reshaped(dims: Sequence[int], tensor: Sized) -> bool:
    """Tell whether a row-major reshape of the tensor has such dimensions.

    Fixed neighbours count by their product: they must be a run of whole fixed dimensions of the tensor, or a split
    one. Dynamic neighbours must be a run with at least as many dynamic dimensions. What ends in a 1 must do so on
    both sides where no other dimension is fixed: these are statistics of rows, and anything would fit else.
    """
    if all(dim in (DYNAMIC, 1) for dim in dims):
        enough = dims[-1] == 1 or len(dims) >= _MIN_OPEN
        if not enough or (dims[-1] == 1) != (tensor.shape[-1:] == (1,)):
            return False
    return _runs(_parts(dims), _without_ones(tensor))


def transposed(dims: Sequence[int], tensor: Sized) -> bool:
    """Tell whether a reshape of some transposition of the tensor has such dimensions."""
    parts, axes = _parts(dims), _without_ones(tensor)
    if all(dim in (DYNAMIC, 1) for dim in dims) or len(axes) > _MAX_PERMUTED:
        return False
    return any(_runs(parts, order) for order in set(permutations(axes)))


def settled(dims: Sequence[int], tensor: Sized) -> Sized:
    """Return the tensor with those dynamic dimensions taken for fixed whose size the operand has as a fixed one.

    A profile that leaves a dimension one extent makes it fixed in the record, though it is dynamic in the graph.
    """
    fixed = {dim for dim in dims if dim > 1}
    axes = zip(tensor.shape, tensor.pattern, strict=True)
    return Sized(tensor.shape, tuple(size if size in fixed else known for size, known in axes))


def volumes(tensors: Iterable[Sized]) -> set[int]:
    """Return how many elements the tensors have, each number once."""
    return {math.prod(tensor.shape) for tensor in tensors}


def _without_ones(tensor: Sized) -> list[tuple[int, bool]]:
    """Return (size, whether it is dynamic) of every dimension that may be larger than 1."""
    axes = zip(tensor.shape, tensor.pattern, strict=True)
    return [(size, known == DYNAMIC) for size, known in axes if known != 1]


def _parts(dims: Sequence[int]) -> list[tuple[int, int]]:
    """Return (product, 0) of fixed neighbours and (-1, their number) of dynamic ones; ones are left out."""
    parts = []
    for dynamic, run in groupby((dim for dim in dims if dim != 1), key=lambda dim: dim == DYNAMIC):
        kept = list(run)
        parts.append((DYNAMIC, len(kept)) if dynamic else (math.prod(kept), 0))
    return parts


def _runs(parts: Sequence[tuple[int, int]], axes: Sequence[tuple[int, bool]]) -> bool:
    """Tell whether the axes split into runs, one for each part."""
    if not parts:
        return not axes
    (product, dynamic), rest = parts[0], parts[1:]
    for end in range(1, len(axes) + 1):
        moving = sum(dynamic_axis for _, dynamic_axis in axes[:end])
        size = math.prod(n for n, _ in axes[:end])
        fits = moving >= dynamic if dynamic else moving == 0 and size == product
        if fits and _runs(rest, axes[end:]):
            return True
    return False
