"""Bytes of an engine and of what it needs when it runs, and of what its builder needs."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from typing import TYPE_CHECKING

from nvfp4_trt.auditing.record import BITS
from nvfp4_trt.planning.operators import Role
from nvfp4_trt.planning.outline import Time
from nvfp4_trt.planning.sources import PRELUDE
from nvfp4_trt.portable import BLOCK

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    import onnx_ir as ir

    from nvfp4_trt.auditing import Operand
    from nvfp4_trt.planning.factors import Factor
    from nvfp4_trt.planning.fusion import Group
    from nvfp4_trt.planning.kernels import Kernel
    from nvfp4_trt.planning.outline import Outline

SOURCES = {
    "attention": 11_000,
    "convolution": 17_000,
    "dequantize": 10_000,
    "opaque": 10_000,
    "quantize": 8_000,
    "swizzle": 5_000,
}
"""Bytes of source behind the prelude, of kernels that TensorRT does not make out of operators."""
_TOLD = ((13_000, 2_500, 1_250, 2.6), (69_000, 14_700, 0, 4.1), (170_000, 2_400, 0, 9.7))
"""What says how to run kernels: bytes of every engine, of each GEMM, of each other kernel, and of each character
in the names of the ONNX nodes that kernels compute. With fixed shapes, a loosened dimension, dynamic shapes.
Fitted to the same engines as `Text.bytes`."""
_MARKS = len("[ONNX Layer: ]") - 1
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


def code_bytes(kernels: Sequence[Kernel], *, dynamic: bool, narrow: bool) -> int:
    """Return the bytes of an engine that are not its constants: sources of kernels, and what says how to run them.

    Args:
        kernels: of the engine.
        dynamic: whether its graph has a dynamic dimension.
        narrow: whether that is a loosened one.
    """
    plain = not any(kernel.code in {"gemm fp4", "gemm fp8"} for kernel in kernels)
    sources = 0
    stored: Counter[Hashable] = Counter()
    first = True
    for kernel in kernels:
        if kernel.kind in {"gemm", "host"}:
            continue
        if _shares(kernel, plain=plain, narrow=narrow):
            fused = kernel.kind == "fused"
            if stored[kernel.likeness] > (plain and fused):
                continue
            stored[kernel.likeness] += not fused or not first
            first = first and not fused
        own = SOURCES.get(kernel.kind)
        sources += PRELUDE + (kernel.text.bytes(dynamic=dynamic, narrow=narrow) if own is None else own)
    every, product, other, letter = _TOLD[dynamic + (dynamic and not narrow)]
    products = sum(kernel.kind == "gemm" for kernel in kernels)
    letters = sum(len(name) + _MARKS for kernel in kernels for name in kernel.row.onnx)
    return round(sources + every + product * products + other * (len(kernels) - products) + letter * letters)


def _shares(kernel: Kernel, *, plain: bool, narrow: bool) -> bool:
    """Tell whether kernels that are equal have one source; the first of a model that is fused has one of its own.

    Seen: where nothing is quantized, all but attention, two for each; TensorRT's own quantizers, if their scale is
    one constant, and layouts of scales; with a loosened profile what makes FP4 codes by row, if its extents are
    not each layer's own, as behind a Transpose or a Split. All else is stored for every launch, equal or not.
    """
    if kernel.kind in {"quantize", "swizzle"}:
        return True
    if kernel.kind == "attention":
        return False
    own_extents = kernel.text.turns or kernel.text.splits
    return plain or (narrow and kernel.by_row and kernel.text.codes and not own_extents)


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
