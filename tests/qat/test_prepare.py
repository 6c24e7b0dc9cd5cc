"""A prepared model: the same parameters and names, and the numbers that it will have once it is converted."""

import copy
import pickle

import pytest
import torch
from models import GPT2Block, make
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import nvfp4_trt
from nvfp4_trt.quantization import QuantEmbedding, QuantLinear
from nvfp4_trt.recipe import RECIPES, Recipe

STATIC = "w4a4-static"


def prepared(name, recipe, **options):
    model, batch, _ = make(name)
    return nvfp4_trt.prepare_qat(model, recipe, inputs=[batch], **options), batch


def trained(model, batch, steps=1):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model(**batch).float().square().mean().backward()
        optimizer.step()
    return model.eval()


def assert_converts_to_what_it_shows(model, batch):
    with torch.no_grad():
        shown = model(**batch)
        converted = nvfp4_trt.convert_qat(model)
        assert torch.equal(converted(**batch), shown)
    return converted


@pytest.mark.parametrize("recipe", list(RECIPES))
@pytest.mark.parametrize("name", ["mlp", "gpt2", "encoder"])
def test_what_is_converted_is_what_training_showed(name, recipe):
    model, batch = prepared(name, recipe)
    converted = assert_converts_to_what_it_shows(trained(model, batch), batch)
    model_again, _, _ = make(name)
    fresh = nvfp4_trt.quantize(model_again, recipe, inputs=[batch])
    assert converted.layers == fresh.layers == nvfp4_trt.qat_state(model).layers
    assert converted.recipe == fresh.recipe
    assert [type(m) for m in converted.module.modules()] == [type(m) for m in fresh.module.modules()]
    with torch.no_grad():
        assert not torch.equal(converted(**batch), fresh(**batch)), "training changed nothing"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("recipe", ["w4a4-dynamic-token", STATIC])
def test_16_bit_models(dtype, recipe):
    model, batch, _ = make("llama")
    model, batch = model.to(dtype), {"x": batch["x"].to(dtype)}
    nvfp4_trt.prepare_qat(model, recipe, inputs=[batch])
    assert_converts_to_what_it_shows(trained(model, batch), batch)
    assert {p.grad.dtype for p in model.parameters()} == {dtype}


def test_a_16_bit_activation_meets_a_weight_that_is_rounded_once():
    model, _ = prepared("mlp", "w4a4-dynamic-token")
    for x in (torch.randn(3, 64).half(), torch.randn(3, 64).bfloat16()):
        layer, packed = model.fc1, nvfp4_trt.convert_qat(model).module.fc1
        assert torch.equal(layer(x), packed(x))
    wide = torch.randn(3, 64)
    half = nvfp4_trt.prepare_qat(make("mlp")[0].half())
    assert torch.equal(half.fc1(wide), nvfp4_trt.convert_qat(half).module.fc1(wide))


@pytest.mark.parametrize("rule", ["torchao", "modelopt", "compressed-tensors"])
def test_the_rounding_of_other_packages(rule):
    recipe = Recipe.model_validate({"weights": {"rule": rule}})
    model, batch = prepared("mlp", recipe)
    assert_converts_to_what_it_shows(trained(model, batch), batch)


@pytest.mark.parametrize("name", ["mlp", "gpt2", "encoder"])
def test_parameters_and_names_stay(name):
    model, batch, _ = make(name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.train()
    model(**batch).square().mean().backward()
    optimizer.step()
    names, objects = list(model.state_dict()), [id(p) for p in model.parameters()]
    moments = {id(p): each["exp_avg"].clone() for p, each in optimizer.state.items()}
    modules = [id(m) for m in model.modules()]
    checkpoint = copy.deepcopy(model.state_dict())

    assert nvfp4_trt.prepare_qat(model, STATIC, inputs=[batch]) is model
    assert list(model.state_dict()) == names
    assert [id(p) for p in model.parameters()] == objects
    assert set(modules) <= {id(m) for m in model.modules()}
    assert model.training
    assert all(torch.equal(each["exp_avg"], moments[id(p)]) for p, each in optimizer.state.items())
    before = [p.detach().clone() for p in model.parameters()]
    model(**batch).square().mean().backward()
    optimizer.step()
    assert any(not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    model.load_state_dict(checkpoint)  # of the float model
    make(name)[0].load_state_dict(model.state_dict())  # and back


def test_converting_leaves_the_model_to_be_trained_further():
    model, batch = prepared("gpt2", STATIC)
    first = nvfp4_trt.convert_qat(model)
    with torch.no_grad():
        before = first(**batch)
    trained(model, batch)
    with torch.no_grad():
        assert torch.equal(first(**batch), before), "they share a tensor"
    assert not first.module.training
    assert_converts_to_what_it_shows(model, batch)


def test_tied_and_shared_weights():
    model, batch = prepared("gpt2", "w4a4-dynamic-token")
    converted = assert_converts_to_what_it_shows(trained(model, batch), batch).module
    assert isinstance(converted.wte, QuantEmbedding)
    assert converted.wte.weight_packed is converted.lm_head.weight_packed

    two = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 32))
    two[1].weight = two[0].weight
    nvfp4_trt.prepare_qat(two)
    two(torch.randn(4, 32)).sum().backward()
    converted = nvfp4_trt.convert_qat(two).module
    assert converted[0].weight_packed is converted[1].weight_packed


def test_an_embedding_keeps_its_options():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(48, 32, padding_idx=2, scale_grad_by_freq=True)
            self.head = nn.Linear(32, 48, bias=False)
            self.head.weight = self.words.weight

        def forward(self, ids):
            return self.words(ids)

    gradients = []
    for prepare in (lambda model: model, nvfp4_trt.prepare_qat):
        torch.manual_seed(0)
        model = prepare(Tied())
        model(torch.tensor([1, 2, 3, 3])).sum().backward()
        gradients.append(model.words.weight.grad)
    assert torch.equal(*gradients)
    assert not gradients[1][2].any()


def test_an_embedding_that_is_not_tied_stays_float():
    model = GPT2Block()
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    nvfp4_trt.prepare_qat(model)
    assert type(model.wte) is nn.Embedding


ATTENTIONS = {
    "packed": ({}, {}),
    "no bias": ({"bias": False}, {}),
    "kdim and vdim": ({"kdim": 48, "vdim": 32, "batch_first": True}, {}),
    "some projections": ({}, {"exclude": ["q_proj", "out_proj"]}),
}


@pytest.mark.parametrize("case", ATTENTIONS)
@pytest.mark.parametrize("recipe", ["w4a4-dynamic", STATIC])
def test_attention_is_trained_opened_and_keeps_its_packed_parameter(case, recipe):
    options, patterns = ATTENTIONS[case]
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(32, 4, **options)
    names = list(attention.state_dict())
    batch = {
        "query": torch.randn(2, 5, 32),
        "key": torch.randn(2, 5, options.get("kdim", 32)),
        "value": torch.randn(2, 5, options.get("vdim", 32)),
    }
    nvfp4_trt.prepare_qat(attention, recipe, inputs=[batch], **patterns)
    attention(**batch)[0].square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in attention.parameters() if p.dim() == 2)
    torch.optim.SGD(attention.parameters(), lr=0.01).step()
    attention.eval()
    with torch.no_grad():
        shown, weights = attention(**batch)
        converted = nvfp4_trt.convert_qat(attention)
        found = converted(**batch)
    assert torch.equal(found[0], shown)
    assert torch.equal(found[1], weights)
    assert list(attention.state_dict()) == names
    assert isinstance(attention, nn.MultiheadAttention)
    quantized = {name for name, m in converted.module.named_modules() if isinstance(m, QuantLinear)}
    assert quantized == {"q_proj", "k_proj", "v_proj", "out_proj"} - set(patterns.get("exclude", ()))


def test_attention_that_cannot_be_opened_stays():
    attention = nn.MultiheadAttention(32, 4, add_zero_attn=True)
    model = nn.ModuleDict({"attention": attention, "linear": nn.Linear(32, 32)})
    nvfp4_trt.prepare_qat(model)
    assert type(model["attention"]) is nn.MultiheadAttention
    assert type(attention.out_proj) is type(nn.MultiheadAttention(32, 4).out_proj)


def test_a_parametrized_weight_is_rounded_after_it_is_computed():
    torch.manual_seed(0)
    model = nn.Sequential(weight_norm(nn.Linear(32, 48)), nn.ReLU(), nn.Linear(48, 32))
    names = list(model.state_dict())
    nvfp4_trt.prepare_qat(model)
    assert list(model.state_dict()) == names
    batch = {"input": torch.randn(5, 32)}
    assert_converts_to_what_it_shows(trained(model, batch), batch)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("name", ["gpt2", "encoder"])
def test_copies_and_pickles(name, again):
    model, batch = prepared(name, STATIC)
    other = again(model)
    assert {id(p) for p in other.parameters()}.isdisjoint({id(p) for p in model.parameters()})
    with torch.no_grad():
        assert torch.equal(other(**batch), model(**batch))
    assert_converts_to_what_it_shows(other, batch)


def test_static_scales_are_those_of_the_float_model_and_stay():
    model, batch = prepared("mlp", STATIC)
    state = nvfp4_trt.qat_state(model)
    assert set(state.amaxes) == {"fc1", "fc3"}
    assert state.amaxes["fc1"] == batch["x"].abs().max().item()
    trained(model, batch, steps=3)
    assert nvfp4_trt.qat_state(model).amaxes == state.amaxes
    resumed = nvfp4_trt.prepare_qat(make("mlp")[0], STATIC, amaxes=state.amaxes)
    resumed.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(resumed.eval()(**batch), model(**batch))


def test_scales_of_a_calibration(tmp_path):
    model, batch, _ = make("mlp")
    found = nvfp4_trt.calibrate(model, STATIC, inputs=[batch])
    found.save(tmp_path / "scales.json")
    nvfp4_trt.prepare_qat(model, calibration=tmp_path / "scales.json")
    state = nvfp4_trt.qat_state(model)
    assert state.recipe == found.recipe
    assert state.amaxes == {layer.name: layer.amax for layer in found.layers}
    with pytest.raises(nvfp4_trt.Nvfp4Error) as caught:
        nvfp4_trt.prepare_qat(make("mlp")[0], calibration=found, only=["fc1"])
    assert caught.value.code == "calibration-mismatch"


def test_a_scale_follows_the_model_and_keeps_its_dtype():
    model, _ = prepared("mlp", STATIC)
    scale = model.half().fc1.fake_quantized.input_quantizer.scale
    assert scale.dtype == torch.float32
    assert model.to("meta").fc1.fake_quantized.input_quantizer.scale.device.type == "meta"
