import pytest
import torch
from models import GPT2Block, OddMLP
from torch import nn
from torch.nn.utils import parametrizations

from nvfp4_trt import quantize
from nvfp4_trt.errors import NonfiniteWeightError
from nvfp4_trt.quantization import QuantEmbedding, QuantLinear
from nvfp4_trt.quantization.convert import quantize_module
from nvfp4_trt.recipe import RECIPES


def sqnr(reference, got):
    return float(10 * torch.log10(reference.square().sum() / (reference - got).square().sum()))


def test_the_original_is_left_as_it_was():
    torch.manual_seed(0)
    model = OddMLP()
    x = torch.randn(3, 64)
    before = model(x)
    quantized = quantize(model)
    assert isinstance(quantized.module.fc1, QuantLinear)
    assert torch.equal(model(x), before)
    assert model.training
    assert quantized.module.training
    assert isinstance(quantized(x), torch.Tensor)


def test_inplace_changes_the_module_itself():
    model = OddMLP()
    assert quantize(model, inplace=True).module is model
    assert isinstance(model.fc1, QuantLinear)


def test_a_module_that_is_itself_a_layer():
    root = nn.Linear(64, 32)
    quantized = quantize(root)
    assert isinstance(quantized.module, QuantLinear)
    assert [(layer.name, layer.precision) for layer in quantized.layers] == [("", "nvfp4")]


def test_the_table_and_the_modules_agree():
    quantized = quantize(OddMLP(), exclude=["fc3"])
    for layer in quantized.layers:
        assert isinstance(quantized.module.get_submodule(layer.name), QuantLinear) == layer.quantized
    assert {layer.name: layer.precision for layer in quantized.layers} == {
        "fc1": "nvfp4",
        "fc2": "float32",
        "fc3": "float32",
        "head": "float32",
    }


def test_conv1d_keeps_its_meaning():
    from transformers.pytorch_utils import Conv1D

    torch.manual_seed(0)
    layer = Conv1D(96, 64)
    nn.init.normal_(layer.bias)
    x = torch.randn(32, 64)
    quantized = quantize(layer, "w4a16").module
    assert (quantized.in_features, quantized.out_features) == (64, 96)
    assert sqnr(layer(x), quantized(x)) > 17


def test_a_parametrized_weight_is_taken_as_it_comes_out():
    torch.manual_seed(0)
    layer = parametrizations.weight_norm(nn.Linear(64, 32))
    with torch.no_grad():
        layer.parametrizations.weight.original0.mul_(3)
    x = torch.randn(16, 64)
    quantized = quantize(nn.Sequential(layer), "w4a16").module
    assert sqnr(layer(x), quantized(x)) > 17


def test_an_overridden_forward_stays():
    class Doubled(nn.Linear):
        def forward(self, x):
            return super().forward(x) * 2

    model = nn.Sequential(Doubled(64, 64), nn.Linear(64, 32))
    quantized = quantize(model).module
    assert type(quantized[0]) is Doubled
    assert isinstance(quantized[1], QuantLinear)


def test_a_weight_tied_between_embedding_and_head_is_packed_once():
    torch.manual_seed(0)
    model = GPT2Block().eval()
    quantized = quantize(model)
    head, table = quantized.module.lm_head, quantized.module.wte
    assert isinstance(table, QuantEmbedding)
    assert table.weight_packed is head.weight_packed
    assert table.weight_block_scale is head.weight_block_scale
    assert quantized.layers[-1].name == "wte"
    assert (quantized.layers[-1].kind, quantized.layers[-1].precision) == ("Embedding", "nvfp4")
    ids = torch.randint(0, 320, (2, 12))
    assert sqnr(model(ids), quantized(ids)) > 8


def test_an_embedding_tied_to_nothing_stays():
    model = nn.Sequential(nn.Embedding(64, 64), nn.Linear(64, 64))
    assert type(quantize(model).module[0]) is nn.Embedding


def test_an_embedding_that_does_more_than_look_up_stays():
    class ScaledEmbedding(nn.Embedding):
        def forward(self, x):
            return super().forward(x) * 8

    model = nn.Sequential(ScaledEmbedding(96, 64), nn.Linear(64, 96, bias=False))
    model[1].weight = model[0].weight
    quantized = quantize(model).module
    assert type(quantized[0]) is ScaledEmbedding
    ids = torch.arange(96)
    assert torch.equal(quantized[0](ids), model[0](ids))


def test_an_embedding_with_a_largest_norm_stays():
    model = nn.Sequential(nn.Embedding(96, 64, max_norm=1.0), nn.Linear(64, 96, bias=False))
    model[1].weight = model[0].weight
    assert type(quantize(model).module[0]) is nn.Embedding


def test_linears_that_share_a_weight_share_its_packed_form():
    a, b, other = (nn.Linear(64, 64) for _ in range(3))
    b.weight = a.weight
    quantized = quantize(nn.Sequential(a, b, other)).module
    assert quantized[0].weight_packed is quantized[1].weight_packed
    assert quantized[0].weight_packed is not quantized[2].weight_packed
    assert not torch.equal(quantized[0].bias, quantized[1].bias)


def test_a_module_used_at_two_places_stays_one():
    shared = nn.Linear(64, 64)
    quantized = quantize(nn.ModuleDict({"a": nn.Sequential(shared), "b": shared})).module
    assert isinstance(quantized["b"], QuantLinear)
    assert quantized["a"][0] is quantized["b"]


def test_hooks_are_carried_over():
    model = nn.Sequential(nn.Linear(64, 32))
    seen = []
    model[0].register_forward_pre_hook(lambda _m, args: seen.append(("pre", args[0].shape)))
    model[0].register_forward_pre_hook(lambda _m, _a, kwargs: seen.append(("pre", dict(kwargs))), with_kwargs=True)
    model[0].register_forward_hook(lambda _m, _a, y: seen.append(("post", y.shape)))
    model[0].register_forward_hook(
        lambda _m, _a, kwargs, _y: seen.append(("post", dict(kwargs))), with_kwargs=True
    )
    quantize(model, inplace=True).module(torch.zeros(2, 64))
    assert seen == [("pre", (2, 64)), ("pre", {}), ("post", (2, 32)), ("post", {})]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_weight_that_is_not_finite_is_named(value, dtype):
    model = nn.ModuleDict({"block": nn.Sequential(nn.Linear(64, 32), nn.Linear(32, 32))}).to(dtype)
    with torch.no_grad():
        model["block"][1].weight[3, :2] = value
    with pytest.raises(NonfiniteWeightError) as caught:
        quantize(model)
    assert caught.value.message == "the weight block.1.weight holds 2 values that are NaN or infinite"
    assert "--exclude 'block.1'" in caught.value.hint
    quantized = quantize(model, exclude=["block.1"])
    assert isinstance(quantized.module["block"][0], QuantLinear)


def test_patterns_add_to_a_recipes_own():
    recipe = RECIPES["w4a4-dynamic"].model_copy(update={"exclude": ("0",)})
    model = nn.Sequential(*(nn.Linear(64, 64) for _ in range(3)))
    layers = quantize(model, recipe, exclude=["2"]).layers
    assert [layer.quantized for layer in layers] == [False, True, False]


def test_a_static_recipe_takes_its_scales_from_the_calibrator():
    model = nn.Sequential(nn.Linear(64, 64))
    made = quantize_module(
        model, RECIPES["w4a4-static"], calibrate=lambda _root, names: dict.fromkeys(names, 268.8)
    )
    assert float(made.module[0].input_quantizer.scale) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="calibrator"):
        quantize_module(model, RECIPES["w4a4-static"])


def test_a_whole_model_keeps_its_state_through_a_file(tmp_path):
    torch.manual_seed(0)
    batches = [{"x": torch.randn(4, 64)}]
    one = quantize(OddMLP().eval(), "w4a4-static", inputs=batches).module
    torch.save(one.state_dict(), tmp_path / "q.pt")
    two = quantize(OddMLP().eval(), "w4a4-static", inputs=[{"x": torch.ones(1, 64)}]).module
    two.load_state_dict(torch.load(tmp_path / "q.pt", weights_only=True))
    assert torch.equal(one(**batches[0]), two(**batches[0]))


def test_a_tied_model_runs_after_half():
    model = quantize(GPT2Block().eval(), "w4a16").module.half()
    assert model(torch.randint(0, 320, (1, 8))).dtype == torch.float16
