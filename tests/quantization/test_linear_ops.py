"""The linear as one operator: the separate operators' values and gradients, and shapes that a tracer relies on."""

import pytest
import torch

from nvfp4_trt import format as fmt
from nvfp4_trt.quantization.bases import QuantizedLinear
from nvfp4_trt.quantization.linear_ops import linear
from nvfp4_trt.quantization.modules import ActivationQuantizer, PackedWeight, QuantLinear
from nvfp4_trt.recipe import ActivationScaling


def layer(scaling, dtype, *, bias):
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(32, 64, generator=generator).to(dtype)
    scale = torch.tensor(0.5 / fmt.TWO_LEVEL_MAX) if scaling is ActivationScaling.STATIC else None
    packed = PackedWeight(*fmt.pack_weight(weight, fmt.scale_rule("spec")))
    shift = torch.randn(32, generator=generator).to(dtype) if bias else None
    return QuantLinear(packed, shift, ActivationQuantizer(scaling, scale), dtype)


def activation(dtype):
    return torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(4)).to(dtype).requires_grad_()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scaling", list(ActivationScaling))
def test_values_and_gradients_of_one_operator_are_those_of_four(scaling, dtype, bias):
    module = layer(scaling, dtype, bias=bias)
    ends = []
    for product in (module.input_quantizer.then_linear, None):
        x = activation(dtype)
        shift = None if module.bias is None else module.bias.detach().clone().requires_grad_()
        if product is None:
            y = QuantizedLinear.product(module, x, shift)
        else:
            y = product(x, module.packed_weight, shift)
        y.float().square().sum().backward()
        ends.append((y, x.grad, torch.zeros(()) if shift is None else shift.grad))
    assert torch.equal(ends[0][0], ends[1][0])
    torch.testing.assert_close(ends[0][1:], ends[1][1:])
    assert ends[0][1].abs().sum() > 0


def test_a_static_scale_that_clips_stops_gradients():
    module = layer(ActivationScaling.STATIC, torch.float32, bias=False)
    x = activation(torch.float32)
    module.input_quantizer.then_linear(x, module.packed_weight, None).sum().backward()
    clipped = x.detach().abs() > 0.5 * 1.125
    assert clipped.any()
    assert torch.equal(x.grad == 0, clipped)


@pytest.mark.parametrize("scaling", list(ActivationScaling))
def test_the_fake_kernel_agrees_with_the_real_one(scaling):
    module = layer(scaling, torch.float32, bias=True)
    names = {"none": "none", "dynamic": "tensor", "dynamic-token": "token", "static": "static"}
    arguments = (*module.packed_weight, module.bias.detach(), names.get(scaling, "single"))
    given = (activation(torch.float32).detach(), *arguments, module.input_quantizer.scale)
    torch.library.opcheck(linear, given, test_utils="test_faketensor")
