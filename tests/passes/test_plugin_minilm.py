"""The sentence encoder of the samples, lowered with the plugin."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from plugin_sides import functions_of, on_onnxruntime, plugin_lowered, sqnr

import nvfp4_trt
from nvfp4_trt.loading import load_model
from nvfp4_trt.portable import load

sys.path.insert(0, str(Path(__file__).parents[2]))  # samples are not installed with the package

from samples.minilm import inputs


@pytest.mark.long
@pytest.mark.parametrize("recipe", ["w4a4-dynamic-token", "w4a4-static"])
def test_the_encoder_is_as_near_to_the_float_model_as_its_portable_file(recipe, tmp_path):
    """Measured: both 9.03 dB per token and 8.96 static, over the first test batch, padding included."""
    path = tmp_path / "encoder.onnx"
    folder = inputs.model_folder()
    nvfp4_trt.export(folder, path, recipe=recipe, inputs=inputs.calibration(), dynamic=("batch,sequence",))
    model, lowering = plugin_lowered(path)
    assert not lowering.gemms
    assert sum(len(layers) for layers in lowering.plugin_gemms.values()) == 37
    assert len(lowering.plugin_gemms) == 25  # query, key and value of six layers are one each
    assert functions_of(model) == [*(["layer_norm", "none", "layer_norm", "gelu"] * 6), "layer_norm"]
    batch = next(iter(inputs.test()))
    with torch.no_grad():
        exact = load_model(folder).module(**batch).last_hidden_state.numpy()
    portable, _ = load(path)
    feeds = {name: tensor.numpy() for name, tensor in batch.items()}
    got = [sqnr(exact, on_onnxruntime(each, feeds)["last_hidden_state"]) for each in (portable, model)]
    assert np.isfinite(got).all()
    assert abs(got[0] - got[1]) < 0.3
