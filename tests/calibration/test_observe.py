import contextlib
import itertools

import pytest
import torch
from torch import nn

from nvfp4_trt import quantize
from nvfp4_trt.calibration import input_amaxes
from nvfp4_trt.errors import (
    InputsMismatchError,
    InputsMissingError,
    NonfiniteCalibrationError,
)
from nvfp4_trt.format import TWO_LEVEL_MAX
from nvfp4_trt.recipe import RECIPES

NAMES = ("up", "down")
STATIC = RECIPES["w4a4-static"]


class Net(nn.Module):
    def __init__(self, *, spare=False):
        super().__init__()
        torch.manual_seed(0)
        self.up, self.down = nn.Linear(64, 96), nn.Linear(96, 64)
        if spare:
            self.spare = nn.Linear(64, 64)

    def forward(self, x):
        return self.down(input=torch.relu(self.up(x)))  # by keyword, as nn.Linear allows


def batches(count=4):
    generator = torch.Generator().manual_seed(1)
    return [{"x": torch.randn(3, 64, generator=generator) * (i + 1)} for i in range(count)]


def test_the_largest_magnitude_that_enters_each_layer():
    net, given = Net(), batches()
    x = torch.cat([batch["x"] for batch in given])
    found = input_amaxes(net, NAMES, given, STATIC)
    assert found["up"] == float(x.abs().max())
    assert found["down"] == pytest.approx(float(torch.relu(net.up(x)).detach().max()))


def test_the_order_of_batches_does_not_matter():
    net = Net()
    found = [input_amaxes(net, NAMES, order, STATIC) for order in itertools.permutations(batches(3))]
    assert all(amaxes == found[0] for amaxes in found)


def test_batches_may_come_from_a_generator():
    net = Net()
    assert input_amaxes(net, NAMES, (batch for batch in batches()), STATIC) == input_amaxes(
        net, NAMES, batches(), STATIC
    )


def test_a_negative_extreme_counts():
    x = torch.zeros(1, 64)
    x[0, 5] = -7
    assert input_amaxes(Net(), ["up"], [{"x": x}], STATIC) == {"up": 7.0}


def test_a_layer_that_runs_twice_keeps_the_larger():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(64, 64)

        def forward(self, x):
            return self.layer(x * 10) + self.layer(x)

    assert input_amaxes(Twice(), ["layer"], [{"x": torch.ones(1, 64)}], STATIC) == {"layer": 10.0}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(dtype):
    x = torch.full((1, 64), 3.0, dtype=dtype)
    assert input_amaxes(Net().to(dtype), ["up"], [{"x": x}], STATIC) == {"up": 3.0}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_named_with_its_batch(value):
    given = batches(3)
    given[1]["x"][0, 3] = value
    with pytest.raises(NonfiniteCalibrationError) as caught:
        input_amaxes(Net(), NAMES, given, STATIC)
    assert caught.value.message == "NaN or infinity entered the layer up in calibration batch 2"


def test_the_first_layer_that_overflows_is_named():
    net = Net()
    with torch.no_grad():
        net.up.weight.mul_(1e38)
    with pytest.raises(NonfiniteCalibrationError, match="entered the layer down in calibration batch 1"):
        input_amaxes(net, NAMES, [{"x": torch.full((1, 64), 100.0)}], STATIC)


def test_a_layer_that_never_ran():
    with pytest.raises(InputsMissingError) as caught:
        input_amaxes(Net(spare=True), (*NAMES, "spare"), batches(), STATIC)
    assert "the layer spare never ran" in caught.value.message
    assert "--exclude 'spare'" in caught.value.hint


def test_no_batches():
    with pytest.raises(InputsMissingError, match="no batch was given"):
        input_amaxes(Net(), NAMES, [], STATIC)
    with pytest.raises(InputsMissingError, match="no batch was given"):
        quantize(Net(), "w4a4-static")


def test_a_batch_that_does_not_fit():
    with pytest.raises(InputsMismatchError, match=r"x \[2, 63\]"):
        input_amaxes(Net(), NAMES, [{"x": torch.zeros(2, 63)}], STATIC)


def test_no_hook_is_left_behind():
    net = Net()
    for given in (batches(), [{"x": torch.full((1, 64), float("nan"))}], [{"x": torch.zeros(1, 3)}]):
        with contextlib.suppress(NonfiniteCalibrationError, InputsMismatchError):
            input_amaxes(net, NAMES, given, STATIC)
        assert not any(module._forward_pre_hooks for module in net.modules())


def test_no_gradient_is_recorded():
    x = torch.zeros(1, 64, requires_grad=True)
    seen = []
    net = Net()
    net.up.register_forward_hook(lambda _m, _a, y: seen.append(y.requires_grad))
    input_amaxes(net, NAMES, [{"x": x}], STATIC)
    assert seen == [False]


def test_scales_of_a_static_recipe():
    net, given = Net(), batches()
    amaxes = input_amaxes(net, NAMES, given, STATIC)
    module = quantize(net, "w4a4-static", inputs=given).module
    for name in NAMES:
        scale = getattr(module, name).input_quantizer.scale
        assert scale.dtype == torch.float32
        assert float(scale) == pytest.approx(amaxes[name] / TWO_LEVEL_MAX, rel=1e-6)


def test_a_layer_that_only_saw_zeros_still_works():
    module = quantize(Net(), "w4a4-static", inputs=[{"x": torch.zeros(2, 64)}]).module
    assert torch.isfinite(module(torch.zeros(2, 64))).all()
