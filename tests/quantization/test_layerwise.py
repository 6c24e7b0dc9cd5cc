"""Weight methods that look at inputs, on whole models: order of layers, inputs, errors, what is left behind."""

import itertools

import pytest
import torch
from models import GPT2Block, make
from torch import nn

import nvfp4_trt
from nvfp4_trt.errors import InputsMissingError, NonfiniteCalibrationError, NonfiniteWeightError
from nvfp4_trt.quantization.layerwise import Layerwise
from nvfp4_trt.quantization.modules import ActivationQuantizer, QuantLinear
from nvfp4_trt.recipe import RECIPES, ActivationScaling, Weights


class Deep(nn.Module):
    """Blocks with a residual, query, key and value of one tensor, and one block that runs twice."""

    def __init__(self, width=64):
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({n: nn.Linear(width, width) for n in ("q", "k", "out")}) for _ in range(3)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 32)

    def forward(self, x):
        for block in (*self.blocks, self.blocks[1]):
            h = self.norm(x)
            x = x + block["out"](torch.tanh(block["q"](h)) * block["k"](input=h))
        return self.head(x)


class Stacked(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        torch.manual_seed(0)
        self.count = 0
        self.body = nn.Sequential(*(nn.Sequential(nn.Linear(width, width), nn.GELU()) for _ in range(4)))
        self.body[1].register_forward_hook(self._counts)

    def _counts(self, *_):
        self.count += 1

    def forward(self, x):
        return self.body(x)


def batches(count=3, k=64):
    generator = torch.Generator().manual_seed(1)
    mix = torch.randn(k, k, generator=generator) / 8
    return [{"x": torch.randn(40, k, generator=generator) @ mix} for _ in range(count)]


def sqnr(module, quantized, given):
    with torch.no_grad():
        pairs = [(module(**b), quantized(**b)) for b in given]
    signal = sum(float(a.double().square().sum()) for a, _ in pairs)
    noise = sum(float((a - b).double().square().sum()) for a, b in pairs)
    return 10 * torch.log10(torch.tensor(signal / noise)).item()


@pytest.mark.parametrize("recipe", ["w4a16", "w4a4-dynamic-token", "w4a4-static"])
def test_the_model_errs_less(recipe):
    model, given = Deep().eval(), batches()
    usual, ours = (
        nvfp4_trt.quantize(model, recipe, inputs=given, weights=method).module for method in ("mse", "gptq+mse")
    )
    assert sqnr(model, ours, given) > sqnr(model, usual, given) + (1.5 if recipe == "w4a16" else 0.3)
    if recipe == "w4a4-static":  # of the float model, whatever became of the weights
        scales = [m.get_submodule("head").input_quantizer.scale for m in (usual, ours)]
        assert torch.equal(*scales)


def stages_of(model, given, scaling=ActivationScaling.NONE, needed=None):
    names = [name for name, child in model.named_modules() if type(child) is nn.Linear]
    quantizers = {name: ActivationQuantizer(scaling) for name in names}
    with Layerwise(model, quantizers, names if needed is None else needed, given) as layerwise:
        for stage in layerwise.stages():
            yield stage, layerwise


def test_layers_that_read_one_tensor_share_what_is_known_of_it():
    seen = []
    for stage, layerwise in stages_of(model := Deep().eval(), batches()):
        seen.append(stage.layers)
        for name in stage.layers:
            layerwise.replace(name, nvfp4_trt.quantize(nn.Sequential(model.get_submodule(name))).module[0])
    blocks = [((f"blocks.{i}.q", f"blocks.{i}.k"), (f"blocks.{i}.out",)) for i in range(3)]
    assert seen == [*itertools.chain(*blocks), ("head",)]


def test_inputs_are_those_that_quantized_layers_give_and_blocks_run_once():
    """The sums of each stage against hooks on models that run whole, each time from the start."""
    model, given = Stacked().eval(), batches()
    reference, half = Stacked().eval(), Stacked().eval()
    for stage, layerwise in stages_of(model, given, ActivationScaling.DYNAMIC_TOKEN):
        (name,) = stage.layers
        seen, float_seen = [], []
        for net, kept in ((half, seen), (reference, float_seen)):
            handle = net.get_submodule(name).register_forward_pre_hook(lambda _m, a, kept=kept: kept.append(a[0]))
            with torch.no_grad():
                for batch in given:
                    net(**batch)
            handle.remove()
        x = ActivationQuantizer(ActivationScaling.DYNAMIC_TOKEN)(torch.cat(seen).detach()).double()
        assert torch.allclose(stage.moments.inputs, x.t() @ x, rtol=1e-4, atol=1e-4)
        crossed = torch.cat(float_seen).detach().double().t() @ x
        assert torch.allclose(stage.moments.crossed, crossed, rtol=1e-4, atol=1e-4)
        layer = nvfp4_trt.quantize(nn.Sequential(model.get_submodule(name))).module[0]
        assert isinstance(layer, QuantLinear)
        layerwise.replace(name, layer)
        half.get_submodule(name.rpartition(".")[0])[0] = layer
    assert not torch.equal(reference(**given[0]), half(**given[0]))
    # Once to look, once for its own sums in the float model, and once with it quantized; hooks know a replay too.
    assert "forward" not in model.body[1].__dict__
    assert torch.equal(model(**given[0]), reference(**given[0]))


def test_a_block_that_is_done_does_not_run_again():
    model, given, ran = Stacked().eval(), batches(2), []
    model.body[0][1].register_forward_hook(lambda *_: ran.append(1))
    for stage, layerwise in stages_of(model, given):
        for name in stage.layers:
            layerwise.replace(name, nvfp4_trt.quantize(nn.Sequential(model.get_submodule(name))).module[0])
    assert len(ran) == 2 * 2  # a batch, a model; its layer's inputs are known before the activation runs


def test_padding_does_not_count():
    class Masked(Stacked):
        def forward(self, x, attention_mask):
            return self.body(x) * attention_mask.unsqueeze(-1)

    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]])
    x = torch.randn(2, 4, 64)
    other = torch.where(mask.unsqueeze(-1) == 1, x, 1e3 * torch.randn(2, 4, 64))
    made = [
        nvfp4_trt.quantize(
            Masked().eval(), "w4a16", weights="gptq", inputs=[{"x": t, "attention_mask": mask}] * 2
        ).module
        for t in (x, other)
    ]
    assert torch.equal(made[0].body[0][0].weight_packed, made[1].body[0][0].weight_packed)


@pytest.mark.parametrize("name", ["mlp", "gpt2", "llama", "encoder"])
def test_models_of_every_kind(name):
    model, batch, _ = make(name)
    packed = [nvfp4_trt.quantize(model, inputs=[batch], weights="gptq+four-over-six") for _ in range(2)]
    states = [{k: v for k, v in p.module.state_dict().items() if v is not None} for p in packed]
    assert all(
        torch.equal(v.view(-1).view(torch.uint8), states[1][k].view(-1).view(torch.uint8))
        for k, v in states[0].items()
    )
    assert any("weight_packed" in key for key in states[0])
    if name == "gpt2":  # the embedding reads what the head's method packed
        assert torch.equal(packed[0].module.wte.weight_packed, packed[0].module.lm_head.weight_packed)
        assert isinstance(model, GPT2Block)


def test_methods_by_pattern_and_the_layers_between():
    recipe = RECIPES["w4a16"].model_copy(
        update={"weights": Weights(method="mse", methods={"blocks.*": "gptq+mse", "blocks.1.*": "max"})}
    )
    model, given = Deep().eval(), batches()
    made = nvfp4_trt.quantize(model, recipe, inputs=(b for b in given)).module
    plain = {m: nvfp4_trt.quantize(model, "w4a16", weights=m).module for m in ("max", "mse")}

    def same(name, method):
        return torch.equal(made.get_submodule(name).weight_packed, plain[method].get_submodule(name).weight_packed)

    assert same("head", "mse")
    assert same("blocks.1.q", "max")
    assert not same("blocks.0.q", "mse")
    assert not same("blocks.2.out", "mse")


def test_no_inputs():
    with pytest.raises(InputsMissingError, match=r"the weight method gptq\+mse of the layer blocks\.0\.q"):
        nvfp4_trt.quantize(Deep(), weights="gptq+mse")


def test_a_layer_that_never_runs():
    model = Deep()
    model.spare = nn.Linear(64, 64)
    with pytest.raises(InputsMissingError, match="the layer spare never ran") as caught:
        nvfp4_trt.quantize(model, weights="gptq", inputs=batches())
    assert "--exclude 'spare'" in caught.value.hint
    recipe = RECIPES["w4a16"].model_copy(update={"weights": Weights(method="gptq", methods={"spare": "max"})})
    assert nvfp4_trt.quantize(model, recipe, inputs=batches()).module.spare.weight_packed is not None


def test_what_is_not_finite_is_named():
    given = batches()
    given[1]["x"][3, 5] = float("nan")
    with pytest.raises(NonfiniteCalibrationError, match=r"entered the layer blocks\.0\.q in calibration batch 2"):
        nvfp4_trt.quantize(Deep(), weights="gptq", inputs=given)
    model = Deep()
    with torch.no_grad():
        model.head.weight[0, 0] = float("inf")
    with pytest.raises(NonfiniteWeightError, match=r"the weight head\.weight holds 1"):
        nvfp4_trt.quantize(model, "w4a16", weights="gptq", inputs=batches())
    assert not any("forward" in module.__dict__ for module in model.modules())
