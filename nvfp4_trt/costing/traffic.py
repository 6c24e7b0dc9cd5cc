"""What one row of the record reads, writes and multiplies."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING

from nvfp4_trt.auditing.record import BITS
from nvfp4_trt.portable import BLOCK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nvfp4_trt.auditing import Operand, Row
    from nvfp4_trt.costing.operands import Extents
    from nvfp4_trt.costing.shapes import TensorShapes

PRECISIONS = ("fp4", "fp8", "fp16", "fp32")
"""From narrow to wide."""
_PRECISION = {"FP4E2M1": "fp4", "FP4": "fp4", "FP8": "fp8", "Int8": "fp8", "Half": "fp16", "BFloat16": "fp16"}
_PRODUCT = re.compile(r"gemm|gemv|mha", re.IGNORECASE)
"""In the name of a generated kernel: it multiplies matrices, as fused attention does."""
_PRODUCTS = {"gemm", "runtime_fusion"}
"""Types of rows that do; the second one is what becomes of a GEMM with an odd number of columns."""
_MOVES_NOTHING = {"wait", "signal", "reshape"}
_MATRIX = 2


def row_traffic(row: Row, shapes: TensorShapes, extents: Extents) -> tuple[int, int]:
    """Return the bytes that a row reads and writes.

    Each operand counts once from memory or once to it. Several views of one tensor (q, k and v of a merged GEMM's
    output) together count at most the tensor. Of a constant that a Gather or Slice reads, what it takes counts.
    """
    if row.type in _MOVES_NOTHING:
        return 0, 0
    lookups = [shapes.lookups[name] for name in row.onnx if name in shapes.lookups]
    read: Counter[tuple[str, str]] = Counter()
    for operand in row.inputs:
        read[operand.name, operand.dtype] += extents.of(operand).elements
    for operand in row.constants:
        read[operand.name, operand.dtype] += _taken(operand, extents.of(operand).elements, lookups)
    return (
        sum(_nbytes(dtype, min(count, extents.whole(name, dtype))) for (name, dtype), count in read.items()),
        sum(_nbytes(o.dtype, extents.of(o).elements) for o in row.outputs),
    )


def _taken(operand: Operand, elements: int, lookups: Sequence[tuple[tuple[int, ...], int]]) -> int:
    """Return how many elements of a constant are read: of a table, or of its block scales, the rows looked up."""
    taken = elements
    for table, count in lookups:
        if elements == math.prod(table):
            taken = min(taken, count)
        elif operand.dtype == "FP8" and elements * BLOCK == math.prod(table):
            taken = min(taken, count // BLOCK)
    return taken


def _nbytes(dtype: str, elements: int) -> int:
    return -(-elements * BITS.get(dtype, 32) // 8)


def multiplies(row: Row) -> bool:
    """Tell whether a row multiplies matrices: a GEMM, or a generated kernel that is called one."""
    return row.type in _PRODUCTS or (row.is_launch and _PRODUCT.search(row.name) is not None)


def row_flops(row: Row, shapes: TensorShapes, extents: Extents, sharing: Mapping[str, int]) -> tuple[int, str]:
    """Return the operations of a row's matrix products, and the precision of the wider side.

    A GEMM counts 2·M·N·K from its operands, and a fused attention both its products. Where the record leaves the
    dimensions open, the operations of the row's ONNX nodes count instead, in equal shares.

    Args:
        row: the row.
        shapes: with the operations of the nodes.
        extents: the sizes of the operands.
        sharing: node → how many rows that multiply compute it.
    """
    if not multiplies(row):
        return 0, ""
    if row.type == "gemm":
        sides = _sides(row)
        flops = _gemm_flops(row, sides, extents)
    else:
        sides = list(row.inputs)
        flops = _attention_flops(row, extents)
    if flops is None:
        flops = sum(shapes.flops.get(name, 0) // sharing[name] for name in row.onnx)
    return (flops, _wider(sides)) if flops else (0, "")


def _sides(row: Row) -> list[Operand]:
    """Return a GEMM's two factors: the first input, and the first constant or other input that is a matrix."""
    matrices = [o for o in (*row.inputs, *row.constants) if len(o.dims) >= _MATRIX]
    left = matrices[:1]
    others = [o for o in (*row.constants, *row.inputs[1:]) if len(o.dims) >= _MATRIX]
    fp4 = [o for o in others if o.is_fp4]
    return [*left, *(fp4 or others)[:1]]


def _gemm_flops(row: Row, sides: Sequence[Operand], extents: Extents) -> int | None:
    """Count 2·|C|·K: K is the last dimension of A, or |A|·N / |C| where only C's last dimension N is fixed."""
    if len(sides) != _MATRIX or not row.outputs or not row.outputs[0].dims:
        return None
    left, right, result = (extents.of(operand) for operand in (*sides, row.outputs[0]))
    if not (left.known and result.known):
        return None
    if left.dims[-1] > 0 and left.dims[-1] in right.dims[-2:]:
        return 2 * result.elements * left.dims[-1]
    return 2 * left.elements * result.dims[-1] if result.dims[-1] > 0 else None


def _attention_flops(row: Row, extents: Extents) -> int | None:
    """Count [.., Q, D] x [.., D, S] and [.., Q, S] x [.., S, V] of a kernel that reads q, k transposed, and v."""
    if len(row.inputs) < len("qkv") or len(row.outputs) != 1:
        return None
    query, keys, result = (extents.of(o) for o in (*row.inputs[:2], row.outputs[0]))
    if not (query.concrete and keys.concrete and result.concrete and len(query.dims) > _MATRIX):
        return None
    if keys.dims[-2] != query.dims[-1]:
        return None
    return 2 * (query.elements + result.elements) * keys.dims[-1]


def _wider(operands: Sequence[Operand]) -> str:
    found = [_PRECISION.get(operand.dtype, "fp32") for operand in operands]
    return max(found, key=PRECISIONS.index)
