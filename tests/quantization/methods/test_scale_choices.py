"""The methods that choose scales by looking at the weights alone."""

import pytest
import torch
from format.kinds_of_tensors import make
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import nvfp4_trt
from nvfp4_trt import format as fmt
from nvfp4_trt.quantization.methods import FOUR_OVER_SIX, MAX, MSE
from nvfp4_trt.quantization.methods.block_error import BlockErrors
from nvfp4_trt.quantization.packing import every_core, pack

KINDS = [
    "normal",
    "heavy-tailed",
    "one-outlier",
    "subnormal",
    "zeros-in-it",
    "constant",
    "all-zero",
    "small",
    "large",
]
RULES = ["spec", "torchao", "modelopt", "compressed-tensors"]


@pytest.fixture(scope="module")
def pool():
    with every_core() as threads:
        yield threads


def block_errors(weight, packed):
    difference = fmt.dequantize(*packed).double() - weight.double()
    return difference.view(-1, 16).square().sum(-1)


def chosen_at(weight, scale, inverse, rule, choice):
    packed, block = fmt.quantize(weight, scale, rule, inverse_scale=inverse, choose=choice.block_scales)
    return packed, block, scale


def tensors():
    return st.builds(
        lambda kind, rows, k, seed: make(kind, (rows, 16 * k), torch.Generator().manual_seed(seed)),
        st.sampled_from(KINDS),
        st.integers(1, 9),
        st.integers(1, 5),
        st.integers(0, 2**31),
    )


@settings(max_examples=60, deadline=None)
@given(weight=tensors(), rule=st.sampled_from(RULES), choice=st.sampled_from([MSE, FOUR_OVER_SIX]))
def test_no_block_errs_more_than_with_the_usual_scale(weight, rule, choice):
    rule = fmt.scale_rule(rule)
    scale, inverse = fmt.scale_from_amax(weight.abs().amax(), rule)
    usual = block_errors(weight, chosen_at(weight, scale, inverse, rule, MAX))
    ours = block_errors(weight, chosen_at(weight, scale, inverse, rule, choice))
    # The rules' own order of operations may round a value over a tie that the search saw on its other side.
    slack = 1e-5 * usual + 1e-12 * float(weight.abs().amax()) ** 2
    assert bool((ours <= usual + slack).all())


@settings(max_examples=40, deadline=None)
@given(weight=tensors(), rule=st.sampled_from(RULES), choice=st.sampled_from([MSE, FOUR_OVER_SIX]))
def test_the_bits_are_legal(weight, rule, choice):
    with every_core() as pool:
        packed, block, scale = pack(weight, fmt.scale_rule(rule), "w", pool, choice)
    assert (packed.dtype, block.dtype, scale.dtype) == (torch.uint8, torch.float8_e4m3fn, torch.float32)
    assert int(block.view(torch.uint8).max()) <= 0x7E  # finite and not negative
    assert float(scale) >= fmt.SMALLEST_SCALE
    assert torch.isfinite(fmt.dequantize(packed, block, scale)).all()


@pytest.mark.parametrize("choice", [MSE, FOUR_OVER_SIX], ids=["mse", "four-over-six"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_chunks_and_the_codecs_plain_path_agree(monkeypatch, pool, choice, dtype):
    monkeypatch.setattr("nvfp4_trt.quantization.packing._CHUNK", 64 * 37)
    torch.manual_seed(0)
    weight = torch.randn(509, 64).mul_(0.02).to(dtype)
    packed = pack(weight, fmt.SPEC, "w", pool, choice)
    scale = packed.per_tensor_scale
    plain = fmt.codec._quantize(weight, scale, 1 / scale, fmt.SPEC, choice.block_scales)
    assert torch.equal(packed.packed, plain[0])
    assert torch.equal(packed.block_scale.view(torch.uint8), plain[1].view(torch.uint8))


def test_how_much_each_method_gains(pool):
    torch.manual_seed(0)
    weight = torch.randn(256, 1024)

    def noise(choice):
        return 10 * float(torch.log10(block_errors(weight, pack(weight, fmt.SPEC, "w", pool, choice)).sum()))

    usual, six, mse = noise(MAX), noise(FOUR_OVER_SIX), noise(MSE)
    assert usual - six == pytest.approx(0.78, abs=0.1)
    assert usual - mse == pytest.approx(1.36, abs=0.1)


def test_a_block_that_is_better_scaled_to_four(pool):
    block = torch.tensor([[4.0, 3.0, 2.0, 1.0] * 4])
    rows = torch.cat([block, torch.full_like(block, 6.0)])  # so that 448 is where a block of 4 maps to 4
    assert float(block_errors(rows, pack(rows, fmt.SPEC, "w", pool, MAX))[0]) > 0.4
    for choice in (FOUR_OVER_SIX, MSE):
        packed = pack(rows, fmt.SPEC, "w", pool, choice)
        assert float(block_errors(rows, packed).sum()) < 1e-9
    assert pack(rows, fmt.SPEC, "w", pool, FOUR_OVER_SIX).block_scale.float().tolist() == [[448.0], [448.0]]


def test_errors_are_those_of_the_codec():
    torch.manual_seed(0)
    weight = torch.randn(300, 16) * torch.logspace(-3, 3, 300).unsqueeze(1)
    scale, inverse = fmt.scale_from_amax(weight.abs().amax())
    codes = torch.randint(0, 0x7F, (300,), dtype=torch.int32)
    s_b = codes.to(torch.uint8).view(torch.float8_e4m3fn)
    alive = s_b.float() > 0
    value = weight.double() / scale.double()
    scaled = value / torch.where(alive, s_b.float(), 1.0).double().unsqueeze(1)
    grid = torch.tensor(fmt.E2M1_VALUES).double()
    nearest = (scaled.unsqueeze(-1) - grid).abs().amin(-1) * s_b.double().unsqueeze(1)
    expected = torch.where(alive.unsqueeze(1), nearest, value).square().sum(1)
    found = BlockErrors(weight, inverse).of(codes).double()
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6)
    weighed = BlockErrors(weight, inverse, torch.arange(16.0)).of(codes).double()
    terms = torch.where(alive.unsqueeze(1), nearest, value).square() * torch.arange(16.0).double()
    assert torch.allclose(weighed, terms.sum(1), rtol=1e-4, atol=1e-6)


def test_methods_by_pattern():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.Linear(32, 32))
    recipe = nvfp4_trt.RECIPES["w4a16"].model_copy(
        update={"weights": nvfp4_trt.Recipe(weights={"methods": {"1": "mse"}}).weights}
    )
    quantized = nvfp4_trt.quantize(model, recipe).module
    usual, mse = (nvfp4_trt.quantize(model, "w4a16", weights=m).module for m in ("max", "mse"))
    assert torch.equal(quantized[0].weight_packed, usual[0].weight_packed)
    assert torch.equal(quantized[1].weight_packed, mse[1].weight_packed)
    assert not torch.equal(mse[1].weight_packed, usual[1].weight_packed)
