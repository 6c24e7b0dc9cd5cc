"""Shapes and dtypes of the plugins' outputs, and checks of the shapes of their inputs.

The same formulas serve plain integers and TensorRT's symbolic expressions: they are written over an
`Arithmetic`, of which `Integers` is the plain one.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import TYPE_CHECKING, Protocol, TypeVar

from nvfp4_trt.errors import PluginNodeError
from nvfp4_trt.plugin.fields import GEMM, QUANTIZE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nvfp4_trt.plugin.fields import Fields, GemmFields, QuantizeFields

BLOCK = 16
TILE_ROWS, TILE_COLUMNS, TILE_BYTES = 128, 64, 512
"""A tile of swizzled scales: 128 rows of 64 elements (4 blocks), one byte a block."""
MIN_GEMM_K, GEMM_N = 32, 8
"""The GEMM takes K in steps of 32 and N in steps of 8."""

D = TypeVar("D")
Shape = tuple[int, ...]


class Arithmetic(Protocol[D]):
    """What the formulas need of a dimension."""

    def constant(self, value: int) -> D:
        """Return a dimension that is known."""
        ...

    def product(self, a: D, b: D) -> D:
        """Return a · b."""
        ...

    def divided(self, a: D, by: int) -> D:
        """Return floor(a / by)."""
        ...

    def divided_up(self, a: D, by: int) -> D:
        """Return ceil(a / by)."""
        ...


class Integers:
    """Dimensions that are numbers."""

    def constant(self, value: int) -> int:
        """Return the number."""
        return value

    def product(self, a: int, b: int) -> int:
        """Return a · b."""
        return a * b

    def divided(self, a: int, by: int) -> int:
        """Return floor(a / by)."""
        return a // by

    def divided_up(self, a: int, by: int) -> int:
        """Return ceil(a / by)."""
        return -(-a // by)


def rows_of(arithmetic: Arithmetic[D], dims: Sequence[D]) -> D:
    """Return M: the product of all dimensions but the last."""
    return reduce(arithmetic.product, dims[:-1], arithmetic.constant(1))


def scale_bytes(arithmetic: Arithmetic[D], m: D, k: D) -> D:
    """Return the bytes of the swizzled block scales of `[M, K]`: whole tiles of 128 rows and 64 elements."""
    tiles = arithmetic.product(arithmetic.divided_up(m, TILE_ROWS), arithmetic.divided_up(k, TILE_COLUMNS))
    return arithmetic.product(tiles, arithmetic.constant(TILE_BYTES))


def quantize_shapes(arithmetic: Arithmetic[D], fields: QuantizeFields, x: Sequence[D]) -> list[list[D]]:
    """Return the shapes of an `Nvfp4Quantize` node's outputs, in their order.

    Args:
        arithmetic: of the dimensions.
        fields: the node's attributes.
        x: the shape `[..., K]` of its first input.
    """
    lead, k, one = list(x[:-1]), x[-1], arithmetic.constant(1)
    shapes = {
        "codes": [*lead, arithmetic.divided(k, 2)],
        "scales": [scale_bytes(arithmetic, rows_of(arithmetic, x), k)],
        "alpha": [*lead, one] if fields.scaling == "token" else [one],
        "values": list(x),
        "sum": list(x),
    }
    return [shapes[name] for name in fields.outputs]


def gemm_shapes(a: Sequence[D], b: Sequence[D]) -> list[list[D]]:
    """Return the shape `[..., N]` of an `Nvfp4Gemm` node's output.

    Args:
        a: the shape `[..., K/2]` of the activation's codes.
        b: the shape `[N, K/2]` of the weight's codes.
    """
    return [[*a[:-1], b[0]]]


def tensor_dtypes(fields: Fields, x: str) -> dict[str, str]:
    """Return the dtype of every input and output: `f16`, `bf16`, `f32` or `i8`.

    Args:
        fields: the node's attributes.
        x: the dtype of an `Nvfp4Quantize` node's first input; of no meaning to a GEMM.
    """
    fixed = dict.fromkeys(("codes", "scales", "a", "a_scales", "b", "b_scales"), "i8")
    fixed |= dict.fromkeys(("alpha", "beta", "scale"), "f32")
    free = getattr(fields, "output_dtype", x)
    return {name: fixed.get(name, free) for name in (*fields.inputs, *fields.outputs)}


def check_quantize(fields: QuantizeFields, inputs: Sequence[Shape]) -> tuple[int, int]:
    """Return (M, K) of an `Nvfp4Quantize` node, whose inputs fit each other.

    Raises:
        PluginNodeError: names the input.
    """
    _check_count(QUANTIZE, fields.inputs, inputs)
    named = dict(zip(fields.inputs, inputs, strict=True))
    x = named["x"]
    if len(x) < 1 or x[-1] < BLOCK or x[-1] % BLOCK:
        raise _misfit(QUANTIZE, "x", x, f"[..., K] with K a multiple of {BLOCK}")
    wanted: dict[str, Shape] = {"other": x, "weight": (x[-1],), "bias": (x[-1],)}
    for name, shape in wanted.items():
        if name in named and named[name] != shape:
            raise _misfit(QUANTIZE, name, named[name], str(list(shape)))
    if "scale" in named and math.prod(named["scale"]) != 1:
        raise _misfit(QUANTIZE, "scale", named["scale"], "one number")
    return rows_of(Integers(), x), x[-1]


def check_gemm(fields: GemmFields, inputs: Sequence[Shape]) -> tuple[int, int, int]:
    """Return (M, N, K) of an `Nvfp4Gemm` node, whose inputs fit each other.

    Raises:
        PluginNodeError: names the input.
    """
    _check_count(GEMM, fields.inputs, inputs)
    named = dict(zip(fields.inputs, inputs, strict=True))
    a, b = named["a"], named["b"]
    if len(b) != 2 or b[0] < GEMM_N or b[0] % GEMM_N:  # noqa: PLR2004 (a matrix)
        raise _misfit(GEMM, "b", b, f"[N, K/2] with N a multiple of {GEMM_N}")
    n, k = b[0], 2 * b[1]
    if k < MIN_GEMM_K or k % MIN_GEMM_K:
        raise _misfit(GEMM, "b", b, f"[N, K/2] with K a multiple of {MIN_GEMM_K}")
    if not a or a[-1] != b[1]:
        raise _misfit(GEMM, "a", a, f"[..., {b[1]}], as b is {list(b)}")
    m = rows_of(Integers(), a)
    _check_sizes(named, m, n, k)
    return m, n, k


def _check_sizes(named: dict[str, Shape], m: int, n: int, k: int) -> None:
    counts = {
        "a_scales": (scale_bytes(Integers(), m, k),),
        "b_scales": (scale_bytes(Integers(), n, k),),
        "alpha": (1, m),
        "beta": (1, n),
        "bias": (n,),
    }
    for name, allowed in counts.items():
        if name in named and math.prod(named[name]) not in allowed:
            raise _misfit(GEMM, name, named[name], " or ".join(f"{count} elements" for count in allowed))


def _check_count(plugin: str, names: Sequence[str], inputs: Sequence[Shape]) -> None:
    if len(names) != len(inputs):
        raise PluginNodeError(
            f"{plugin} has {len(inputs)} inputs, and by its attributes {len(names)}",
            f"they are {', '.join(names)}",
        )


def _misfit(plugin: str, name: str, shape: Shape, wanted: str) -> PluginNodeError:
    return PluginNodeError(f"{plugin}: {name} has the shape {list(shape)}", f"it must be {wanted}")
