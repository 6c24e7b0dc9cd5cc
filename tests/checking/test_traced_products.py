"""Products that are no module's: a PyTorch model has the rows of its exported file."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import nvfp4_trt
from nvfp4_trt.checking import check
from nvfp4_trt.errors import InputsMismatchError, WrongKindError


def rows(checked):
    """Return what is said of each layer: all but the words of an exporter that said why it left one."""
    return {(x.name, x.precision, x.code, "" if x.code == "told" else x.reason) for x in checked.layers}


@pytest.mark.parametrize("name", ["mlp", "gpt2", "llama", "encoder", "heads", "rank4"])
def test_a_module_has_the_rows_of_its_exported_file(portable, name):
    made = portable(name)
    checked = check(made.module, inputs=[made.batch])
    assert rows(checked) == rows(check(made.path))
    assert checked.traced
    products = {x.name for x in checked.layers} - {x.name for x in check(made.module).layers}
    assert bool(products) == (name in {"gpt2", "llama", "encoder", "heads"})  # which have an attention


class Functions(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 64)
        self.weight = nn.Parameter(torch.randn(64, 64))
        self.kernel = nn.Parameter(torch.randn(8, 2, 3, 3))

    def forward(self, x):
        y = self.linear(x)
        scores = torch.bmm(y, x.transpose(1, 2)).softmax(-1)
        mixed = torch.einsum("bij,bjk->bik", scores, x) @ self.weight
        picture = F.conv2d(mixed.reshape(-1, 2, 8, 8), self.kernel)
        return mixed, picture, F.scaled_dot_product_attention(x[:, None], y[:, None], y[:, None])


@pytest.fixture(scope="module")
def functions():
    torch.manual_seed(0)
    return Functions().eval(), {"x": torch.randn(2, 4, 64)}


def test_each_kind_of_product_has_its_reason(functions, tmp_path):
    module, batch = functions
    verdicts = check(module, inputs=[batch]).layers
    found = {x.code for x in verdicts if x.name != "linear"}
    assert found == {"two-activations", "hidden-products", "told", "convolution"}
    assert [x.name for x in verdicts if x.precision == "nvfp4"] == ["linear"]
    nvfp4_trt.export(module, tmp_path / "m.onnx", inputs=[batch])
    exported = check(tmp_path / "m.onnx").layers
    assert sorted(x.name for x in verdicts) == sorted(x.name for x in exported)
    assert [x.name for x in exported if x.precision == "nvfp4"] == ["linear"]


def test_a_program_carries_its_inputs(functions, tmp_path):
    module, batch = functions
    torch.export.save(torch.export.export(module, (), batch), tmp_path / "m.pt2")
    checked = check(tmp_path / "m.pt2")
    assert checked.traced
    assert {x.code for x in checked.layers} >= {"two-activations", "hidden-products"}


def test_without_inputs_it_is_said_that_rows_are_missing(functions):
    checked = check(functions[0])
    assert not checked.traced
    assert [x.name for x in checked.layers] == ["linear"]


def test_a_quantized_model_has_them_too(functions):
    module, batch = functions
    checked = check(nvfp4_trt.quantize(module, inputs=[batch]), inputs=[batch])
    assert checked.quantized
    assert {x.code for x in checked.layers} >= {"two-activations", "hidden-products"}
    assert [x.name for x in checked.layers].count("linear") == 1


def test_the_module_stays_as_it_is(functions):
    module, batch = functions
    before = {name: value.clone() for name, value in module.state_dict().items()}
    check(module, inputs=[batch])
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert {name: type(child) for name, child in module.named_children()} == {"linear": nn.Linear}


def test_inputs_that_do_not_fit_are_refused(functions, portable):
    module, _ = functions
    with pytest.raises(InputsMismatchError):
        check(module, inputs=[{"x": torch.randn(2, 4, 63)}])
    with pytest.raises(InputsMismatchError, match="'y'"):
        check(module, input_specs=["y:float32:2x4x64"])
    with pytest.raises(WrongKindError, match="is an ONNX file"):
        check(portable("mlp").path, input_specs=["x:float32:3x64"])
