"""Block scales of a file (row-major) into the order of FP4 GEMM hardware, and back; in NumPy.

The layout is that of NVIDIA's block-scaled GEMMs: tiles of 128 rows by 4 block scales, 512 bytes each. The
scale of row r and block k lies at byte
`((r // 128) * ceil(K / 64) + k // 4) * 512 + (r % 32) * 16 + (r % 128) // 32 * 4 + k % 4`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROWS, _COLUMNS, _GROUP = 128, 4, 32


def swizzle_bytes(scales: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return block scales in tiles, padded with zero bytes to whole tiles.

    Args:
        scales: e4m3 bytes, uint8 `[rows, K / 16]`.

    Returns:
        uint8 `[ceil(rows / 128) * ceil(K / 64) * 512]`.
    """
    rows, columns = scales.shape
    down, across = -(-rows // _ROWS), -(-columns // _COLUMNS)
    padded = np.zeros((down * _ROWS, across * _COLUMNS), np.uint8)
    padded[:rows, :columns] = scales
    tiles = padded.reshape(down, _ROWS // _GROUP, _GROUP, across, _COLUMNS)
    return tiles.transpose(0, 3, 2, 1, 4).reshape(-1)


def unswizzle_bytes(tiles: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    """Undo `swizzle_bytes`.

    Args:
        tiles: uint8, in any shape that has the bytes of the tiles in their order.
        rows: rows before padding.
        columns: block scales a row before padding.

    Returns:
        uint8 `[rows, columns]`.

    Raises:
        ValueError: `tiles` does not have the size that `rows` and `columns` need.
    """
    down, across = -(-rows // _ROWS), -(-columns // _COLUMNS)
    if tiles.size != down * across * _ROWS * _COLUMNS:
        raise ValueError(f"{rows} x {columns} block scales do not fill {tiles.size} bytes of tiles")
    shaped = tiles.reshape(down, across, _GROUP, _ROWS // _GROUP, _COLUMNS)
    flat = shaped.transpose(0, 3, 2, 1, 4).reshape(down * _ROWS, across * _COLUMNS)
    return np.ascontiguousarray(flat[:rows, :columns])
