"""Smoothing and low-rank branches: the float model computes the same, and FP4 errs less."""

import copy

import pytest
import torch
from torch import nn

import nvfp4_trt
from nvfp4_trt.errors import InputsMissingError, NonfiniteCalibrationError, RecipeInvalidError
from nvfp4_trt.quantization.transforms import BUFFERS, transform
from nvfp4_trt.recipe import RECIPES, Recipe, Smooth, Weights, refuse_transforms

NAMES = ("q", "k", "up", "down")


class Block(nn.Module):
    """q and k read one tensor; a few channels of it are large."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(64)
        self.q, self.k, self.up, self.down = (
            nn.Linear(64, 64),
            nn.Linear(64, 64),
            nn.Linear(64, 128),
            nn.Linear(128, 64),
        )

    def forward(self, x):
        y = self.norm(x)
        z = x + torch.tanh(self.q(y)) * self.k(input=y)
        return z + self.down(torch.relu(self.up(z)))


def block(dtype=torch.float32):
    torch.manual_seed(0)
    model = Block().to(dtype).eval()
    with torch.no_grad():
        model.norm.weight[::9] *= 12
    return model


def batches(count=4, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return [{"x": torch.randn(2, 24, 64, generator=generator).to(dtype)} for _ in range(count)]


def sqnr(model, quantized, held_out):
    with torch.no_grad():
        pairs = [(model(**batch), quantized(**batch)) for batch in held_out]
    noise = sum(float((a - b).double().square().sum()) for a, b in pairs)
    return 10 * torch.log10(torch.tensor(sum(float(a.double().square().sum()) for a, _ in pairs) / noise))


def recipe(smooth=None, low_rank=0, base="w4a4-dynamic-token", method="max"):
    weights = Weights(low_rank=low_rank, method=method)
    return RECIPES[base].model_copy(update={"smooth": smooth, "weights": weights})


TRANSFORMS = (
    recipe(Smooth(method="smoothquant", alpha=0.5)),
    recipe(Smooth(method="awq", alpha=0.4)),
    recipe(low_rank=8),
    recipe(Smooth(), low_rank=8),
)


@pytest.mark.parametrize("chosen", TRANSFORMS, ids=lambda chosen: ", ".join(chosen.transforms))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_float_model_computes_the_same(chosen, dtype):
    model = block(dtype)
    changed = copy.deepcopy(model)
    assert transform(changed, NAMES, chosen, batches(dtype=dtype)) == {}
    assert not torch.equal(changed.q.weight, model.q.weight)
    x = batches(5, dtype)[-1]["x"]
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(changed(x), model(x), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("chosen", TRANSFORMS, ids=lambda chosen: ", ".join(chosen.transforms))
def test_fp4_errs_less(chosen):
    model, held_out = block(), batches(6)[4:]
    plain = nvfp4_trt.quantize(model, recipe()).module
    better = nvfp4_trt.quantize(model, chosen, inputs=batches()).module
    assert sqnr(model, better, held_out) > sqnr(model, plain, held_out) + 0.4


@pytest.mark.parametrize(
    ("smooth", "low_rank", "base"),
    [(Smooth(), 0, "w4a4-dynamic-token"), (None, 8, "w4a4-dynamic-token"), (Smooth(), 8, "w4a4-static")],
)
def test_gptq_gains_on_top_of_transforms(smooth, low_rank, base):
    """It comes after them: it quantizes the weights that they leave, for the inputs that they make."""
    model, held_out = block(), batches(12)[8:]
    before, after = (
        nvfp4_trt.quantize(model, recipe(smooth, low_rank, base, method), inputs=batches(8)).module
        for method in ("max", "gptq+mse")
    )
    assert sqnr(model, after, held_out) > sqnr(model, before, held_out) + 0.4
    for name in BUFFERS:
        held = before.up._buffers.get(name)
        assert held is None or torch.equal(held, after.up.get_buffer(name))


def test_layers_that_read_one_tensor_share_factors_and_the_branch_input():
    made = nvfp4_trt.quantize(block(), recipe(Smooth(), low_rank=8), inputs=batches()).module
    assert torch.equal(made.q.input_scale, made.k.input_scale)
    assert torch.equal(made.q.low_rank_down, made.k.low_rank_down)
    assert not torch.equal(made.q.low_rank_up, made.k.low_rank_up)
    assert not torch.equal(made.q.input_scale, made.up.input_scale)


def test_static_scales_are_those_of_the_smoothed_inputs():
    chosen = recipe(Smooth(), base="w4a4-static")
    made = nvfp4_trt.quantize(block(), chosen, inputs=batches()).module
    model, seen = block(), []
    model.q.register_forward_pre_hook(lambda _, args: seen.append(args[0] * made.q.input_scale))
    for batch in batches():
        model(**batch)
    amax = torch.stack([x.abs().amax() for x in seen]).amax()
    torch.testing.assert_close(made.q.input_quantizer.scale * 2688, amax)


def test_a_tied_weight_is_left_and_the_table_says_why():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.mid, self.head = (
                nn.Embedding(80, 64),
                nn.Linear(64, 64),
                nn.Linear(64, 80, bias=False),
            )
            self.head.weight = self.embed.weight

        def forward(self, ids):
            return self.head(self.mid(self.embed(ids)))

    given = [{"ids": torch.arange(40).view(2, 20)}]
    made = nvfp4_trt.quantize(Tied().eval(), recipe(Smooth(), low_rank=8), inputs=given)
    reasons = {layer.name: layer.reason for layer in made.layers}
    assert reasons["head"] == "no low-rank branch: its weight is shared with another layer"
    assert reasons["mid"] == ""
    assert not hasattr(made.module.head, "input_scale")


def test_a_small_layer_gets_no_branch():
    made = nvfp4_trt.quantize(block(), recipe(low_rank=20), inputs=batches())
    reasons = {layer.name: layer.reason for layer in made.layers}
    assert set(reasons.values()) == {"no low-rank branch: 20 is more than a quarter of N or K"}


def test_inputs_are_needed():
    with pytest.raises(InputsMissingError, match="`smooth: smoothquant` looks at what enters"):
        nvfp4_trt.quantize(block(), recipe(Smooth()))


def test_nan_is_named():
    broken = [{"x": torch.full((1, 8, 64), float("nan"))}]
    with pytest.raises(NonfiniteCalibrationError, match="the layer q in calibration batch 1"):
        nvfp4_trt.quantize(block(), recipe(Smooth()), inputs=broken)


def test_refused_where_nothing_applies_it(tmp_path):
    refuse_transforms(Recipe(), "anything")
    with pytest.raises(RecipeInvalidError, match="low_rank: 8"):
        refuse_transforms(recipe(low_rank=8), "no")
    with pytest.raises(RecipeInvalidError, match="smooth: awq"):
        nvfp4_trt.calibrate(block(), recipe(Smooth(method="awq"), base="w4a4-static"), inputs=batches())
    quantized = nvfp4_trt.quantize(block(), recipe(low_rank=8), inputs=batches())
    with pytest.raises(RecipeInvalidError, match="no checkpoint format holds"):
        nvfp4_trt.save(quantized, tmp_path / "model.safetensors")


def test_the_same_bytes_again():
    chosen = recipe(Smooth(), low_rank=8)
    one, other = (nvfp4_trt.quantize(block(), chosen, inputs=batches()).module for _ in range(2))
    for (name, a), (_, b) in zip(one.named_buffers(), other.named_buffers(), strict=True):
        assert torch.equal(a.contiguous().reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8)), name
