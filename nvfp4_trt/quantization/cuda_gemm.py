"""The FP4 GEMM of a kernel pack, launched from torch."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nvfp4_trt.errors import KernelMissingError
from nvfp4_trt.kernels.launch import COUNTERS_OFFSET, gemm_launch
from nvfp4_trt.kernels.tiles import choose_tile
from nvfp4_trt.quantization.cuda import DTYPES, found_gpu

if TYPE_CHECKING:
    from nvfp4_trt.kernels import KernelFile


def gemm(
    a: tuple[Tensor, Tensor, Tensor],
    b: tuple[Tensor, Tensor, Tensor],
    bias: Tensor | None,
    dtype: torch.dtype,
    *,
    choice: tuple[str, int] | None = None,
) -> Tensor:
    """Multiply on FP4 tensor cores (an architecture without them emulates it): arguments as `nvfp4_trt.ops.gemm`.

    Args:
        a: codes uint8 `[M, K/2]`, tiled block scales, scale fp32 `[]` or `[M, 1]`.
        b: codes uint8 `[N, K/2]`, tiled block scales, scale fp32 `[]` or `[N, 1]`.
        bias: `[N]` of `dtype`, or None.
        dtype: of the result.
        choice: a tile's name and the shares of K, in place of what the pack's table says.

    Raises:
        KernelMissingError: the pack has no GEMM for this GPU.
        ValueError: the operands are on different devices, or their scales or bias have another size.
    """
    (m, half), n = a[0].shape, b[0].shape[0]
    everything = [*a, *b, *([] if bias is None else [bias])]
    sizes = a[2].numel() in {1, m} and b[2].numel() in {1, n} and (bias is None or bias.shape == (n,))
    if b[0].shape[1] != half or not sizes or any(each.device != a[0].device for each in everything):
        raise ValueError(f"these do not multiply: {[(list(each.shape), str(each.device)) for each in everything]}")
    gpu = found_gpu(a[0].device.index)
    tile_name, split_k = choice or _chosen(gpu.pack.manifest.gemm_tiles, gpu.sm, (m, n, half * 2))
    file = gpu.pack.file("gemm", DTYPES[dtype], gpu.sm, tile_name)
    if file.tile is None:
        raise KernelMissingError(f"{file.file} names no tile", "make the pack again: nvfp4-trt build plugin")
    grid, block = gemm_launch(file.tile, m, n, split_k)
    out = torch.empty((m, n), dtype=dtype, device=a[0].device)
    partials = torch.empty(split_k * m * n if split_k > 1 else 0, dtype=torch.float32, device=out.device)
    stream = gpu.stream()
    scratch = _scratch(file, grid, out.device)
    pointers = (a[0], b[0], a[1], b[1], a[2], b[2], bias, out, partials)
    numbers = (m, n, half * 2, int(a[2].numel() > 1), int(b[2].numel() > 1), int(bias is not None), split_k)
    parameters = [
        *(ctypes.c_void_p(0 if each is None else each.data_ptr()) for each in pointers),
        ctypes.c_void_p(gpu.state(stream) + COUNTERS_OFFSET),
        *(ctypes.c_int32(number) for number in numbers),
        ctypes.c_void_p(scratch.data_ptr()),
        ctypes.c_void_p(0),
    ]
    with torch.cuda.device(out.device):
        kernel = gpu.kernel(file, file.entries[0].name)
        kernel.launch(grid, block, file.tile.shared_bytes, stream, parameters)
    return out


def _chosen(tables: dict[str, dict[str, object]], sm: int, shape: tuple[int, int, int]) -> tuple[str, int]:
    table = tables.get(f"sm_{sm}")
    if table is None:
        raise KernelMissingError(
            f"the kernel pack has no GEMM for sm_{sm}", f"nvfp4-trt build plugin -o PACK/ --sm {sm}"
        )
    return choose_tile(table["rows"], *shape)  # type: ignore[arg-type]


def _scratch(file: KernelFile, grid: tuple[int, int, int], device: torch.device) -> Tensor:
    each = file.tile.scratch_bytes if file.tile else 0
    return torch.empty(each * grid[0] * grid[1], dtype=torch.uint8, device=device)
