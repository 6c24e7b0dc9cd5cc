"""Which tile a GEMM uses: the first row of a table that its shape fits. And the memory that it then takes.

`plugins/kernels/gemm_tiles.json` holds a table for each GPU architecture; `benchmarks/gemm_tiles.py` fills it.
The C++ plugin has the same rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from nvfp4_trt.errors import KernelMissingError
from nvfp4_trt.kernels.launch import gemm_launch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nvfp4_trt.kernels.pack import GemmTile

COUNTERS = 8192
"""Counters in the state memory: the most tiles of D that a split GEMM may have."""
SCRATCH_ALIGNMENT = 256
"""Bytes: where in the workspace the programs' scratch memory may begin. Its compiler asks for 128."""


class Workspace(NamedTuple):
    """Device memory of a launch of the GEMM."""

    scratch: int
    """Where the programs' scratch memory begins, behind the partial sums."""
    bytes: int
    """Of both; no more than `scratch` where the tile's programs need none."""


def choose_tile(rows: Sequence[Mapping[str, Any]], m: int, n: int, k: int) -> tuple[str, int]:
    """Return the tile's name and the number of shares that K is split into.

    The table's `split_k` is lowered until each share has a step of K, and to 1 where D has more tiles
    than there are counters.

    Args:
        rows: of one architecture, each with `max_m`, `max_n`, `max_k` (None: any), `tile` and `split_k`.
        m: rows of the activation.
        n: rows of the weight.
        k: elements of a row.

    Raises:
        KernelMissingError: no row fits.
    """
    for row in rows:
        if all(_fits(size, row[limit]) for size, limit in ((m, "max_m"), (n, "max_n"), (k, "max_k"))):
            block_m, block_n, block_k = (int(part) for part in row["tile"].split("x"))
            if _ceil(m, block_m) * _ceil(n, block_n) > COUNTERS:
                return row["tile"], 1
            return row["tile"], max(1, min(row["split_k"], _ceil(k, block_k)))
    raise KernelMissingError(
        f"the table of tiles has no row for a GEMM of M={m}, N={n}, K={k}",
        "its last row should take any shape (null for max_m, max_n and max_k): benchmarks/gemm_tiles.py writes it",
    )


def gemm_workspace(tile: GemmTile, m: int, n: int, split_k: int) -> Workspace:
    """Return the memory that the GEMM `[m, n]` needs: fp32 sums `[split_k, m, n]` if K is split, and scratch."""
    partials = split_k * m * n * 4 if split_k > 1 else 0
    if not tile.scratch_bytes:
        return Workspace(partials, partials)
    (tiles, shares, _), _ = gemm_launch(tile, m, n, split_k)
    begin = _aligned(partials)
    return Workspace(begin, begin + _aligned(tiles * shares * tile.scratch_bytes))


def _aligned(size: int) -> int:
    return _ceil(size, SCRATCH_ALIGNMENT) * SCRATCH_ALIGNMENT


def _fits(size: int, limit: int | None) -> bool:
    return limit is None or size <= limit


def _ceil(a: int, b: int) -> int:
    return -(-a // b)
