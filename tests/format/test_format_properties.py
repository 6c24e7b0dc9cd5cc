"""What must hold for every tensor, searched for by hypothesis."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds_of_tensors import as_bytes

from nvfp4_trt import format as nvfp4

RULES = [nvfp4.SPEC, nvfp4.TORCHAO, nvfp4.MODELOPT, nvfp4.COMPRESSED_TENSORS]


@st.composite
def tensors(draw, smallest: float = 0.0):
    rows, blocks = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    number = st.floats(-(2.0**20), 2.0**20, width=32, allow_subnormal=False)
    values = draw(st.lists(number, min_size=rows * blocks * 16, max_size=rows * blocks * 16))
    x = torch.tensor(values, dtype=torch.float32).reshape(rows, blocks * 16)
    return torch.where(x.abs() < smallest, 0.0, x)


def _round_trip(x: torch.Tensor, scale: torch.Tensor | None, rule=nvfp4.SPEC) -> torch.Tensor:
    return nvfp4.dequantize(*nvfp4.quantize(x, scale, rule), scale)


@settings(max_examples=60, deadline=None)
@given(tensors(), st.sampled_from(["spec", "torchao", "modelopt", "compressed-tensors"]))
def test_the_error_of_an_element_is_bounded(x, name):
    """Half the widest step of e2m1 that its block uses, and what e4m3 adds by rounding the block scale.

    A block scale is off by at most 1/16 of itself (and never saturates beyond that under the tensor's own
    scale); below the smallest normal e4m3 by at most half of the floor's step, counted in absolute terms.
    """
    rule = nvfp4.scale_rule(name)
    scale = nvfp4.per_tensor_scale(x, rule)
    amax = x.view(len(x), -1, 16).abs().amax(-1, keepdim=True).expand(-1, -1, 16).reshape(x.shape)
    bound = amax / 6 * (17 / 16) + 6 * scale * 2.0**-9
    assert ((x - _round_trip(x, scale, rule)).abs() <= bound * 1.0001).all()


@settings(max_examples=60, deadline=None)
@given(tensors(smallest=2.0**-20), st.integers(-40, 40))
def test_scaling_by_a_power_of_two_changes_the_scale_only(x, exponent):
    factor = 2.0**exponent
    for per_scale in (nvfp4.per_tensor_scale, nvfp4.per_token_scale):
        scale, scaled = per_scale(x), per_scale(x * factor)
        occupied = x.abs().amax() > 0 if scale.ndim == 0 else x.abs().amax(-1, keepdim=True) > 0
        assert torch.equal(scaled, torch.where(occupied, scale * factor, 1.0))
        for ours, other in zip(nvfp4.quantize(x, scale), nvfp4.quantize(x * factor, scaled), strict=True):
            assert torch.equal(as_bytes(ours), as_bytes(other))


@settings(max_examples=60, deadline=None)
@given(tensors())
def test_a_row_of_its_own_scale_does_not_depend_on_the_others(x):
    packed, block_scale = nvfp4.quantize(x, nvfp4.per_token_scale(x))
    for row in range(len(x)):
        alone = x[row : row + 1]
        expected = nvfp4.quantize(alone, nvfp4.per_tensor_scale(alone))
        assert torch.equal(packed[row : row + 1], expected[0])
        assert torch.equal(as_bytes(block_scale[row : row + 1]), as_bytes(expected[1]))


@settings(max_examples=60, deadline=None)
@given(tensors(), st.integers(-30, 30))
def test_quantizing_again_changes_nothing(x, exponent):
    """Where every block still reaches 6 the second time: its largest code is 7, so its scale comes back.

    The scale is a power of two, which makes the products exact.
    """
    x = x.clamp(-1000, 1000)
    x.view(-1, 16)[:, 0] = x.view(-1, 16).abs().amax(-1)
    scale = torch.tensor(2.0**exponent)
    first = nvfp4.quantize(x * scale, scale)
    reaches_six = (nvfp4.unpack_codes(first[0]).view(*first[1].shape, 16)[..., 0] == 7).unsqueeze(-1)
    second = nvfp4.quantize(nvfp4.dequantize(*first, scale), scale)
    kept = [torch.where(reaches_six, p.view(*s.shape, 8), 0) for p, s in (first, second)]
    assert torch.equal(*kept)
    scales = [torch.where(reaches_six.squeeze(-1), s.float(), 0) for _, s in (first, second)]
    assert torch.equal(*scales)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_largest_element_of_a_tensor_survives(rule):
    for seed in range(50):
        x = torch.randn((4, 64), generator=torch.Generator().manual_seed(seed))
        y = _round_trip(x, nvfp4.per_tensor_scale(x, rule), rule)
        torch.testing.assert_close(y.abs().max(), x.abs().max(), rtol=1e-6, atol=0)
