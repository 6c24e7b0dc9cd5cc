"""Every input that the rounders and the decoders can meet in 16 bits, and every code."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest
import torch

from nvfp4_trt import format as nvfp4
from nvfp4_trt.format import reference

PATTERNS = np.arange(65536, dtype=np.uint16)
E4M3 = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float32)


def _all_of(dtype) -> np.ndarray:
    return PATTERNS.view(dtype).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_e2m1_rounds_every_16_bit_pattern_as_ml_dtypes(dtype):
    x = _all_of(dtype)
    x = x[~np.isnan(x)]
    expected = np.clip(x, -6, 6).astype(ml_dtypes.float4_e2m1fn).view(np.uint8) & 15
    np.testing.assert_array_equal(nvfp4.round_e2m1(torch.from_numpy(x)).numpy(), expected)
    np.testing.assert_array_equal(reference.round_e2m1(x), expected)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_e4m3_rounds_every_16_bit_pattern_as_ml_dtypes(dtype):
    x = _all_of(dtype)
    with np.errstate(invalid="ignore"):
        expected = np.clip(x, -448, 448).astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
    np.testing.assert_array_equal(reference.round_e4m3(x), expected)
    rounded = nvfp4.round_e4m3(torch.from_numpy(x)).view(torch.uint8).numpy()
    number = ~np.isnan(x)
    np.testing.assert_array_equal(rounded[number], expected[number])
    assert set((rounded[~number] & 0x7F).tolist()) == {0x7F}


def _neighbourhoods(values: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Each value, the fp32 just below and the one just above; and all three negated."""
    ties = np.array(values, np.float32)
    around = np.concatenate(
        [ties, np.nextafter(ties, np.float32(-np.inf)), np.nextafter(ties, np.float32(np.inf))]
    )
    return np.concatenate([around, -around]), ties


def test_ties_between_e2m1_codes_go_to_the_even_code():
    magnitudes = nvfp4.E2M1_VALUES[:8]
    around, ties = _neighbourhoods([(a + b) / 2 for a, b in itertools.pairwise(magnitudes)])
    codes = nvfp4.round_e2m1(torch.from_numpy(around)).numpy()
    np.testing.assert_array_equal(codes, reference.round_e2m1(around))
    assert codes[: len(ties)].tolist() == [0, 2, 2, 4, 4, 6, 6]
    assert codes[len(ties) : 2 * len(ties)].tolist() == list(range(7))  # just below
    assert codes[2 * len(ties) : 3 * len(ties)].tolist() == list(range(1, 8))  # just above


def test_ties_between_e4m3_codes_go_to_the_even_code():
    finite = E4M3[:127].tolist()
    around, ties = _neighbourhoods([(a + b) / 2 for a, b in itertools.pairwise(finite)])
    rounded = nvfp4.round_e4m3(torch.from_numpy(around)).view(torch.uint8).numpy()
    np.testing.assert_array_equal(rounded, reference.round_e4m3(around))
    n = len(ties)
    assert not (rounded[:n] & 1).any()
    assert rounded[n : 2 * n].tolist() == list(range(126))
    assert rounded[2 * n : 3 * n].tolist() == list(range(1, 127))


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (0.0, 0),
        (-0.0, 8),
        (-1e-45, 8),
        (6.0, 7),
        (-6.0, 15),
        (1e38, 7),
        (float("-inf"), 15),
        (float("inf"), 7),
    ],
)
def test_e2m1_of_zeros_and_of_values_beyond_the_range(value, code):
    assert nvfp4.round_e2m1(torch.tensor([value])).item() == code
    assert reference.round_e2m1(np.array([value], np.float32)).item() == code


def test_every_packed_byte_unpacks_low_nibble_first_and_packs_back():
    packed = torch.arange(256, dtype=torch.uint8)
    codes = nvfp4.unpack_codes(packed)
    assert codes.tolist() == [code for byte in range(256) for code in (byte & 15, byte >> 4)]
    assert torch.equal(nvfp4.pack_codes(codes), packed)


@pytest.mark.parametrize("scale", [None, 0.7])
def test_every_product_of_code_and_block_scale(scale):
    codes = torch.arange(16, dtype=torch.uint8).expand(256, 16)
    block_scale = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn)[:, None]
    s_t = None if scale is None else torch.tensor(scale)
    values = nvfp4.dequantize(nvfp4.pack_codes(codes), block_scale, s_t)
    expected = np.array(nvfp4.E2M1_VALUES, np.float32) * E4M3[:, None] * np.float32(scale or 1)
    np.testing.assert_array_equal(values.numpy(), expected)
    np.testing.assert_array_equal(np.signbit(values.numpy()), np.signbit(expected))
    by_reference = reference.dequantize(
        nvfp4.pack_codes(codes).numpy(),
        block_scale.view(torch.uint8).numpy(),
        None if scale is None else np.array([[scale]], np.float32),
    )
    np.testing.assert_array_equal(by_reference, expected)


def test_the_16_codes_are_those_of_ml_dtypes():
    values = np.arange(16, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float32)
    np.testing.assert_array_equal(np.array(nvfp4.E2M1_VALUES, np.float32), values)
    np.testing.assert_array_equal(np.signbit(nvfp4.E2M1_VALUES), np.signbit(values))
