"""The kernels' arithmetic for one block of 16, called on a CPU: each step against its definition."""

import numpy as np
import torch
from emulator import DTYPES
from hypothesis import given, settings
from hypothesis import strategies as st
from quantize_cases import ARITHMETIC, EVERY_DTYPE

from nvfp4_trt import format as nvfp4
from nvfp4_trt.format.scales import block_scale_from_amax


def floats(low, high):
    """Positive fp32 numbers, every exponent between 2^low and 2^high alike, ends of the mantissa often."""
    mantissa = st.one_of(st.integers(0, 2**23 - 1), st.sampled_from([0, 1, 2, 2**22, 2**23 - 2, 2**23 - 1]))
    exponent = st.integers(low, high - 1)
    return st.builds(lambda e, m: float(np.ldexp(1 + m / 2**23, e)), exponent, mantissa)


PAIRS = st.lists(st.tuples(floats(-98, 126), floats(-100, 100)), min_size=64, max_size=64)
SCALED = st.lists(st.tuples(floats(-117, 128), floats(-126, 128)), min_size=64, max_size=64)


def columns(pairs):
    return (np.ascontiguousarray(column) for column in np.array(pairs, dtype=np.float32).T)


def check_division(kernel, a, b):
    quotient = np.empty_like(a)
    kernel.call("divide_with", len(a), a, b, quotient)
    with np.errstate(all="ignore"):
        true = a / b
    usual = (true > 2.0**-100) & (true < 2.0**100)
    assert np.array_equal(quotient[usual], true[usual])
    return usual.sum()


def check_block_scales(kernel, scale, amax, rule):
    """Compare every byte, and the factors of those that are not 0."""
    byte, factor = np.empty(len(amax), dtype=np.uint8), np.empty_like(amax)
    kernel.call("block_scales", len(amax), amax, scale, float(rule.floor), byte, factor)
    inverse = 1.0 / torch.from_numpy(scale)
    expected = block_scale_from_amax(torch.from_numpy(amax), torch.from_numpy(scale), inverse, rule)
    assert np.array_equal(byte, expected.view(torch.uint8).numpy())
    used = byte != 0
    assert np.array_equal(factor[used], (inverse / expected.float()).numpy()[used])
    return byte


@settings(max_examples=100, deadline=None)
@given(PAIRS)
def test_the_short_division_is_exact(emulator, pairs):
    check_division(emulator("quantize", "f32"), *columns(pairs))


@settings(max_examples=100, deadline=None)
@given(SCALED, st.sampled_from([nvfp4.SPEC, nvfp4.TORCHAO]))
def test_block_scales(emulator, pairs, rule):
    check_block_scales(emulator("quantize", "f32"), *columns(pairs), rule)


def test_a_million_divisions(emulator):
    kernel, random = emulator("quantize", "f32"), np.random.default_rng(0)
    count = 1_000_000

    def numbers(low, high):
        mantissa = 1 + random.integers(0, 2**23, count) / 2**23
        return np.ldexp(mantissa, random.integers(low, high, count)).astype(np.float32)

    assert check_division(kernel, numbers(-98, 126), numbers(-100, 100)) > count // 2
    scale = numbers(-117, 127)
    with np.errstate(over="ignore"):
        near = scale * numbers(-12, 14)  # where the byte is neither 0 nor at its largest
    amax = np.where(np.isfinite(near), near, np.float32(1.0)).astype(np.float32)
    assert len(np.unique(check_block_scales(kernel, scale, amax, nvfp4.SPEC))) == 127
    assert len(np.unique(check_block_scales(kernel, scale, amax, nvfp4.TORCHAO))) == 119


def test_inverses_of_all_e4m3(emulator):
    values = torch.arange(1, 127, dtype=torch.uint8).view(torch.float8_e4m3fn).float().numpy()
    inverse = np.empty_like(values)
    emulator("quantize", "f32").call("inverse_of_e4m3", len(values), values, inverse)
    assert np.array_equal(inverse, np.float32(1) / values)


BITS = {"f16": 16, "bf16": 16, "f32": 32}


@ARITHMETIC
@EVERY_DTYPE
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_block_under_any_scale(emulator, dtype, native, data):
    """Blocks of any bit patterns, or of patterns around one exponent, which then have codes of every kind."""
    width, count = BITS[dtype], 8
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    bits = random.integers(0, 2**width, (count, 16), dtype=np.uint64)
    if data.draw(st.booleans()):
        mantissa = {"f16": 10, "bf16": 7, "f32": 23}[dtype]
        first = data.draw(st.integers(0, 2 ** (width - 1 - mantissa) - 5)) << mantissa
        bits = first + bits % (4 << mantissa) | (bits >> (width - 1) << (width - 1))
    x = bits.astype(f"uint{width}")
    scale = np.array(data.draw(st.lists(floats(-117, 128), min_size=count, max_size=count)), dtype=np.float32)
    rule = data.draw(st.sampled_from([nvfp4.SPEC, nvfp4.TORCHAO]))
    codes, blocks = np.empty((count, 8), dtype=np.uint8), np.empty(count, dtype=np.uint8)
    emulator("quantize", dtype, native).call("encode", count, x, scale, float(rule.floor), codes, blocks)
    wide = torch.from_numpy(x.view(f"int{width}")).view(DTYPES[dtype][1])
    expected, byte = nvfp4.quantize(wide, torch.from_numpy(scale)[:, None], rule)
    assert np.array_equal(blocks, byte.view(torch.uint8).flatten().numpy())
    assert np.array_equal(codes, expected.numpy())
