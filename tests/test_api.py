"""The public functions, as a program calls them."""

import copy
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from models import OddMLP
from torch import nn

import nvfp4_trt
from nvfp4_trt.errors import (
    BelowThresholdError,
    InputsMismatchError,
    InputsMissingError,
    NonfiniteCalibrationError,
    OutputUnwritableError,
    PatternMatchesNothingError,
    RecipeInvalidError,
)
from nvfp4_trt.loading import load_inputs


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return OddMLP().eval()


def batches(count=2):
    generator = torch.Generator().manual_seed(2)
    return [{"x": torch.randn(4, 64, generator=generator)} for _ in range(count)]


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("api") / "mlp.onnx"
    return nvfp4_trt.export(model, path, inputs=batches(), dynamic=["batch"])


def test_importing_the_package_costs_nothing():
    code = "import sys, nvfp4_trt; print(dir(nvfp4_trt), {'torch', 'onnx', 'numpy'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip().endswith("set()")
    assert "'quantize'" in told


def test_every_public_name_is_there():
    for name in nvfp4_trt.__all__:
        assert getattr(nvfp4_trt, name) is not None
    assert dir(nvfp4_trt) == sorted(nvfp4_trt.__all__)
    with pytest.raises(AttributeError, match="quantise"):
        nvfp4_trt.quantise  # noqa: B018


def test_export_leaves_the_module_as_it_was(tmp_path):
    torch.manual_seed(0)
    model = OddMLP()
    model.head.train()
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    nvfp4_trt.export(model, tmp_path / "a.onnx", inputs=batches(), dtype="float16")
    assert type(model.fc1) is nn.Linear
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(tensor.dtype == torch.float32 for tensor in model.parameters())
    assert [m.training for m in model.modules()] == modes
    assert onnx.load(tmp_path / "a.onnx").graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16


def test_export_tells_of_every_layer(exported):
    assert {layer.name: layer.precision for layer in exported.layers} == {
        "fc1": "nvfp4",
        "fc2": "float32",
        "fc3": "nvfp4",
        "head": "float32",
    }
    assert exported.path.is_file()
    assert exported.metadata.example_shapes == {"x": [4, 64]}


def test_inputs_from_a_path_a_text_and_in_memory(model, exported, tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, x=batches()[0]["x"].numpy())
    given = load_inputs(model, source=str(path))
    found = [nvfp4_trt.compare(exported, model, inputs=inputs) for inputs in (path, str(path), given, batches(1))]
    assert all(result.outputs == found[0].outputs for result in found)


def test_random_inputs_are_the_seeds(model, exported):
    specs = ["x:float32:4x64"]
    first, again, other = (
        nvfp4_trt.compare(exported, model, input_specs=specs, seed=seed).outputs for seed in (0, 0, 1)
    )
    assert first == again != other


def test_compare_with_thresholds(model, exported):
    result = nvfp4_trt.compare(exported.path, model, inputs=batches(), min_sqnr=5, min_cosine=0.5)
    assert result.batches == 2
    with pytest.raises(BelowThresholdError, match="output"):
        nvfp4_trt.compare(exported, model, inputs=batches(), min_sqnr=80)


def test_saved_outputs_need_their_inputs(model, exported, tmp_path):
    saved = {"save_inputs": tmp_path / "i.json", "save_outputs": tmp_path / "o.json"}
    first = nvfp4_trt.compare(exported, model, inputs=batches(), **saved)
    again = nvfp4_trt.compare(exported, tmp_path / "o.json", inputs=tmp_path / "i.json")
    assert again.outputs == first.outputs
    for inputs in (None, batches()):
        with pytest.raises(InputsMissingError, match=r"o\.json holds saved outputs"):
            nvfp4_trt.compare(exported, tmp_path / "o.json", inputs=inputs)


def test_quantize_selects_by_pattern(model):
    quantized = nvfp4_trt.quantize(model, only=["fc*"], exclude=["fc3"])
    assert [layer.name for layer in quantized.layers if layer.quantized] == ["fc1"]
    with pytest.raises(PatternMatchesNothingError):
        nvfp4_trt.quantize(model, exclude=["fc9"])


def test_quantize_takes_a_recipe_in_any_form(model, tmp_path):
    (tmp_path / "r.yaml").write_text("base: w4a16\n")
    for recipe in ("w4a16", tmp_path / "r.yaml", nvfp4_trt.RECIPES["w4a16"]):
        assert nvfp4_trt.quantize(model, recipe).layers[0].precision == "nvfp4-weight-only"
    with pytest.raises(RecipeInvalidError):
        nvfp4_trt.quantize(model, "w4a5")


def test_a_static_recipe_calibrates_on_all_batches(model):
    small, large = batches(1)[0], {"x": batches(1)[0]["x"] * 50}
    one = nvfp4_trt.quantize(model, "w4a4-static", inputs=[small])
    both = nvfp4_trt.quantize(model, "w4a4-static", inputs=[small, large])
    ratio = both.module.fc1.input_quantizer.scale / one.module.fc1.input_quantizer.scale
    assert float(ratio) == pytest.approx(50, rel=1e-5)
    with pytest.raises(NonfiniteCalibrationError, match="fc1 in calibration batch 2"):
        nvfp4_trt.quantize(model, "w4a4-static", inputs=[small, {"x": torch.full((1, 64), float("inf"))}])


@pytest.mark.parametrize("given", [None, []])
def test_export_needs_inputs(model, tmp_path, given):
    with pytest.raises(InputsMissingError, match=r"forward\(x\)"):
        nvfp4_trt.export(model, tmp_path / "a.onnx", inputs=given)
    assert list(tmp_path.iterdir()) == []


def test_export_refuses_what_the_float_model_refuses(model, tmp_path):
    for x in (torch.zeros(2, 63), torch.zeros(2, 64, dtype=torch.int64), torch.zeros(2, 64).half()):
        with pytest.raises(InputsMismatchError):
            nvfp4_trt.export(model, tmp_path / "a.onnx", inputs=[{"x": x}])


def test_export_looks_at_its_output_before_anything_else(tmp_path):
    with pytest.raises(OutputUnwritableError):
        nvfp4_trt.export(tmp_path / "nowhere.pt", tmp_path / "no" / "a.onnx")
