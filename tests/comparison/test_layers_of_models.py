"""Comparing layer by layer: models of several kinds, in every dtype and precision, agree at every layer."""

import copy

import models
import pytest
import torch

import nvfp4_trt
from nvfp4_trt.comparison import BOUNDS_DB
from nvfp4_trt.recipe import Activations, Recipe, Smooth, Weights

TRANSFORMED = Recipe(name="transformed", smooth=Smooth(), weights=Weights(low_rank=8))
WEIGHT_ONLY = Recipe(name="w", activations=Activations(scaling="none"), fp8=("q", "k"))


@pytest.mark.parametrize(
    ("name", "recipe", "dtype"),
    [
        ("gpt2", "w4a4-dynamic-token", "bfloat16"),  # Conv1D, an embedding tied with the head
        ("llama", WEIGHT_ONLY, "float32"),
        ("llama", Recipe(fp8=("down", "v")), "float16"),
        ("encoder", TRANSFORMED, "float32"),  # opened attention, smoothing and low-rank branches
    ],
)
def test_torch_and_the_file_agree(tmp_path, name, recipe, dtype):
    module, batch, dynamic = models.make(name)
    wanted = getattr(torch, dtype)
    module = module.to(wanted)
    batch = {key: x.to(wanted) if x.is_floating_point() else x for key, x in batch.items()}
    before = copy.deepcopy(module.state_dict())
    quantized = nvfp4_trt.quantize(module, recipe, inputs=[batch])
    nvfp4_trt.export(quantized, tmp_path / "m.onnx", inputs=[batch], dynamic=dynamic)
    common = {"inputs": [batch], "per_layer": True}
    found = nvfp4_trt.compare(tmp_path / "m.onnx", module, quantized=quantized, **common).layers
    assert found.bound_db == BOUNDS_DB[dtype]
    found.check()
    expected = [layer.name for layer in quantized.layers if layer.quantized and layer.kind != "Embedding"]
    assert sorted(layer.name for layer in found.layers) == sorted(expected)
    for layer in found.layers:
        assert set(layer.backends) == {"torch", "onnxruntime"}
        assert layer.backends["onnxruntime"].own.sqnr_db == pytest.approx(
            layer.backends["torch"].own.sqnr_db, abs=0.05
        )
    if recipe is TRANSFORMED:  # quantized again from the file's recipe, on the same inputs
        assert nvfp4_trt.compare(tmp_path / "m.onnx", module, **common).layers == found
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
