"""How each kernel is launched: which entry, how many threads, which memory. Pure functions of shapes.

The C++ plugin has the same rules (`plugins/tensorrt/launch.cpp`), and a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from nvfp4_trt.kernels.pack import GemmTile

Kernel = Literal["quantize", "norm_quantize", "activation_quantize"]
Scaling = Literal["token", "tensor", "static", "single"]

BLOCK = 16
STATE_BYTES = 65536 + 192 * 192 * 8
"""Memory that the kernels keep between launches of a stream, zeroed when it is made: the grid barrier's slots,
the GEMM's counters, and the barrier's mailboxes."""
COUNTERS_OFFSET = 32768
"""Where in it the GEMM's counters begin."""

_WARP = 32
_REDUCTION_BYTES = 256
_MOST_BLOCKS = 192  # of a grid with a barrier
_ROW_THREADS = 128
_SHORT_THREADS, _LONG_THREADS = 512, 256
_KNOWN_THREADS = 256
_SMALL_THREADS = 256


@dataclass(frozen=True)
class Device:
    """What the rules need to know of a GPU.

    Attributes:
        multiprocessors: how many it has.
        shared_bytes: dynamic shared memory that one block may have, at most.
    """

    multiprocessors: int
    shared_bytes: int


@dataclass(frozen=True)
class Launch:
    """One launch of a kernel.

    Attributes:
        entry: name of the entry point in the kernel's cubin.
        grid: blocks (in x).
        block: threads of a block.
        shared_bytes: dynamic shared memory of a block.
        cooperative: whether all blocks must run at once.
        group: `Args.group`, threads that share a row.
        stash: `Args.stash`, blocks of 16 that a thread keeps in shared memory.
    """

    entry: str
    grid: int
    block: int
    shared_bytes: int
    cooperative: bool = False
    group: int = 0
    stash: int = 0


def quantize_launch(kernel: Kernel, scaling: Scaling, dtype: str, rows: int, k: int, device: Device) -> Launch:
    """Return how to quantize a matrix.

    Args:
        kernel: which of the quantizing kernels.
        scaling: where the outer scale comes from.
        dtype: `f16`, `bf16` or `f32`.
        rows: M, at least 1.
        k: K, a multiple of 16.
        device: the GPU.

    Raises:
        ValueError: a row is too long for a scale over the tensor: K / 16 exceeds the threads of the grid.
    """
    if kernel == "norm_quantize":
        return _norm(scaling, dtype, rows, k // BLOCK, device)
    if scaling == "token" or (scaling == "tensor" and rows == 1):
        return _token(dtype, rows, k // BLOCK, device)
    total = rows * (k // BLOCK)
    if scaling == "tensor":
        return _tensor(kernel, dtype, rows, k // BLOCK, device)
    block = 64 if total <= device.multiprocessors * _KNOWN_THREADS else _KNOWN_THREADS
    grid = min(_ceil(total, block), max(device.multiprocessors * 4, _ceil(k // BLOCK, block)))
    return Launch(f"known_{scaling}", grid, block, 0)


def dequantize_launch(rows: int, k: int, device: Device) -> Launch:
    """Return how to dequantize a matrix of `rows` by `k`."""
    blocks = k // BLOCK
    most = max(device.multiprocessors * 8, _ceil(blocks, _KNOWN_THREADS))
    return Launch("dequantize", min(_ceil(rows * blocks, _KNOWN_THREADS), most), _KNOWN_THREADS, 0)


def gemm_launch(tile: GemmTile, m: int, n: int, split_k: int) -> tuple[tuple[int, int, int], int]:
    """Return the grid and the threads of a block of the GEMM `[m, n]`."""
    return (_ceil(m, tile.block_m) * _ceil(n, tile.block_n), split_k, 1), tile.warps * _WARP


def _token(dtype: str, rows: int, blocks: int, device: Device) -> Launch:
    length, group, block = _row_threads(dtype, rows, blocks, device)
    return Launch(f"token_{length}", _ceil(rows, block // group), block, _REDUCTION_BYTES, group=group)


def _norm(scaling: Scaling, dtype: str, rows: int, blocks: int, device: Device) -> Launch:
    length, group, block = _row_threads(dtype, rows, blocks, device)
    grid = _ceil(rows, block // group)
    cooperative = scaling == "tensor"
    if cooperative:
        grid = min(grid, device.multiprocessors, _MOST_BLOCKS)
    return Launch(f"{scaling}_{length}", grid, block, _REDUCTION_BYTES, cooperative and grid > 1, group)


def _tensor(kernel: Kernel, dtype: str, rows: int, blocks: int, device: Device) -> Launch:
    total = rows * blocks
    if total <= min(device.multiprocessors, _MOST_BLOCKS) * _SMALL_THREADS:
        grid = _ceil(total, _SMALL_THREADS)
        return Launch("tensor_small", grid, _SMALL_THREADS, _REDUCTION_BYTES, grid > 1)
    threads, held = (1024, 2) if kernel == "quantize" and dtype != "f32" else (512, 1)
    grid = min(device.multiprocessors, _MOST_BLOCKS)
    if blocks > grid * threads:
        raise ValueError(f"K = {blocks * BLOCK} is too long for a run-time scale over {rows} rows")
    slot = threads * BLOCK * (4 if dtype == "f32" else 2)
    wanted = max(_rounds(rows, blocks, grid * threads) - held, 0)
    stash = min(wanted, (device.shared_bytes - _REDUCTION_BYTES) // slot)
    return Launch("tensor_large", grid, threads, _REDUCTION_BYTES + stash * slot, cooperative=True, stash=stash)


def _row_threads(dtype: str, rows: int, blocks: int, device: Device) -> tuple[str, int, int]:
    """Return the length of an entry's name, and the threads of a row and of a block.

    Few rows are spread over more threads, each with one block of 16; else a thread takes several.
    """
    short = rows < 4 * device.multiprocessors and blocks <= _SHORT_THREADS
    needed = blocks if short else _ceil(blocks, 2 if dtype == "f32" else 4)
    if needed <= _WARP:
        group, block = max(1 << (needed - 1).bit_length(), 4), _ROW_THREADS
    else:
        group = block = min(_ceil(needed, _WARP) * _WARP, _SHORT_THREADS if short else _LONG_THREADS)
    return "short" if short else "long", group, block


def _rounds(rows: int, blocks: int, threads: int) -> int:
    """Return how many blocks of a matrix a thread has at most (`Walk::rounds`)."""
    return _ceil(rows, threads // blocks)


def _ceil(a: int, b: int) -> int:
    return -(-a // b)
