"""What preparing and converting refuse, and what they say."""

import math

import pytest
import torch
from models import OddMLP, make
from torch import nn

import nvfp4_trt
from nvfp4_trt.errors import (
    InputsMissingError,
    NonfiniteCalibrationError,
    NonfiniteWeightError,
    NothingToQuantizeError,
    NotPreparedError,
    PatternMatchesNothingError,
    PreparedAlreadyError,
    RecipeInvalidError,
)
from nvfp4_trt.recipe import Recipe, Weights


def test_preparing_twice():
    model = nvfp4_trt.prepare_qat(OddMLP())
    with pytest.raises(PreparedAlreadyError, match="the layer fc1 is prepared"):
        nvfp4_trt.prepare_qat(model)
    with pytest.raises(PreparedAlreadyError, match=r"the layer 0\.fc1"):
        nvfp4_trt.prepare_qat(nn.Sequential(model))


def test_a_prepared_model_is_not_quantized_or_exported(tmp_path):
    model = nvfp4_trt.prepare_qat(OddMLP())
    with pytest.raises(PreparedAlreadyError, match="still trained") as caught:
        nvfp4_trt.quantize(model)
    assert "convert_qat" in caught.value.hint
    with pytest.raises(PreparedAlreadyError, match="fc1"):
        nvfp4_trt.export(model, tmp_path / "m.onnx", inputs=[{"x": torch.randn(2, 64)}])
    assert list(tmp_path.iterdir()) == []


def test_converting_what_is_not_prepared():
    with pytest.raises(NotPreparedError, match="this OddMLP is not prepared"):
        nvfp4_trt.convert_qat(OddMLP())
    model = nvfp4_trt.prepare_qat(OddMLP())
    with pytest.raises(NotPreparedError, match="PreparedLinear"):
        nvfp4_trt.convert_qat(model.fc1)
    with pytest.raises(NotPreparedError):
        nvfp4_trt.qat_state(nn.Sequential(model))


def test_a_nan_weight_is_named_and_the_model_stays_as_it_was():
    model = nvfp4_trt.prepare_qat(OddMLP())
    with torch.no_grad():
        model.fc3.weight[1, 2] = math.nan
    with pytest.raises(NonfiniteWeightError, match=r"fc3\.weight holds 1"):
        nvfp4_trt.convert_qat(model)
    with torch.no_grad():
        model.fc3.weight[1, 2] = 0.0
    nvfp4_trt.convert_qat(model)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({}, InputsMissingError, "static scales need"),
        ({"inputs": []}, InputsMissingError, "static scales need"),
        ({"inputs": [{"x": torch.full((1, 64), math.nan)}]}, NonfiniteCalibrationError, "layer fc1"),
        ({"amaxes": {"fc1": 1.0}}, InputsMissingError, "the layer fc3"),
        ({"amaxes": {"fc1": math.nan, "fc3": 1.0}}, NonfiniteCalibrationError, "fc1 is nan"),
        ({"amaxes": {"fc1": -1.0, "fc3": 1.0}}, NonfiniteCalibrationError, "fc1 is -1"),
    ],
)
def test_static_scales_that_cannot_be_had(options, error, said):
    model = OddMLP()
    with pytest.raises(error, match=said):
        nvfp4_trt.prepare_qat(model, "w4a4-static", **options)
    assert type(model.fc1) is nn.Linear, "half of it is prepared"


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (Recipe(fp8=("fc3",)), "makes fc3 FP8"),
        (Recipe(weights=Weights(method="mse")), "packs the weight of fc1 with mse"),
        (Recipe(weights=Weights(methods={"fc3": "gptq"})), "packs the weight of fc3 with gptq"),
        (Recipe(weights=Weights(low_rank=8)), "keeps the model's own parameters"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_what_training_cannot_round(recipe, said):
    model = OddMLP()
    with pytest.raises(RecipeInvalidError, match=said):
        nvfp4_trt.prepare_qat(model, recipe)
    assert type(model.fc1) is nn.Linear, "half of it is prepared"


def test_layers_that_cannot_be_selected():
    with pytest.raises(PatternMatchesNothingError, match="fcx"):
        nvfp4_trt.prepare_qat(OddMLP(), exclude=["fcx"])
    with pytest.raises(NothingToQuantizeError, match="K = 8"):
        nvfp4_trt.prepare_qat(nn.Linear(8, 8))


def test_calibration_leaves_modes_and_hooks_alone():
    model, batch, _ = make("mlp")
    model.train()
    model.fc2.eval()
    nvfp4_trt.prepare_qat(model, "w4a4-static", inputs=[batch])
    assert model.training
    assert not model.fc2.training
    assert not any(m._forward_pre_hooks for m in model.modules())
