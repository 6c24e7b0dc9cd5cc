"""FP8 in a portable file: each operator's body against the arithmetic, and whole files against the modules."""

import numpy as np
import onnxruntime as ort
import pytest
import torch
from models import make
from test_conformance import DTYPES, EVALUATORS, assert_same_bits, model, special

import nvfp4_trt
from nvfp4_trt import format as fmt
from nvfp4_trt.portable import layer_scales, load
from nvfp4_trt.recipe import RECIPES


@pytest.mark.parametrize("evaluator", EVALUATORS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["Token", "Tensor"])
def test_each_operator_bit_for_bit(evaluator, dtype, kind):
    run, x = EVALUATORS[evaluator], special(dtype)
    scale = fmt.fp8_scale(x, per_row=kind == "Token")
    x_in, scale_in, codes_in = ("x", dtype), ("scale", torch.float32), ("codes", torch.float8_e4m3fn)
    assert_same_bits(run(model(f"Fp8{kind}Scale", [x_in], [scale_in], {}), {"x": x}), [scale])
    codes = fmt.fp8_quantize(x, scale)
    assert_same_bits(
        run(model("Fp8Quantize", [x_in, scale_in], [codes_in], {}), {"x": x, "scale": scale}), [codes]
    )
    made = model("Fp8Dequantize", [codes_in, scale_in], [("y", torch.float32)], {"dtype": 1})
    expected = fmt.fp8_dequantize(codes, scale, torch.float32)
    (got,) = run(made, {"codes": codes, "scale": scale})
    np.testing.assert_array_equal(got, expected.numpy())  # a NaN's payload is no part of the format


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_file_is_what_the_module_is(tmp_path, recipe):
    """Measured: 134 dB or more, on these models and others."""
    module, batch, dynamic = make("gpt2")
    fp8 = ["c_attn", "c_out"]
    made = nvfp4_trt.export(module, tmp_path / "a.onnx", recipe=recipe, inputs=[batch], dynamic=dynamic, fp8=fp8)
    weight_only = recipe == "w4a16"
    assert {layer.name for layer in made.layers if layer.is_fp8} == set(fp8)
    assert {layer.precision for layer in made.layers if layer.is_fp8} == {
        "fp8-weight-only" if weight_only else "fp8"
    }
    with torch.no_grad():
        expected = nvfp4_trt.quantize(module, recipe, inputs=[batch], fp8=fp8)(**batch).double().numpy()
    session = ort.InferenceSession(made.path, providers=["CPUExecutionProvider"])
    got = session.run(None, {name: tensor.numpy() for name, tensor in batch.items()})[0]
    assert np.square(got - expected).sum() < 1e-10 * np.square(expected).sum()  # 100 dB


def test_what_inspect_says_of_a_layer(tmp_path):
    module, batch, _ = make("llama")
    made = nvfp4_trt.export(module, tmp_path / "a.onnx", inputs=[batch], fp8=["q", "down"])
    scales = layer_scales(load(made.path)[0])
    weight = module.down.weight
    assert scales["down"].weight_scale == pytest.approx(weight.abs().max().item() / 448)
    assert scales["down"].activation_scale == "run-time, per token"
    assert scales["down"].bytes == weight.numel() + 4 * weight.shape[0]
    assert scales["up"].bytes < module.up.weight.numel()


def test_layers_on_one_input_share_a_quantizer(tmp_path):
    module, batch, _ = make("llama")
    made = nvfp4_trt.export(module, tmp_path / "a.onnx", inputs=[batch], fp8=["q", "k"])
    kinds = [node.op_type for node in load(made.path)[0].graph]
    assert kinds.count("Fp8Quantize") == kinds.count("Fp8TokenScale") == 1
    assert kinds.count("Fp8Dequantize") == 3
