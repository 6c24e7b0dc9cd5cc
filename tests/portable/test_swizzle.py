import numpy as np
import pytest
import torch

from nvfp4_trt.format import swizzle_scales
from nvfp4_trt.portable import swizzle_bytes, unswizzle_bytes

SHAPES = [(1, 1), (8, 2), (128, 4), (129, 5), (300, 7), (256, 8)]


def draw(shape):
    return np.random.default_rng(0).integers(1, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_byte_stands_where_the_formula_says(shape):
    scales = draw(shape)
    tiles = swizzle_bytes(scales)
    across = -(-shape[1] // 4)
    assert tiles.shape == (-(-shape[0] // 128) * across * 512,)
    left = tiles.copy()
    for r, k in np.ndindex(shape):
        place = ((r // 128) * across + k // 4) * 512 + (r % 32) * 16 + (r % 128) // 32 * 4 + k % 4
        assert tiles[place] == scales[r, k]
        left[place] = 0
    assert not left.any(), "padding is zero"


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_order_of_the_torch_codec(shape):
    scales = draw(shape)
    assert swizzle_bytes(scales).tobytes() == swizzle_scales(torch.from_numpy(scales)).numpy().tobytes()


@pytest.mark.parametrize("shape", SHAPES)
def test_unswizzle_undoes_it(shape):
    scales = draw(shape)
    assert np.array_equal(unswizzle_bytes(swizzle_bytes(scales), *shape), scales)


def test_tiles_of_another_size_are_refused():
    with pytest.raises(ValueError, match="129 x 4 block scales do not fill 512"):
        unswizzle_bytes(np.zeros(512, np.uint8), 129, 4)
