"""Bytes of an engine and of what it needs when it runs, and of what its builder needs."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from typing import TYPE_CHECKING

from nvfp4_trt.auditing.record import BITS
from nvfp4_trt.planning.operators import Role
from nvfp4_trt.planning.outline import Time
from nvfp4_trt.portable import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import onnx_ir as ir

    from nvfp4_trt.auditing import Operand
    from nvfp4_trt.planning.factors import Factor
    from nvfp4_trt.planning.fusion import Group
    from nvfp4_trt.planning.kernels import Kernel
    from nvfp4_trt.planning.outline import Outline

EACH = {
    "fused": 105_000,
    "blocks": 395_000,
    "narrow blocks": 370_000,
    "narrow blocks by row": 122_000,
    "gemm fp4": 86_000,
    "gemm fp8": 57_000,
    "attention": 28_000,
    "swizzle": 33_000,
    "dequantize": 113_000,
}
"""Bytes of code of a kernel, by kind. `blocks` makes FP4 codes from standard operators, `by row` with a scale for
each row; `narrow` where the profile of a dynamic dimension is a loosened one, of two extents."""
FIRST = {
    "fused": 25_000,
    "narrow blocks by row": 310_000,
    "quantize": 85_000,
    "convolution": 230_000,
    "dequantize": 47_000,
}
"""More, where no kernel before it is the same."""
FIRST_DYNAMIC = {"fused": 54_000, "quantize": 22_000, "swizzle": 48_000}
"""More, where shapes are dynamic too.

All three by non-negative least squares over the engines that docs/plan.md names, `narrow blocks by row` here again
for a block's maximum by fours (ADR 23); TensorRT-RTX 1.7, sm_120."""

WORKSPACE = 8 << 20
"""That an engine keeps for each product that runs beside others."""
BUILDER_FACTOR, BUILDER_BASE = 3.2, 150_000_000
"""Host memory of a build: so many times the bytes of the weights, and so much beside them."""
_ROWS, _COLUMNS = 128, 4
_ALIGNED = 256


def constants(outline: Outline, groups: Sequence[Group]) -> dict[str, int | Fraction]:
    """Return the bytes of each of an engine's constants; block scales with the padding of their tiles."""
    return dict(_constants(outline, groups))


def _constants(outline: Outline, groups: Sequence[Group]) -> Iterator[tuple[str, int | Fraction]]:
    products = {node for group in groups if group.product is not None for node in group.product.nodes}
    for group in groups:
        for pair in group.product.sides if group.product is not None else ():
            for side in pair:
                if outline.time(side.value) is Time.BUILD:
                    yield from _side(outline, side)
    for node in outline.nodes:
        if outline.time(node.outputs[0]) < Time.EXTENTS:
            continue
        for index, value in enumerate(node.inputs):
            factor = node in products and index < len("AB")
            # A single number is part of the code that reads it.
            held = value is not None and outline.time(value) is Time.BUILD and outline.elements(value) > 1
            if value is not None and held and not factor:
                padded = outline.role(node) is Role.CONVOLUTION and index == 1
                yield value.name or "", _nbytes(outline, value) * (_padding(outline.shape(value)) if padded else 1)


def _padding(shape: tuple[int, ...]) -> Fraction:
    """Return what a convolution's weight grows by: TensorRT pads input channels to a multiple of four."""
    channels = max(1, shape[1]) if len(shape) > 1 else 1
    return Fraction(-(-channels // _COLUMNS) * _COLUMNS, channels)


def _side(outline: Outline, side: Factor) -> Iterator[tuple[str, int]]:
    yield side.value.name or "", _nbytes(outline, side.value)
    if side.is_fp4:
        *lead, k = outline.shape(side.value)
        yield f"{side.value.name}/scales", tile_bytes(math.prod(lead), k)
    elif side.axes_scale is not None:
        yield side.axes_scale.name or "", _nbytes(outline, side.axes_scale)


def tile_bytes(rows: int, k: int) -> int:
    """Return the bytes of the block scales of `[rows, k]` codes, in tiles of 128 rows and four columns."""
    return -(-rows // _ROWS) * _ROWS * (-(-(k // BLOCK) // _COLUMNS) * _COLUMNS)


def _nbytes(outline: Outline, value: ir.Value) -> int:
    """Return the bytes of a constant; integers have 32 bits inside an engine."""
    return -(-outline.elements(value) * min(32, BITS.get(outline.dtype(value), 32)) // 8)


def code_bytes(kernels: Iterable[Kernel], *, dynamic: bool, narrow: bool) -> int:
    """Return the bytes of an engine that are not its constants.

    Args:
        kernels: of the engine.
        dynamic: whether its graph has a dynamic dimension.
        narrow: whether that is a loosened one.
    """
    total, seen = 0, set()
    for kernel in kernels:
        kind = kernel.code
        if narrow and kind == "blocks":
            kind = "narrow blocks by row" if kernel.by_row else "narrow blocks"
        total += EACH.get(kind, 0)
        if kernel.likeness not in seen:
            seen.add(kernel.likeness)
            total += FIRST.get(kind, 0) + (FIRST_DYNAMIC.get(kind, 0) if dynamic else 0)
    return total


def activation_bytes(kernels: Sequence[Kernel], bound: set[str]) -> int:
    """Return the most bytes of activations that are alive at one time, and the workspace.

    Products that read one tensor and are not one run on streams of their own.

    Args:
        kernels: in the order in which they run, their operands at the largest shape.
        bound: names of tensors that the caller holds: inputs and outputs of the model.
    """
    beside = Counter(each.row.inputs[0].name for each in kernels if each.kind == "gemm" and each.row.inputs)
    streams = max(beside.values(), default=1)
    sizes: dict[str, int] = {}
    last: dict[str, int] = {}
    first: dict[str, int] = {}
    for index, kernel in enumerate(kernels):
        for operand in kernel.row.outputs:
            first.setdefault(operand.name, index)
        for operand in (*kernel.row.inputs, *kernel.row.outputs):
            if operand.name in first and operand.name not in bound:
                sizes[operand.name] = max(sizes.get(operand.name, 0), _aligned(operand))
                last[operand.name] = index
    changes = [0] * (len(kernels) + 1)
    for name, size in sizes.items():
        changes[first[name]] += size
        changes[last[name] + 1] -= size
    alive, most = 0, 0
    for change in changes:
        alive += change
        most = max(most, alive)
    return most + WORKSPACE * streams


def _aligned(operand: Operand) -> int:
    nbytes = -(-math.prod(operand.dims) * BITS.get(operand.dtype, 32) // 8)
    return -(-nbytes // _ALIGNED) * _ALIGNED


def builder_bytes(weights: int) -> int:
    """Return the host memory that a build takes."""
    return round(BUILDER_FACTOR * weights + BUILDER_BASE)
