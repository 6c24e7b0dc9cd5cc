"""From a node's attributes, shapes and dtypes to the launch that computes it: which cubin, entry, grid, numbers.

Addresses come last, with each enqueue; everything else is decided when shapes change. Nothing here touches a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from nvfp4_trt.errors import KernelMissingError, PluginNodeError
from nvfp4_trt.kernels.arguments import ACTIVATIONS, NORMS, TILED, Args
from nvfp4_trt.kernels.launch import COUNTERS_OFFSET, gemm_launch, quantize_launch
from nvfp4_trt.kernels.tiles import COUNTERS, choose_tile, gemm_workspace
from nvfp4_trt.plugin.fields import QUANTIZE, GemmFields, QuantizeFields
from nvfp4_trt.plugin.shapes import Integers, check_gemm, check_quantize, rows_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nvfp4_trt.kernels import KernelFile, Pack
    from nvfp4_trt.kernels.launch import Device, Kernel, Launch, Scaling
    from nvfp4_trt.kernels.pack import GemmTile
    from nvfp4_trt.plugin.fields import Fields
    from nvfp4_trt.plugin.shapes import Shape

_ALIGNMENT = 16
_FUNCTIONS = NORMS | ACTIVATIONS | {"none": 0}
_FIELD_OF = {"scale": "scale_in", "alpha": "scale_out"}
"""A tensor's name in a node → the field of `Args` that has its address, where the two differ."""
_UNALIGNED = {"scale", "alpha", "beta"}
"""Tensors that kernels read or write number by number."""


@dataclass(frozen=True)
class QuantizePlan:
    """How one `Nvfp4Quantize` node runs at one shape."""

    file: KernelFile
    launch: Launch
    names: tuple[str, ...]
    """Inputs, then outputs."""
    rows: int
    k: int
    epsilon: float
    function: int

    def arguments(self, addresses: Sequence[int], state: int) -> Args:
        """Return the kernel's one argument.

        Args:
            addresses: device addresses of inputs, then outputs.
            state: device address of the state memory.

        Raises:
            PluginNodeError: an address is not a multiple of 16 where the kernel reads 16 bytes at once.
        """
        named = _named(self.names, addresses)
        found = {_FIELD_OF.get(name, name): address for name, address in named.items()}
        return Args(
            **found,
            state=state,
            m=self.rows,
            k=self.k,
            x_stride=self.k,
            other_stride=self.k,
            epsilon=self.epsilon,
            layout=TILED,
            function=self.function,
            group=self.launch.group,
            stash=self.launch.stash,
        )


@dataclass(frozen=True)
class GemmPlan:
    """How one `Nvfp4Gemm` node runs at one shape."""

    file: KernelFile
    grid: tuple[int, int, int]
    block: int
    shared_bytes: int
    names: tuple[str, ...]
    """Inputs, then the output."""
    numbers: tuple[int, ...]
    """The kernel's int32 parameters: M, N, K, alpha_stride, beta_stride, has_bias, split_k."""
    scratch_offset: int | None
    """Where in the workspace the programs' scratch memory begins; None where they need none."""

    def arguments(self, addresses: Sequence[int], state: int, workspace: int) -> tuple[int, ...]:
        """Return the kernel's addresses, in the order of its parameters; `numbers` follow them.

        Args:
            addresses: device addresses of inputs, then the output.
            state: device address of the state memory.
            workspace: device address of the partial sums, and of the scratch memory behind them.

        Raises:
            PluginNodeError: an address is not a multiple of 16 where the kernel reads 16 bytes at once.
        """
        named = _named(self.names, addresses)
        order = ("a", "b", "a_scales", "b_scales", "alpha", "beta", "bias", "out")
        return (*(named.get(name, 0) for name in order), workspace, state + COUNTERS_OFFSET)

    def scratch(self, workspace: int) -> tuple[int, int]:
        """Return the last two of the kernel's addresses, which its compiler added (`triton_compiler.SCRATCH`)."""
        return (0 if self.scratch_offset is None else workspace + self.scratch_offset), 0


def plan_quantize(
    pack: Pack, fields: QuantizeFields, inputs: Sequence[Shape], dtype: str, sm: int, device: Device
) -> QuantizePlan:
    """Plan an `Nvfp4Quantize` node.

    Args:
        pack: the kernel pack.
        fields: the node's attributes.
        inputs: shapes of its inputs.
        dtype: of its first input: `f16`, `bf16` or `f32`.
        sm: the GPU's architecture, for example 120.
        device: the GPU's size.

    Raises:
        PluginNodeError: shapes do not fit.
        KernelMissingError: the pack has no such kernel.
    """
    m, k = check_quantize(fields, inputs)
    kernel = cast("Kernel", fields.kernel)
    try:
        launch = quantize_launch(kernel, cast("Scaling", fields.scaling), dtype, m, k, device)
    except ValueError as error:
        raise PluginNodeError(
            f"{QUANTIZE}: {error}", "use a recipe with a scale per token for this layer"
        ) from error
    return QuantizePlan(
        file=pack.file(kernel, dtype, sm),
        launch=launch,
        names=(*fields.inputs, *fields.outputs),
        rows=m,
        k=k,
        epsilon=fields.epsilon,
        function=_FUNCTIONS[fields.function],
    )


def plan_gemm(pack: Pack, fields: GemmFields, inputs: Sequence[Shape], sm: int) -> GemmPlan:
    """Plan an `Nvfp4Gemm` node; arguments and errors as of `plan_quantize`."""
    m, n, k = check_gemm(fields, inputs)
    tile_name, split_k = choose_tile(_tile_rows(pack, sm), m, n, k)
    file = pack.file("gemm", fields.output_dtype, sm, tile_name)
    tile = _tile(file)
    grid, block = gemm_launch(tile, m, n, split_k)
    named = dict(zip(fields.inputs, inputs, strict=True))
    strides = (int(_count(named["alpha"]) > 1), int(_count(named["beta"]) > 1))
    return GemmPlan(
        file=file,
        grid=grid,
        block=block,
        shared_bytes=tile.shared_bytes,
        names=(*fields.inputs, *fields.outputs),
        numbers=(m, n, k, *strides, fields.has_bias, split_k),
        scratch_offset=gemm_workspace(tile, m, n, split_k).scratch if tile.scratch_bytes else None,
    )


def workspace_bytes(pack: Pack, fields: Fields, inputs: Sequence[Shape], sm: int) -> int:
    """Return the workspace that a GEMM needs at any M up to that of `inputs`, in bytes; 0 for a quantizer.

    That is partial sums, and its programs' scratch memory.
    A smaller M may need more than the largest: another row of the tile table may split K further, and a grid of
    too many tiles does not split at all. Between such borders the need grows with M, so that they are all there
    is to look at.
    """
    if not isinstance(fields, GemmFields):
        return 0
    m, n, k = rows_of(Integers(), inputs[0]), inputs[3][0], 2 * inputs[3][1]
    rows = _tile_rows(pack, sm)
    borders = {m, *(row["max_m"] or m for row in rows), *(_most_counted(row["tile"], n) for row in rows)}
    needed = [0]
    for border in borders:
        tile_name, split_k = choose_tile(rows, min(border, m), n, k)
        file = pack.file("gemm", fields.output_dtype, sm, tile_name)
        needed.append(gemm_workspace(_tile(file), min(border, m), n, split_k).bytes)
    return max(needed)


def _tile(file: KernelFile) -> GemmTile:
    if file.tile is None:
        raise PluginNodeError(f"{file.file} is a GEMM without a tile", "make the pack again")
    return file.tile


def _tile_rows(pack: Pack, sm: int) -> list[dict[str, Any]]:
    table = pack.manifest.gemm_tiles.get(f"sm_{sm}")
    if table is None:
        raise KernelMissingError(
            f"the kernel pack {pack.root} has no GEMM tiles for sm_{sm}", "make the pack again"
        )
    rows: list[dict[str, Any]] = table["rows"]
    return rows


def _most_counted(tile: str, n: int) -> int:
    """Return the largest M whose output tiles each have a counter."""
    block_m, block_n, _ = map(int, tile.split("x"))
    return max(COUNTERS // -(-n // block_n), 1) * block_m


def _count(shape: Shape) -> int:
    count = 1
    for dim in shape:
        count *= dim
    return count


def _named(names: Sequence[str], addresses: Sequence[int]) -> Mapping[str, int]:
    named = dict(zip(names, addresses, strict=True))
    for name, address in named.items():
        if name not in _UNALIGNED and address % _ALIGNMENT:
            raise PluginNodeError(
                f"the plugin's tensor {name} lies at {address:#x}",
                f"its address must be a multiple of {_ALIGNMENT}",
            )
    return named
