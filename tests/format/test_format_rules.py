"""The presets."""

from __future__ import annotations

import pytest
import torch

from nvfp4_trt import format as nvfp4
from nvfp4_trt.recipe import RuleName

# One block of zeros, and one too small for the smallest e4m3, beside one that sets the scale.
X = torch.zeros(1, 48)
X[0, 0], X[0, 32] = 2688.0, -1e-6


def test_every_name_that_a_recipe_can_hold_has_a_rule():
    for name in RuleName:
        assert nvfp4.scale_rule(name).name == name.value
        assert nvfp4.scale_rule(str(name.value)) is nvfp4.scale_rule(name)


def test_an_unknown_name_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="'fast' is not a scale rule; choose one of spec, torchao"):
        nvfp4.scale_rule("fast")


@pytest.mark.parametrize(
    ("name", "zero_block", "tiny_block"),
    [
        ("spec", 0.0, 0.0),
        ("torchao", 2.0**-6, 2.0**-6),
        ("modelopt", 1.0, 2.0**-9),
        ("compressed-tensors", 0.125, 0.125),
    ],
)
def test_what_becomes_of_zero_and_tiny_blocks(name, zero_block, tiny_block):
    rule = nvfp4.scale_rule(name)
    packed, block_scale = nvfp4.quantize(X, nvfp4.per_tensor_scale(X, rule), rule)
    assert block_scale.float().tolist() == [[448.0, zero_block, tiny_block]]
    codes = nvfp4.unpack_codes(packed)
    assert codes[0, 0] == 7
    assert codes[0, 32] == (0 if name == "spec" else 8)  # a negative value that rounds to zero
    assert not codes[0, 1:32].any()


@pytest.mark.parametrize(
    ("name", "code"), [("spec", 8), ("torchao", 8), ("modelopt", 0), ("compressed-tensors", 0)]
)
def test_the_sign_of_negative_zero(name, code):
    x = torch.tensor([[1.0, -0.0, *([0.0] * 14)]])
    packed, _ = nvfp4.quantize(x, None, nvfp4.scale_rule(name))
    assert nvfp4.unpack_codes(packed)[0, 1] == code
