"""Launches of ahead-of-time plugins: grids and numbers as formulas of shapes that are known when an engine runs.

Which entry or tile is used is decided once, for the shapes of the profile's optimum; the grid follows the shapes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from nvfp4_trt.errors import FeatureUnsupportedError
from nvfp4_trt.kernels.arguments import ACTIVATIONS, NORMS
from nvfp4_trt.kernels.launch import quantize_launch
from nvfp4_trt.kernels.tiles import choose_tile
from nvfp4_trt.plugin.aot_kernels import OPTIONAL
from nvfp4_trt.plugin.shapes import BLOCK, Arithmetic, Integers, rows_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nvfp4_trt.kernels.launch import Device, Kernel, Scaling
    from nvfp4_trt.plugin.fields import QuantizeFields
    from nvfp4_trt.plugin.shapes import Shape

D = TypeVar("D")


class Bounded(Arithmetic[D], Protocol[D]):
    """An arithmetic that also has minima."""

    def least(self, a: D, b: int) -> D:
        """Return min(a, b)."""
        ...


class BoundedIntegers(Integers):
    """Dimensions that are numbers."""

    def least(self, a: int, b: int) -> int:
        """Return min(a, b)."""
        return min(a, b)


@dataclass(frozen=True)
class AotLaunch(Generic[D]):
    """One launch."""

    entry: str
    grid: D
    block: int
    shared_bytes: int
    numbers: tuple[D | int, ...]
    """The kernel's int32 parameters, between inputs and outputs."""


def check_scaling(fields: QuantizeFields, node: str) -> None:
    """Refuse what an ahead-of-time plugin cannot launch.

    Raises:
        FeatureUnsupportedError: a run-time scale per tensor.
    """
    if fields.scaling == "tensor":
        raise FeatureUnsupportedError(
            f"{node} computes one scale for a whole tensor, for which all blocks must run at once; "
            "an ahead-of-time plugin cannot ask for that",
            "use --plugin-form jit, or a recipe whose scales are static or per token",
        )


def launch_quantize(
    arithmetic: Bounded[D],
    fields: QuantizeFields,
    x: Sequence[D],
    best: Shape,
    most: Shape,
    dtype: str,
    device: Device,
) -> AotLaunch[D]:
    """Return the launch of an `Nvfp4Quantize` node whose scaling is not per tensor.

    Args:
        arithmetic: of the dimensions.
        fields: the node's attributes.
        x: the shape `[..., K]` of its first input.
        best: that shape at the profile's optimum.
        most: that shape at the profile's largest.
        dtype: of its first input.
        device: the GPU.
    """
    kernel, k = cast("Kernel", fields.kernel), best[-1]
    chosen, largest = (
        quantize_launch(kernel, cast("Scaling", fields.scaling), dtype, rows_of(Integers(), each), k, device)
        for each in (best, most)
    )
    m = rows_of(arithmetic, x)
    if chosen.group:  # a block takes whole rows
        each, units, most_units = chosen.block // chosen.group, m, rows_of(Integers(), most)
    else:  # a thread takes blocks of 16
        each, most_units = chosen.block, rows_of(Integers(), most) * (k // BLOCK)
        units = arithmetic.product(m, arithmetic.constant(k // BLOCK))
    grid = arithmetic.divided_up(units, each)
    same = (chosen.entry, chosen.block) == (largest.entry, largest.block)
    if same and largest.grid < -(-most_units // each):  # its threads go round, and so many blocks are enough
        grid = arithmetic.least(grid, largest.grid)
    numbers = (m, k, _bits(fields.epsilon), (NORMS | ACTIVATIONS).get(fields.function, 0), chosen.group)
    return AotLaunch(chosen.entry, grid, chosen.block, chosen.shared_bytes, (*numbers, present_bits(fields)))


def present_bits(fields: QuantizeFields) -> int:
    """Return which of the optional tensors a node has, as the kernels' parameter `present`."""
    names = {"scale_in" if name == "scale" else name for name in (*fields.inputs, *fields.outputs)}
    return sum(1 << i for i, name in enumerate(OPTIONAL) if name in names)


def aot_tile(rows: Sequence[Mapping[str, Any]], m: int, n: int, k: int) -> str:
    """Return the tile of a GEMM at the optimum's M; K is not split, since there is no workspace."""
    return choose_tile(rows, m, n, k)[0]


def gemm_grid(arithmetic: Arithmetic[D], m: D, n: int, block_m: int, block_n: int) -> D:
    """Return the blocks of a GEMM `[m, n]`: one for each tile of its output."""
    across = arithmetic.constant(-(-n // block_n))
    return arithmetic.product(arithmetic.divided_up(m, block_m), across)


def _bits(value: float) -> int:
    """Return the bit pattern of an fp32 as an int32."""
    return int(struct.unpack("<i", struct.pack("<f", value))[0])
