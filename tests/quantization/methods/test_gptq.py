"""GPTQ on one weight: what it leaves of the layer's output, and what it is given."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nvfp4_trt import format as fmt
from nvfp4_trt.quantization.methods import FOUR_OVER_SIX, MAX, MSE
from nvfp4_trt.quantization.methods import gptq as method
from nvfp4_trt.quantization.methods.moments import Agreement, Moments

POOL = ThreadPoolExecutor(2)
CHOICES = {"max": MAX, "mse": MSE, "four-over-six": FOUR_OVER_SIX}


def gptq(weight, moments, rule, choice):
    return method.gptq(weight, moments, rule, choice, POOL)


def moments_of(x, unquantized=None):
    made = Moments(x.shape[1], x.device)
    floats = x if unquantized is None else unquantized
    for half, (own, other) in enumerate(zip(x.tensor_split(2), floats.tensor_split(2), strict=True)):
        made.add(own, other, half)
    return made


def correlated(rows, k, generator):
    mix = torch.randn(k, k, generator=generator) / k**0.5 + torch.eye(k) / 2
    return torch.randn(rows, k, generator=generator) @ mix


def output_error(x, weight, packed):
    return float((x @ (fmt.dequantize(*packed) - weight.float()).t()).double().square().sum())


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), blocks=st.integers(3, 9), choice=st.sampled_from(sorted(CHOICES)))
def test_the_output_errs_less_than_by_rounding(seed, blocks, choice):
    generator = torch.Generator().manual_seed(seed)
    k = 16 * blocks
    x, weight = correlated(8 * k, k, generator), torch.randn(24, k, generator=generator)
    ours = gptq(weight, moments_of(x), fmt.SPEC, CHOICES[choice])
    assert output_error(x, weight, ours) < output_error(x, weight, fmt.pack_weight(weight))
    assert int(ours.block_scale.view(torch.uint8).max()) <= 0x7E


def test_inputs_that_are_independent_leave_rounding_to_nearest():
    torch.manual_seed(0)
    weight = torch.randn(32, 64)
    made = moments_of(torch.eye(64).repeat(2, 1))
    ours, usual = (fmt.dequantize(*p) for p in (gptq(weight, made, fmt.SPEC, MAX), fmt.pack_weight(weight)))
    assert torch.equal(ours, usual)


def test_a_long_weight_agrees_with_columns_one_by_one(monkeypatch):
    """More columns than one matrix product takes, in another order, and several threads, against the formula."""
    monkeypatch.setattr(method, "_ROWS", 5)
    generator = torch.Generator().manual_seed(3)
    x = correlated(1200, 160, generator) * torch.logspace(-1, 1, 160)
    weight = torch.randn(8, 160, generator=generator)
    moments = moments_of(x)
    packed = gptq(weight, moments, fmt.SPEC, MAX)
    columns, upper = moments.factors
    assert columns[:16].tolist() == list(range(144, 160))
    damped = moments.inputs + 0.01 * moments.inputs.diagonal().mean() * torch.eye(160)
    product = (upper.t() @ upper).double() @ damped[columns][:, columns]
    assert torch.allclose(product, torch.eye(160).double(), atol=1e-3)
    left = weight[:, columns].double()
    values = fmt.dequantize(*packed)[:, columns].double()
    step = packed.block_scale.double()[:, columns // 16] * packed.per_tensor_scale.double()
    nearest = 0
    for j in range(160):
        grid = torch.tensor(fmt.E2M1_VALUES).double() * step[:, j : j + 1]
        nearest += int(
            ((left[:, j : j + 1] - grid).abs().amin(1) >= (left[:, j] - values[:, j]).abs() - 1e-4).sum()
        )
        error = (left[:, j] - values[:, j]) / upper[j, j]
        left[:, j + 1 :] -= error.unsqueeze(1) * upper[j, j + 1 :]
    assert nearest == left.numel()


def test_noise_on_the_inputs_is_made_up_for():
    generator = torch.Generator().manual_seed(4)
    x = correlated(4000, 64, generator)
    noisy = x + 0.5 * torch.randn(4000, 64, generator=generator)
    weight = torch.randn(16, 64, generator=generator)

    def error(packed):
        return float((noisy @ fmt.dequantize(*packed).t() - x @ weight.t()).double().square().sum())

    blind = error(gptq(weight, moments_of(noisy), fmt.SPEC, MSE))
    assert error(gptq(weight, moments_of(noisy, x), fmt.SPEC, MSE)) < 0.97 * blind


def test_a_weight_is_pulled_as_far_as_the_other_half_agrees():
    generator = torch.Generator().manual_seed(7)
    weight = torch.randn(16, 64, generator=generator)

    def pulled(*halves):
        made = Moments(64, weight.device)
        for half, (own, floats) in enumerate(halves):
            made.add(own, floats, half)
        return made.pulled(weight)

    def half(change):
        x = correlated(2000, 64, generator)
        return x + 0.3 * torch.randn(2000, 64, generator=generator), x + x @ change

    def error(x, floats, made, weight):
        return float((x @ made.t() - floats @ weight.t()).double().square().sum())

    one = 0.2 * torch.randn(64, 64, generator=generator)
    agreed = pulled(half(one), half(one))
    fresh, floats = half(one)
    assert error(fresh, floats, agreed, weight) < 0.8 * error(fresh, floats, weight, weight)
    assert torch.equal(pulled(half(one), half(-one)), weight)  # what one half teaches is wrong on the other
    assert torch.equal(pulled(half(one)), weight)  # nothing to try it on


def test_halves_that_differ_are_not_believed_whatever_one_layer_says():
    agreement = Agreement()
    assert agreement.with_layer(0.5, 0.49)
    assert not agreement.with_layer(0.1, 0.6)
    assert not agreement.with_layer(0.2, 0.2)  # the data is the same as before
    assert [agreement.with_layer(1.0, 1.0) for _ in range(3)] == [False, False, True]


def test_dead_inputs_and_zero_weights():
    generator = torch.Generator().manual_seed(5)
    x = correlated(300, 64, generator)
    x[:, [3, 40]] = 0
    x[:, 16:32] = 0
    weight = torch.randn(8, 64, generator=generator)
    weight[2] = 0
    packed = gptq(weight, moments_of(x), fmt.SPEC, MSE)
    values = fmt.dequantize(*packed)
    assert torch.isfinite(values).all()
    assert not values[2].any()
    assert float((values - weight).abs().max()) < 1  # also where no input said anything
    nothing = gptq(weight, moments_of(torch.zeros(5, 64)), fmt.SPEC, MSE)
    assert float((fmt.dequantize(*nothing) - weight).abs().max()) < 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_same_inputs_give_the_same_bytes(dtype):
    generator = torch.Generator().manual_seed(6)
    x = correlated(300, 64, generator).to(dtype)
    weight = torch.randn(8, 64, generator=generator).to(dtype)
    first, second = (gptq(weight, moments_of(x), fmt.SPEC, MSE) for _ in range(2))
    assert all(
        torch.equal(a.view(torch.uint8), b.view(torch.uint8)) for a, b in zip(first[:2], second[:2], strict=True)
    )
    assert float(first.per_tensor_scale) == float(second.per_tensor_scale)
