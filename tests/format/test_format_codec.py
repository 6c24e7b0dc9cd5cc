"""Torch against the reference, bit for bit; the fast paths against the plain ones; NaN and infinity."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch
from kinds_of_tensors import as_bytes, tensors
from torch._subclasses.fake_tensor import FakeTensorMode

from nvfp4_trt import format as nvfp4
from nvfp4_trt.format import codec, cpu, reference
from nvfp4_trt.recipe import RuleName

RULES = [nvfp4.scale_rule(name) for name in RuleName]
MODES = ("single-level", "per-tensor", "per-token")
NAN, INF = float("nan"), float("inf")


def _numpy(x: torch.Tensor) -> np.ndarray:
    if x.dtype == torch.bfloat16:
        return x.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    return x.numpy()


def _scales(x: torch.Tensor, mode: str, rule: nvfp4.ScaleRule):
    """The scale by torch and by the reference."""
    if mode == "single-level":
        return None, None
    name = mode.replace("-", "_") + "_scale"
    return getattr(nvfp4, name)(x, rule), getattr(reference, name)(_numpy(x), rule)


@pytest.fixture(params=["eager", "traceable"])
def path(request, monkeypatch):
    """Both paths of the codec: the one for eager CPU tensors, and the plain one for all others."""
    if request.param == "traceable":
        monkeypatch.setattr(cpu, "eager_on_cpu", lambda *_: False)
    return request.param


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_torch_equals_the_reference(path, rule, mode):
    for name, x in tensors(150):
        scale, expected_scale = _scales(x, mode, rule)
        packed, block_scale = nvfp4.quantize(x, scale, rule)
        expected, expected_block_scale = reference.quantize(_numpy(x), expected_scale, rule)
        if scale is not None:
            np.testing.assert_array_equal(scale.numpy(), expected_scale, name)
        np.testing.assert_array_equal(block_scale.view(torch.uint8).numpy(), expected_block_scale, name)
        np.testing.assert_array_equal(packed.numpy(), expected, name)
        values = nvfp4.dequantize(packed, block_scale, scale)
        by_reference = reference.dequantize(expected, expected_block_scale, expected_scale)
        np.testing.assert_array_equal(values.numpy(), by_reference, name)
        for dtype in (torch.bfloat16, torch.float16):
            rounded = nvfp4.dequantize(packed, block_scale, scale, dtype)
            assert torch.equal(as_bytes(rounded), as_bytes(values.to(dtype))), name


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_pack_weight_equals_the_calls_it_stands_for(rule):
    for name, x in tensors(150):
        packed, block_scale, scale = nvfp4.pack_weight(x, rule)
        amax = x.float().abs().max()
        inverse = nvfp4.scale_from_amax(amax, rule)[1]
        assert torch.equal(scale, nvfp4.per_tensor_scale(x, rule)), name
        expected, expected_block_scale = nvfp4.quantize(x, scale, rule, inverse_scale=inverse)
        assert torch.equal(packed, expected), name
        assert torch.equal(as_bytes(block_scale), as_bytes(expected_block_scale)), name
        if not rule.stores_reciprocal:
            assert torch.equal(packed, nvfp4.quantize(x, scale, rule)[0]), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mode", MODES)
def test_tensors_of_many_pieces(mode, dtype):
    """More blocks than one piece of the fast path, and no whole number of pieces."""
    x = torch.randn((521, 1040), generator=torch.Generator().manual_seed(1)).to(dtype)
    assert x.numel() // nvfp4.BLOCK > 2 * cpu._PIECE
    scale, expected_scale = _scales(x, mode, nvfp4.SPEC)
    packed, block_scale = nvfp4.quantize(x, scale)
    expected, expected_block_scale = reference.quantize(_numpy(x), expected_scale)
    np.testing.assert_array_equal(packed.numpy(), expected)
    np.testing.assert_array_equal(block_scale.view(torch.uint8).numpy(), expected_block_scale)
    values = nvfp4.dequantize(packed, block_scale, scale, dtype)
    one = torch.ones(()) if scale is None else scale
    assert torch.equal(values, codec._dequantize(packed, block_scale, one, dtype))


def test_nan_spoils_its_own_block_only(path):
    for position in range(16):
        for sign in (NAN, -NAN):
            x = torch.linspace(-3, 3, 96).reshape(2, 48)
            x[0, 16 + position] = sign
            for scale in (None, nvfp4.per_tensor_scale(x), nvfp4.per_token_scale(x)):
                packed, block_scale = nvfp4.quantize(x, scale)
                assert block_scale.view(torch.uint8)[0, 1] == 0x7F
                assert not packed[0, 8:16].any()
                values = nvfp4.dequantize(packed, block_scale, scale)
                assert values[0, 16:32].isnan().all()
                numbers = torch.cat((torch.arange(16), torch.arange(32, 96)))
                torch.testing.assert_close(values.flatten()[numbers], x.flatten()[numbers], atol=0.3, rtol=0.3)
                expected = reference.quantize(x.numpy(), None if scale is None else scale.numpy())
                np.testing.assert_array_equal(packed.numpy(), expected[0])
                np.testing.assert_array_equal(block_scale.view(torch.uint8).numpy(), expected[1])


def test_infinity_saturates(path):
    for mode in MODES:
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            x = torch.ones(2, 32, dtype=dtype)
            x[0, 3], x[1, 20] = INF, -INF
            scale, expected_scale = _scales(x, mode, nvfp4.SPEC)
            packed, block_scale = nvfp4.quantize(x, scale)
            expected = reference.quantize(_numpy(x), expected_scale)
            np.testing.assert_array_equal(packed.numpy(), expected[0])
            np.testing.assert_array_equal(block_scale.view(torch.uint8).numpy(), expected[1])
            codes = nvfp4.unpack_codes(packed)
            assert codes[0, 3] == 7
            assert codes[1, 20] == 15
            assert nvfp4.dequantize(packed, block_scale, scale).isfinite().all()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize("value", [0.0, -0.0, 2.0**-149, 1.5e-32])
def test_a_tensor_too_small_for_a_scale_becomes_zeros(path, rule, value):
    x = torch.full((3, 32), value)
    scale = nvfp4.per_tensor_scale(x, rule)
    assert scale == 1.0
    assert not nvfp4.dequantize(*nvfp4.quantize(x, scale, rule), scale).any()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_smallest_and_the_largest_scale_lose_nothing(path, rule):
    # A reciprocal that is rounded first carries the last ulps below FLT_MAX over to infinity.
    largest = 2.0**127 if rule.stores_reciprocal else nvfp4.FLT_MAX
    for amax in (nvfp4.SMALLEST_SCALE * nvfp4.TWO_LEVEL_MAX, largest):
        x = torch.tensor([[amax, -amax / 2, *([0.0] * 14)]])
        scale = nvfp4.per_tensor_scale(x, rule)
        values = nvfp4.dequantize(*nvfp4.quantize(x, scale, rule), scale)
        torch.testing.assert_close(values / amax, x / amax)


def test_a_value_far_above_a_static_scale_saturates(path):
    x = torch.tensor([[3e38, -1.0, *([0.0] * 14)]])
    packed, block_scale = nvfp4.quantize(x, torch.tensor(nvfp4.SMALLEST_SCALE))
    assert block_scale.float().item() == nvfp4.E4M3_MAX
    assert nvfp4.unpack_codes(packed)[0, :3].tolist() == [7, 15, 0]


@pytest.mark.parametrize("mode", MODES)
def test_fake_tensors_go_through(mode):
    with FakeTensorMode():
        x = torch.empty((2, 3, 64), dtype=torch.bfloat16)
        scale = None if mode == "single-level" else nvfp4.per_tensor_scale(x)
        scale = nvfp4.per_token_scale(x) if mode == "per-token" else scale
        packed, block_scale = nvfp4.quantize(x, scale)
        values = nvfp4.dequantize(packed, block_scale, scale, torch.bfloat16)
    assert (packed.shape, packed.dtype) == ((2, 3, 32), torch.uint8)
    assert (block_scale.shape, block_scale.dtype) == ((2, 3, 4), torch.float8_e4m3fn)
    assert (values.shape, values.dtype) == ((2, 3, 64), torch.bfloat16)


def test_torch_export_with_a_dynamic_batch_gives_the_same_numbers():
    class RoundTrip(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scale = nvfp4.per_token_scale(x)
            return nvfp4.dequantize(*nvfp4.quantize(x, scale), scale)

    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(RoundTrip(), (torch.randn(4, 32),), dynamic_shapes=({0: batch},))
    x = torch.randn(9, 32)
    assert torch.equal(program.module()(x), RoundTrip()(x))


def test_a_strided_tensor_and_one_that_requires_grad():
    x = torch.randn(32, 48).t().requires_grad_()
    plain = x.detach().contiguous()[:, :32]
    for ours, expected in zip(nvfp4.pack_weight(x[:, :32]), nvfp4.pack_weight(plain), strict=True):
        assert torch.equal(as_bytes(ours), as_bytes(expected))


def test_no_rows_are_no_error():
    packed, block_scale = nvfp4.quantize(torch.empty(0, 32), None)
    assert packed.shape == (0, 16)
    assert nvfp4.dequantize(packed, block_scale, None).shape == (0, 32)


@pytest.mark.parametrize("call", [lambda x: nvfp4.quantize(x, None), nvfp4.pack_weight])
def test_a_row_that_is_no_whole_number_of_blocks_is_refused(call):
    with pytest.raises(ValueError, match="24 elements"):
        call(torch.ones(2, 24))
