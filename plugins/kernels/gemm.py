"""The NVFP4 GEMM: both operands packed e2m1 with swizzled e4m3 block scales, one Triton source for every GPU.

    D[m, n] = (sum_k A[m, k] B[n, k]) * alpha[m] * beta[n] + bias[n]

A program computes one tile of D over one share of K. With `split_k` shares, each program leaves its sums
in `partials`, and the last to arrive at a tile (a counter says which) adds them in the order of the shares:
the result does not depend on the order in which programs ran. The counter goes back to zero.

Compiled ahead of time, on a machine without a GPU: on sm_100 and sm_103 `tl.dot_scaled` becomes tcgen05's
`mxf4nvf4.block16`, on sm_120 and sm_121 `mma.sync … mxf4nvf4`; on sm_90, which has no FP4, it is emulated
in bf16, which is exact here (e2m1 times e4m3 has six significant bits).

There are two loops over K. In one, every warp copies operands by their addresses and multiplies. The other, for
tiles of 128 rows on sm_100 and sm_103, describes its operands to TMA: one warp then loads and one issues
MMAs. Its descriptors are written by the program itself, into memory that Triton asks the launcher for.

Contract: all pointers but `alpha`, `beta` and `counters` are 16-byte aligned; K % 32 == 0; N % 8 == 0.
The scales are `[rows, K / 16]` in 128x4 tiles, padded with zero bytes to whole tiles.
"""

# Kernels have arguments of Triton's types, and its names for sizes: capitals.
# ruff: noqa: ANN001, ANN201, ANN202, INP001, N803, N806, PLR0917, PLR2004

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import triton
import triton.language as tl

if TYPE_CHECKING:
    from collections.abc import Mapping


class Tile(NamedTuple):
    """One compiled variant: its block of D, its step along K, and how a program is run."""

    block_m: int
    block_n: int
    block_k: int
    warps: int
    stages: int
    described: bool = False
    """Whether TMA loads the operands, by descriptors."""

    @property
    def name(self) -> str:
        """The part of the cubin's name between the dtype and the SM."""
        return f"{self.block_m}x{self.block_n}x{self.block_k}"


TILES: Mapping[str, Tile] = {
    tile.name: tile
    for tile in (
        Tile(16, 128, 256, 4, 4),
        Tile(32, 128, 256, 4, 4),
        Tile(64, 128, 256, 4, 3),
        Tile(128, 128, 128, 8, 4),
        Tile(128, 128, 256, 8, 3),
    )
}
DESCRIBED: Mapping[str, Tile] = {
    tile.name: tile
    for tile in (Tile(128, 128, 128, 8, 4, described=True), Tile(128, 128, 256, 8, 4, described=True))
}
"""What stands in for some of `TILES` where one warp can issue a whole tile's MMAs."""
DESCRIBED_SMS = (100, 103)

POINTERS = ("a", "b", "a_scales", "b_scales", "alpha", "beta", "bias", "out", "partials", "counters")
INTEGERS = ("M", "N", "K", "alpha_stride", "beta_stride", "has_bias", "split_k")
ALIGNED = ("a", "b", "a_scales", "b_scales", "bias", "out", "partials")
OUT_TYPES: Mapping[str, str] = {"f16": "*fp16", "bf16": "*bf16", "f32": "*fp32"}
SIGNATURE: Mapping[str, str] = {
    **dict.fromkeys(POINTERS[:4], "*u8"),
    **dict.fromkeys(POINTERS[4:6], "*fp32"),
    **dict.fromkeys(POINTERS[6:8], "OUT"),
    "partials": "*fp32",
    "counters": "*i32",
    **dict.fromkeys(INTEGERS, "i32"),
}


def variant(name: str, sm: int) -> Tile:
    """Return how a tile is compiled for an architecture."""
    return DESCRIBED.get(name, TILES[name]) if sm in DESCRIBED_SMS else TILES[name]


def signature(dtype: str) -> dict[str, str]:
    """Return Triton's signature of `gemm_kernel` for the output dtype `f16`, `bf16` or `f32`."""
    kinds = {name: OUT_TYPES[dtype] if kind == "OUT" else kind for name, kind in SIGNATURE.items()}
    return kinds | dict.fromkeys(("BLOCK_M", "BLOCK_N", "BLOCK_K", "DESCRIBED"), "constexpr")


def constants(tile: Tile) -> dict[str, int]:
    """Return the compile-time arguments of `gemm_kernel` for a tile."""
    sizes = {"BLOCK_M": tile.block_m, "BLOCK_N": tile.block_n, "BLOCK_K": tile.block_k}
    return {**sizes, "DESCRIBED": tile.described}


def attributes() -> dict[tuple[int], list[list[object]]]:
    """Return Triton's attributes: the pointers that the contract aligns to 16 bytes."""
    return {(POINTERS.index(name),): [["tt.divisibility", 16]] for name in ALIGNED}


@triton.jit
def _load_codes(base, first_row, rows, half_k, first_byte, ROWS: tl.constexpr, BYTES: tl.constexpr):
    """Load `[ROWS, BYTES]` codes. Rows past the last repeat it: what they give is never stored."""
    row = tl.minimum(first_row + tl.arange(0, ROWS), rows - 1).to(tl.int64)
    byte = first_byte + tl.arange(0, BYTES)
    return tl.load(base + row[:, None] * half_k + byte[None, :], mask=byte[None, :] < half_k, other=0)


@triton.jit
def _load_scales(base, first_row, rows, across, first_tile, ROWS: tl.constexpr, TILES_K: tl.constexpr):
    """Load `[ROWS, 4 * TILES_K]` block scales from tiles of 32 rows x 4 groups of rows x 4 scales."""
    if ROWS >= 128:
        # In the order of memory and as two dimensions: sm_100 then copies it to tensor memory as it is.
        down = tl.minimum(first_row // 128 + tl.arange(0, ROWS // 128), (rows - 1) // 128).to(tl.int64)
        byte = first_tile * 512 + tl.arange(0, TILES_K * 512)
        place = (base + down[:, None] * across * 512 + byte[None, :]).to(tl.pointer_type(tl.float8e4nv))
        packed = tl.load(place, mask=(byte < across * 512)[None, :], other=0.0)
        packed = packed.reshape(ROWS // 128, TILES_K, 32, 4, 4)
        scales = packed.trans(0, 3, 2, 1, 4).reshape(ROWS, TILES_K * 4)
    else:
        # The tiles' padding reaches beyond the last row, so that these rows need no bound.
        row = first_row + tl.arange(0, ROWS)
        start = (row // 128).to(tl.int64) * across * 512 + row % 32 * 16 + row % 128 // 32 * 4
        block = tl.arange(0, TILES_K * 4)
        column = first_tile + block // 4
        place = (base + start[:, None] + (column * 512 + block % 4)[None, :]).to(tl.pointer_type(tl.float8e4nv))
        scales = tl.load(place, mask=(column < across)[None, :], other=0.0)
    return scales


@triton.jit
def _multiply(a, b, a_scales, b_scales, M, N, K, row, column, begin, end,
              BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):  # fmt: skip
    """Return the sums `[BLOCK_M, BLOCK_N]`, fp32, over the steps `begin` to `end` of K."""
    half_k = K // 32 * 16  # written so that the compiler sees a multiple of 16
    across = (K + 63) // 64
    # tcgen05's block-scaled form has 128 rows: a tile with fewer is computed as its transpose.
    SWAP: tl.constexpr = BLOCK_M < 128
    sums = tl.zeros((BLOCK_N, BLOCK_M) if SWAP else (BLOCK_M, BLOCK_N), tl.float32)
    for step in range(begin, end):
        x = _load_codes(a, row, M, half_k, step * (BLOCK_K // 2), BLOCK_M, BLOCK_K // 2)
        w = _load_codes(b, column, N, half_k, step * (BLOCK_K // 2), BLOCK_N, BLOCK_K // 2)
        x_scales = _load_scales(a_scales, row, M, across, step * (BLOCK_K // 64), BLOCK_M, BLOCK_K // 64)
        w_scales = _load_scales(b_scales, column, N, across, step * (BLOCK_K // 64), BLOCK_N, BLOCK_K // 64)
        if SWAP:
            sums = tl.dot_scaled(w, w_scales, "e2m1", x.T, x_scales, "e2m1", sums)
        else:
            sums = tl.dot_scaled(x, x_scales, "e2m1", w.T, w_scales, "e2m1", sums)
    return sums.T if SWAP else sums


@triton.jit
def _describe_scales(base, rows, across, ROWS: tl.constexpr, TILES_K: tl.constexpr):
    """Describe scales in tiles of 512 bytes, each as two rows: what TMA loads has at most 256 elements a side."""
    down = (rows + 127) // 128
    stride = across.to(tl.int64) * 512
    return tl.make_tensor_descriptor(
        base.to(tl.pointer_type(tl.float8e4nv)),
        [1, down, across, 2, 256],
        [down * stride, stride, 512, 256, 1],
        [1, ROWS // 128, TILES_K, 2, 256],
    )


@triton.jit
def _fetch_scales(described, row, first_tile, ROWS: tl.constexpr, TILES_K: tl.constexpr):
    """Load `[ROWS, 4 * TILES_K]` block scales, zero where there are none."""
    packed = described.load([0, row // 128, first_tile, 0, 0])
    packed = packed.reshape(ROWS // 128, TILES_K, 32, 4, 4)
    return packed.trans(0, 3, 2, 1, 4).reshape(ROWS, TILES_K * 4)


@triton.jit
def _multiply_described(a, b, a_scales, b_scales, M, N, K, row, column, begin, end,
                        BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):  # fmt: skip
    """Return what `_multiply` does; TMA fills with zeros what lies outside A and B."""
    half_k = K // 32 * 16  # written so that the compiler sees a multiple of 16
    across = (K + 63) // 64
    x_codes = tl.make_tensor_descriptor(a, [M, half_k], [half_k, 1], [BLOCK_M, BLOCK_K // 2])
    w_codes = tl.make_tensor_descriptor(b, [N, half_k], [half_k, 1], [BLOCK_N, BLOCK_K // 2])
    x_tiles = _describe_scales(a_scales, M, across, BLOCK_M, BLOCK_K // 64)
    w_tiles = _describe_scales(b_scales, N, across, BLOCK_N, BLOCK_K // 64)
    sums = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for step in tl.range(begin, end, warp_specialize=True):
        x = x_codes.load([row, step * (BLOCK_K // 2)])
        w = w_codes.load([column, step * (BLOCK_K // 2)])
        x_scales = _fetch_scales(x_tiles, row, step * (BLOCK_K // 64), BLOCK_M, BLOCK_K // 64)
        w_scales = _fetch_scales(w_tiles, column, step * (BLOCK_K // 64), BLOCK_N, BLOCK_K // 64)
        sums = tl.dot_scaled(x, x_scales, "e2m1", w.T, w_scales, "e2m1", sums)
    return sums


@triton.jit
def _write(sums, alpha, beta, bias, out, M, N, alpha_stride, beta_stride, has_bias, rows, columns):
    """Scale the sums, add the bias, and store what lies inside D."""
    aligned_n = N // 8 * 8  # written so that the compiler sees a multiple of 8
    inside = columns < aligned_n
    by_row = tl.load(alpha + rows * alpha_stride, mask=rows < M, other=0.0)
    by_column = tl.load(beta + columns * beta_stride, mask=inside, other=0.0)
    added = tl.load(bias + columns, mask=columns < aligned_n * has_bias, other=0.0).to(tl.float32)
    result = sums * by_row[:, None] * by_column[None, :] + added[None, :]
    place = out + rows.to(tl.int64)[:, None] * aligned_n + columns[None, :]
    tl.store(place, result.to(out.dtype.element_ty), mask=(rows < M)[:, None] & inside[None, :])


@triton.jit
def _add_shares(partials, split_k, M, N, rows, columns):
    """Add the shares' sums of some rows and columns, in the order of the shares."""
    aligned_n = N // 8 * 8
    inside = (rows < M)[:, None] & (columns < aligned_n)[None, :]
    place = partials + (rows.to(tl.int64)[:, None] * aligned_n + columns[None, :])
    total = tl.zeros((rows.shape[0], columns.shape[0]), tl.float32)
    for _ in range(split_k):
        # .cg: past the first-level cache, which is not coherent between programs.
        total += tl.load(place, mask=inside, other=0.0, cache_modifier=".cg")
        place += M.to(tl.int64) * aligned_n
    return total


@triton.jit
def gemm_kernel(a, b, a_scales, b_scales, alpha, beta, bias, out, partials, counters,
                M, N, K, alpha_stride, beta_stride, has_bias, split_k,
                BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
                DESCRIBED: tl.constexpr):  # fmt: skip
    """Compute one tile of D, or one share of it along K; the module says what of.

    Args:
        a: codes `[M, K / 2]`, low nibble first.
        b: codes `[N, K / 2]`.
        a_scales: e4m3 bytes of A, in tiles.
        b_scales: e4m3 bytes of B, in tiles.
        alpha: fp32; `[1]` with `alpha_stride` 0, or `[M]` with 1.
        beta: fp32; `[1]` with `beta_stride` 0, or `[N]` with 1.
        bias: `[N]` of the output's dtype; read only where `has_bias` is 1.
        out: `[M, N]`.
        partials: fp32 `[split_k, M, N]`; touched only where `split_k` > 1.
        counters: int32, one for each tile of D, zero; touched only where `split_k` > 1.
        M: rows of A.
        N: rows of B.
        K: elements of a row.
        alpha_stride: see `alpha`.
        beta_stride: see `beta`.
        has_bias: 0 or 1, see `bias`.
        split_k: the number of shares, the grid's second dimension.
        BLOCK_M: rows of the tile.
        BLOCK_N: columns of the tile.
        BLOCK_K: elements of K taken at a step.
        DESCRIBED: which of the two loops, see `Tile`.
    """
    down = tl.cdiv(M, BLOCK_M)
    across = tl.cdiv(N, BLOCK_N)
    tile = tl.program_id(0)
    share = tl.program_id(1)
    # Eight rows of tiles at a time, so that programs that run together read the same rows of B from L2.
    band = tile // (8 * across)
    height = tl.minimum(down - band * 8, 8)
    row = (band * 8 + tile % (8 * across) % height) * BLOCK_M
    column = tile % (8 * across) // height * BLOCK_N
    steps = tl.cdiv(K, BLOCK_K)
    begin = share * steps // split_k
    end = (share + 1) * steps // split_k
    if DESCRIBED:
        sums = _multiply_described(
            a, b, a_scales, b_scales, M, N, K, row, column, begin, end, BLOCK_M, BLOCK_N, BLOCK_K
        )
    else:
        sums = _multiply(a, b, a_scales, b_scales, M, N, K, row, column, begin, end, BLOCK_M, BLOCK_N, BLOCK_K)
    rows = row + tl.arange(0, BLOCK_M)
    columns = column + tl.arange(0, BLOCK_N)
    if split_k == 1:
        _write(sums, alpha, beta, bias, out, M, N, alpha_stride, beta_stride, has_bias, rows, columns)
    else:
        aligned_n = N // 8 * 8
        inside = (rows < M)[:, None] & (columns < aligned_n)[None, :]
        place = rows.to(tl.int64)[:, None] * aligned_n + columns[None, :]
        size = M.to(tl.int64) * aligned_n
        tl.store(partials + share * size + place, sums, mask=inside)
        tl.debug_barrier()  # every thread's sums are written before one thread says so
        if tl.atomic_add(counters + tile, 1, sem="acq_rel") == split_k - 1:
            tl.store(counters + tile, 0)
            for part in range(BLOCK_N // 32):  # in strips, to hold few sums in registers
                strip = column + part * 32 + tl.arange(0, 32)
                total = _add_shares(partials, split_k, M, N, rows, strip)
                _write(total, alpha, beta, bias, out, M, N, alpha_stride, beta_stride, has_bias, rows, strip)
