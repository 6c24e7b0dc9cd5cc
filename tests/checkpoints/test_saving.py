"""A quantized model, saved and loaded: the very file that it exports to itself."""

import json
import sys

import onnx
import pytest
import torch
from models import make
from safetensors import safe_open
from torch import nn

import nvfp4_trt
from nvfp4_trt.errors import FormatCannotHoldError, OutputUnwritableError, WrongKindError
from nvfp4_trt.quantization import QuantizedModel
from nvfp4_trt.recipe import Recipe


class Shared(nn.Module):
    """Two layers of one weight, a buffer, and an embedding of its own."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(40, 32)
        self.one, self.two = nn.Linear(32, 32), nn.Linear(32, 32, bias=False)
        self.two.weight = self.one.weight
        self.register_buffer("shift", torch.tensor([0.5]))

    def forward(self, ids):
        return self.two(torch.relu(self.one(self.words(ids)))) + self.shift


def shared():
    torch.manual_seed(0)
    return Shared().eval()


def mlp():
    return make("mlp")[0]


def gpt2():
    return make("gpt2")[0]


def encoder():
    return make("encoder")[0]


def quantized(factory, recipe):
    name = factory.__name__
    batch = {"ids": torch.arange(8).reshape(2, 4)} if name == "shared" else make(name)[1]
    return nvfp4_trt.quantize(factory(), recipe, inputs=[batch]), batch


def graph_of(path):
    return onnx.load(path).graph


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setitem(sys.modules, "saving_models", sys.modules[__name__])


@pytest.mark.parametrize(
    ("factory", "recipe"),
    [(mlp, "w4a4-dynamic"), (gpt2, "w4a4-static"), (encoder, "w4a4-static"), (shared, "w4a4-static")],
)
def test_what_was_saved_exports_to_the_same_graph(factory, recipe, tmp_path):
    model, batch = quantized(factory, recipe)
    saved = nvfp4_trt.save(model, tmp_path / "model.safetensors")
    assert saved.bytes == saved.path.stat().st_size
    there = nvfp4_trt.export(model, tmp_path / "there.onnx", inputs=[batch])
    back = nvfp4_trt.export(
        saved.path, tmp_path / "back.onnx", inputs=[batch], factory=f"saving_models:{factory.__name__}"
    )
    assert [(each.name, each.precision) for each in back.layers] == [
        (each.name, each.precision) for each in there.layers
    ]
    one, other = graph_of(there.path), graph_of(back.path)
    assert list(one.initializer) == list(other.initializer)
    assert list(one.node) == list(other.node)


def test_a_file_says_the_rule_that_its_weights_were_rounded_by(tmp_path):
    model, batch = quantized(mlp, Recipe.model_validate({"weights": {"rule": "modelopt"}}))
    nvfp4_trt.save(model, tmp_path / "m.safetensors")
    back = nvfp4_trt.export(
        tmp_path / "m.safetensors", tmp_path / "m.onnx", inputs=[batch], factory="saving_models:mlp"
    )
    assert back.metadata.scale_rule == "modelopt"


def test_names_are_those_of_the_float_model_and_the_file_is_always_the_same(tmp_path):
    model, _ = quantized(gpt2, "w4a4-static")
    for name in ("a", "b"):
        nvfp4_trt.save(model, tmp_path / f"{name}.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        names, said = set(file.keys()), json.loads(file.metadata()["nvfp4.weights"])
    assert said["c_attn.weight"] == {
        "shape": [192, 64],
        "dtype": "float32",
        "transposed": True,
        "activation": "static",
    }
    floats = set(gpt2().state_dict())
    assert {name for name in names if not name.startswith(tuple(said))} == floats - set(said) - {"wte.weight"}


def test_what_a_conv1d_stores_has_no_place_elsewhere(tmp_path):
    model, _ = quantized(gpt2, "w4a4-static")
    nvfp4_trt.save(model, tmp_path / "m.safetensors")
    with pytest.raises(FormatCannotHoldError, match=r"c_attn\.weight is that of a Conv1D"):
        nvfp4_trt.convert(tmp_path / "m.safetensors", tmp_path / "out", to="modelopt")


def test_linear_layers_go_on_to_other_formats(tmp_path):
    model, _ = quantized(mlp, "w4a4-static")
    nvfp4_trt.save(model, tmp_path / "m.safetensors")
    made = nvfp4_trt.convert(tmp_path / "m.safetensors", tmp_path / "out", to="compressed-tensors")
    assert set(made.weights) == {"fc1.weight", "fc3.weight"}


def test_fp8_layers_have_no_place(tmp_path):
    model, _ = quantized(mlp, Recipe(fp8=("fc3",)))
    with pytest.raises(FormatCannotHoldError, match="the layer fc3 is FP8"):
        nvfp4_trt.save(model, tmp_path / "m.safetensors")


def test_what_no_file_can_hold(tmp_path):
    class Says(nn.Linear):
        def get_extra_state(self):
            return {"anything": 1}

        def set_extra_state(self, state):
            pass

    model = nn.Sequential(nn.Linear(32, 32), Says(8, 8))
    quantized = nvfp4_trt.quantize(model)
    assert isinstance(quantized, QuantizedModel)
    with pytest.raises(FormatCannotHoldError, match=r"1\._extra_state in the model's state dict is dict"):
        nvfp4_trt.save(quantized, tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OutputUnwritableError):
        nvfp4_trt.save(quantized, tmp_path / "nowhere" / "m.safetensors")


def test_weights_that_are_one_in_the_model_and_two_in_the_file(tmp_path):
    model, batch = quantized(shared, "w4a4-static")
    model.module.two.weight_packed = model.module.two.weight_packed ^ 1
    nvfp4_trt.save(model, tmp_path / "m.safetensors")
    with pytest.raises(WrongKindError, match="two is tied with another in the model, and differs"):
        nvfp4_trt.export(
            tmp_path / "m.safetensors", tmp_path / "m.onnx", inputs=[batch], factory="saving_models:shared"
        )
