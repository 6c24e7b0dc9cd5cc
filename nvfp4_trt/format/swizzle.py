"""The order in which FP4 GEMM hardware wants block scales: tiles of 128 rows by 4 block scales.

Files hold block scales row-major; swizzling happens where a kernel takes them. The layout is the one of
NVIDIA's block-scaled GEMMs: a tile is 512 bytes, of 32 rows by 4 groups of rows by 4 block scales.
"""

from __future__ import annotations

import torch

TILE_ROWS = 128
TILE_COLUMNS = 4
_GROUP = 32


def swizzle_scales(scales: torch.Tensor) -> torch.Tensor:
    """Return block scales in tiles, padded with zeros to whole tiles.

    The scale of row r and block k lies at byte
    `((r // 128) * (K / 64) + k // 4) * 512 + (r % 32) * 16 + (r % 128) // 32 * 4 + k % 4`,
    with K padded to a multiple of 64.

    Args:
        scales: one-byte dtype (e4m3fn or uint8), `[rows, blocks]`.

    Returns:
        The same dtype, `[rows / 128, blocks / 4, 32, 4, 4]` (both rounded up), contiguous.
    """
    rows, columns = scales.shape
    down, across = -(-rows // TILE_ROWS), -(-columns // TILE_COLUMNS)
    padded = scales.new_zeros((down * TILE_ROWS, across * TILE_COLUMNS), dtype=torch.uint8)
    padded[:rows, :columns] = scales.view(torch.uint8)
    tiles = padded.view(down, TILE_ROWS // _GROUP, _GROUP, across, TILE_COLUMNS)
    return tiles.permute(0, 3, 2, 1, 4).contiguous().view(scales.dtype)


def unswizzle_scales(tiles: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Undo `swizzle_scales`.

    Args:
        tiles: one-byte dtype, in any shape that has the elements of the tiles in their order.
        rows: rows before padding.
        columns: block scales a row before padding.

    Returns:
        The same dtype, `[rows, columns]`, contiguous.

    Raises:
        ValueError: `tiles` does not have the size that `rows` and `columns` need.
    """
    down, across = -(-rows // TILE_ROWS), -(-columns // TILE_COLUMNS)
    if tiles.numel() != down * across * TILE_ROWS * TILE_COLUMNS:
        raise ValueError(f"{rows} x {columns} block scales do not fill {tiles.numel()} bytes of tiles")
    shaped = tiles.reshape(-1).view(torch.uint8).view(down, across, _GROUP, TILE_ROWS // _GROUP, TILE_COLUMNS)
    flat = shaped.permute(0, 3, 2, 1, 4).reshape(down * TILE_ROWS, across * TILE_COLUMNS)
    return flat[:rows, :columns].contiguous().view(tiles.dtype)
