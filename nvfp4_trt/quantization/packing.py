"""Packing a whole weight: in chunks of rows, on every core, read from its file where it lies in one."""

from __future__ import annotations

import math
import mmap
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nvfp4_trt import format as fmt
from nvfp4_trt.errors import NonfiniteWeightError
from nvfp4_trt.format import cpu
from nvfp4_trt.loading.stored import read_into, region_of, release
from nvfp4_trt.quantization.methods.max import MAX
from nvfp4_trt.quantization.modules import PackedWeight

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nvfp4_trt.loading.stored import Region
    from nvfp4_trt.quantization.methods import ScaleChoice

_CHUNK = 1 << 20
"""Elements in a chunk: the temporaries of its quantization are 12 bytes for each of a quarter of them."""


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def every_core() -> Iterator[ThreadPoolExecutor]:
    """Yield a pool with a thread for each core, in which torch uses that one thread.

    torch's own threads meet at a barrier after each of the many short steps of packing, where on a machine that
    others use they wait for each other most of the time; chunks need no barrier.
    """
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(cores(), "packing", initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            yield pool
        finally:
            torch.set_num_threads(threads)  # a thread's own number is also that of threads to come


def pack(
    weight: Tensor, rule: fmt.ScaleRule, name: str, pool: ThreadPoolExecutor, choice: ScaleChoice = MAX
) -> PackedWeight:
    """Quantize a weight `[N, K]`; with the scales of `MAX` bit for bit as `format.pack_weight` does.

    Args:
        weight: fp16, bf16 or fp32, K a multiple of 16; mapped from a file, in memory, or on another device.
        rule: how block scales are rounded.
        name: the weight's name, for errors.
        pool: as from `every_core`.
        choice: how scales are chosen.

    Raises:
        NonfiniteWeightError: it holds NaN or infinity.
        FileTruncatedError: its file ends before it does.
    """
    weight = weight.detach()
    if not cpu.eager_on_cpu(weight):
        check_finite(weight, name)
        blocks = weight.contiguous().view(-1, fmt.BLOCK)
        scale, inverse = choice.per_tensor(blocks, blocks.abs().amax(dim=-1).float(), rule)
        codes = fmt.quantize(weight, scale, rule, inverse_scale=inverse, choose=choice.block_scales)
        return PackedWeight(*codes, scale)
    n, k = weight.shape
    packed = _empty(n, k // 2, torch.uint8)
    block_scale = _empty(n, k // fmt.BLOCK, torch.float8_e4m3fn)

    def take(rows: slice, codes: Tensor, scales: Tensor) -> None:
        packed[rows], block_scale[rows] = codes, scales

    scale = pack_into(take, weight, rule, name, pool, choice)
    return PackedWeight(packed, block_scale, scale)


def pack_into(
    take: Callable[[slice, Tensor, Tensor], None],
    weight: Tensor,
    rule: fmt.ScaleRule,
    name: str,
    pool: ThreadPoolExecutor,
    choice: ScaleChoice = MAX,
) -> Tensor:
    """Quantize a weight on the CPU as `pack` does, and hand over its rows as they are done.

    Args:
        take: called in the pool's threads, in any order, with rows, their packed codes uint8 `[rows, K/2]` and
            their block scales float8_e4m3fn `[rows, K/16]`.
        weight: as for `pack`.
        rule: as for `pack`.
        name: as for `pack`.
        pool: as for `pack`.
        choice: as for `pack`.

    Returns:
        The per-tensor scale, fp32 `[]`.

    Raises:
        NonfiniteWeightError, FileTruncatedError: as `pack`.
    """
    region = region_of(weight)
    values = weight.contiguous() if region is None else _empty(weight.shape[0], weight.shape[1], weight.dtype)
    if region is None:
        release(weight)  # a transposed one, of which there is a copy now
    amax = _empty(values.shape[0], values.shape[1] // fmt.BLOCK, torch.float32)
    chunks = _chunks(*values.shape)

    def look(rows: slice) -> None:
        if region is not None:
            read_into(values[rows].view(-1), _rows_of(region, values, rows))
        amax[rows] = cpu.block_amax(values[rows])

    _each(pool, look, chunks)
    if not float(amax.amax()) < math.inf:  # True for NaN as well
        check_finite(values, name)
    # In the pool, whose threads meet at no barrier: a search is hundreds of short steps.
    scale, inverse = pool.submit(choice.per_tensor, values.view(-1, fmt.BLOCK), amax.view(-1), rule).result()

    def quantize(rows: slice) -> None:
        take(rows, *cpu.quantize_finite(values[rows], amax[rows], scale, inverse, rule, choice.block_scales))

    _each(pool, quantize, chunks)
    return scale


def _empty(n: int, k: int, dtype: torch.dtype) -> Tensor:
    """Return an uninitialized tensor `[n, k]` in pages of its own, which go back to the system with it.

    The C library keeps buffers of some megabytes when they are freed, and cannot always use them again: with the
    weights of a deep model that came to hundreds of megabytes.
    """
    pages = mmap.mmap(-1, max(1, n * k * dtype.itemsize))
    return torch.frombuffer(pages, dtype=dtype, count=n * k).view(n, k)


def check_finite(values: Tensor, name: str) -> None:
    """Refuse a weight `[N, K]` that holds NaN or infinity.

    Raises:
        NonfiniteWeightError: names it, and how many.
    """
    bad = sum(int((~torch.isfinite(values[rows])).sum()) for rows in _chunks(*values.shape))
    if bad:
        layer = name.removesuffix(".weight")
        raise NonfiniteWeightError(
            f"the weight {name} holds {bad} values that are NaN or infinite",
            f"mend the checkpoint, or keep the layer as it is with --exclude {layer!r}",
        )


def _chunks(n: int, k: int) -> list[slice]:
    rows = max(1, min(_CHUNK // k, -(-n // cores())))
    return [slice(start, min(start + rows, n)) for start in range(0, n, rows)]


def _rows_of(region: Region, values: Tensor, rows: slice) -> Region:
    width = values.shape[1] * values.element_size()
    return region._replace(offset=region.offset + rows.start * width)


def _each(pool: ThreadPoolExecutor, do: Callable[[slice], None], chunks: list[slice]) -> None:
    for _ in pool.map(do, chunks):
        pass
