"""The tiles of block scales, against the byte offset that the hardware's layout prescribes."""

from __future__ import annotations

import pytest
import torch

from nvfp4_trt.format import swizzle_scales, unswizzle_scales

SHAPES = [(128, 4), (1, 1), (129, 5), (300, 48), (32, 8), (256, 12)]


def _offset(row: int, block: int, blocks: int) -> int:
    tiles_across = (blocks + 3) // 4
    tile = row // 128 * tiles_across + block // 4
    return tile * 512 + row % 32 * 16 + row % 128 // 32 * 4 + block % 4


@pytest.mark.parametrize("shape", SHAPES)
def test_every_scale_lies_at_its_offset_and_the_rest_is_zero(shape):
    rows, blocks = shape
    scales = torch.randint(1, 255, shape, dtype=torch.uint8)
    tiles = swizzle_scales(scales)
    assert tiles.shape == ((rows + 127) // 128, (blocks + 3) // 4, 32, 4, 4)
    expected = torch.zeros(tiles.numel(), dtype=torch.uint8)
    for row in range(rows):
        for block in range(blocks):
            expected[_offset(row, block, blocks)] = scales[row, block]
    assert torch.equal(tiles.view(-1), expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float8_e4m3fn])
@pytest.mark.parametrize("shape", SHAPES)
def test_unswizzling_undoes_it(shape, dtype):
    scales = torch.randint(0, 256, shape, dtype=torch.uint8).view(dtype)
    tiles = swizzle_scales(scales)
    back = unswizzle_scales(tiles.flatten(), *shape)
    assert tiles.dtype == back.dtype == dtype
    assert torch.equal(back.view(torch.uint8), scales.view(torch.uint8))


def test_tiles_of_another_size_are_refused():
    with pytest.raises(ValueError, match="129 x 4"):
        unswizzle_scales(torch.zeros(512, dtype=torch.uint8), 129, 4)
