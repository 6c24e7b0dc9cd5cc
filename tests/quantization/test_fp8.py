"""FP8 layers: the arithmetic against ml_dtypes, the modules, and which layers a recipe makes FP8."""

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import make
from torch import nn

import nvfp4_trt
from nvfp4_trt import format as fmt
from nvfp4_trt.errors import NonfiniteWeightError, PatternMatchesNothingError
from nvfp4_trt.quantization.fp8_modules import Fp8Linear, Fp8Quantizer, fp8_weight
from nvfp4_trt.quantization.modules import QuantLinear
from nvfp4_trt.recipe import ActivationScaling, load_recipe


def reference(x, scale):
    """Return codes by NumPy and ml_dtypes."""
    return np.clip(x.astype(np.float32) / scale, -448, 448).astype(ml_dtypes.float8_e4m3fn)


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=40), st.booleans())
def test_codes_and_scales_are_those_of_ml_dtypes(numbers, per_row):
    x = torch.tensor([numbers, numbers[::-1]], dtype=torch.float32)
    scale = fmt.fp8_scale(x, per_row=per_row)
    amax = np.abs(x.numpy()).max(axis=-1, keepdims=True) if per_row else np.abs(x.numpy()).max()
    expected = (amax / np.float32(448)).astype(np.float32)
    expected = np.where(expected < 2.0**-117, np.float32(1), expected)
    assert np.array_equal(scale.numpy(), expected)
    codes = fmt.fp8_quantize(x, scale)
    assert codes.view(torch.uint8).numpy().tobytes() == reference(x.numpy(), expected).tobytes()
    values = codes.view(torch.uint8).numpy().view(ml_dtypes.float8_e4m3fn).astype(np.float32) * expected
    assert np.array_equal(fmt.fp8_dequantize(codes, scale, torch.float32).numpy(), values)


def test_what_is_not_finite():
    x = torch.tensor([[1.0, float("nan"), 2.0], [float("inf"), -1.0, 1.0], [0.0, -0.0, 0.0]])
    scale = fmt.fp8_scale(x, per_row=True)
    assert scale.flatten().tolist() == pytest.approx([2 / 448, 3.4028235e38 / 448, 1.0])
    values = fmt.fp8_dequantize(fmt.fp8_quantize(x, scale), scale, torch.float32)
    assert torch.isnan(values[0]).tolist() == [False, True, False]
    assert values[1, 0] == torch.tensor(448.0) * scale[1, 0]
    assert values[2].tolist() == [0.0, 0.0, 0.0]


def test_a_weight_is_quantized_a_channel_at_a_time():
    weight = torch.randn(7, 24, generator=torch.Generator().manual_seed(0)) * torch.logspace(-6, 6, 7).unsqueeze(1)
    made = fp8_weight(weight)
    assert made.scale.shape == (7, 1)
    values = fmt.fp8_dequantize(made.codes, made.scale, torch.float32)
    # Half a step of a 3-bit mantissa, or half the smallest subnormal number of the channel.
    assert ((values - weight).abs() <= torch.maximum(weight.abs() / 16, made.scale * 2.0**-10)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_module_multiplies_what_was_quantized(dtype):
    linear = nn.Linear(48, 20).to(dtype)
    quantizer = Fp8Quantizer(ActivationScaling.DYNAMIC_TOKEN)
    module = Fp8Linear(fp8_weight(linear.weight.detach()), linear.bias, quantizer, dtype)
    x = torch.randn(3, 5, 48).to(dtype)
    scale = fmt.fp8_scale(x, per_row=True)
    rounded = fmt.fp8_dequantize(fmt.fp8_quantize(x, scale), scale, dtype)
    expected = nn.functional.linear(rounded, module.weight, linear.bias)
    assert torch.equal(module(x), expected)
    assert module.weight.dtype == dtype
    halved = module.half()
    assert halved.weight_fp8.dtype == torch.float8_e4m3fn
    assert halved.weight_scale.dtype == torch.float32
    assert halved(x.half()).dtype == halved.weight.dtype == torch.float16


def test_gradients_pass_but_where_a_static_scale_clips():
    x = torch.tensor([1.0, 400.0, 1000.0], requires_grad=True)
    Fp8Quantizer(ActivationScaling.STATIC, torch.tensor(1.0))(x).sum().backward()
    assert x.grad.tolist() == [1.0, 1.0, 0.0]


def test_fp8_is_nearer_than_fp4_in_every_mode():
    module, batch, _ = make("llama")
    with torch.no_grad():
        expected = module(**batch)
        for recipe in ("w4a4-dynamic-token", "w4a4-static", "w4a16"):
            errors = [
                (nvfp4_trt.quantize(module, recipe, inputs=[batch], fp8=fp8)(**batch) - expected).norm()
                for fp8 in ((), ["q", "k", "v"], ["*"])
            ]
            assert errors[0] > errors[1] > errors[2] * 2


def test_the_layers_that_match_are_fp8_whatever_their_shape():
    module, _, _ = make("mlp")
    quantized = nvfp4_trt.quantize(module, fp8=["fc2", "head"])
    assert {layer.name: layer.precision for layer in quantized.layers} == {
        "fc1": "nvfp4",
        "fc2": "fp8",  # K = 100
        "fc3": "nvfp4",
        "head": "fp8",  # N = 1
    }
    assert isinstance(quantized.module.fc2, Fp8Linear)
    assert isinstance(quantized.module.fc3, QuantLinear)
    weights = nvfp4_trt.quantize(module, "w4a16", fp8=["fc2"])
    assert {layer.precision for layer in weights.layers} == {"nvfp4-weight-only", "fp8-weight-only", "float32"}


def test_static_scales_of_any_k():
    module, batch, _ = make("mlp")
    seen = []
    module.fc2.register_forward_pre_hook(lambda _module, args: seen.append(args[0].abs().max().item()))
    quantized = nvfp4_trt.quantize(module, "w4a4-static", inputs=[batch], fp8=["fc2"])
    assert quantized.module.fc2.input_quantizer.scale.item() == pytest.approx(seen[0] / 448)


def test_exclude_goes_before_fp8_and_a_pattern_must_match(tmp_path):
    module, _, _ = make("mlp")
    layers = nvfp4_trt.quantize(module, fp8=["fc*"], exclude=["fc1"], only=["fc1", "fc3"]).layers
    assert [layer.precision for layer in layers] == ["float32", "float32", "fp8", "float32"]
    with pytest.raises(PatternMatchesNothingError, match="--fp8 'fc9'"):
        nvfp4_trt.quantize(module, fp8=["fc9"])
    file = tmp_path / "some.yaml"
    file.write_text("fp8: [fc2, '*.head']\n")
    assert load_recipe(file).fp8 == ("fc2", "*.head")


def test_a_weight_that_is_not_finite_is_refused():
    module, _, _ = make("mlp")
    module.fc2.weight.data[3, 4] = float("nan")
    with pytest.raises(NonfiniteWeightError, match=r"fc2\.weight holds 1 values"):
        nvfp4_trt.quantize(module, fp8=["fc2"])


def test_it_stays_whole_under_compile():
    module, batch, _ = make("llama")
    quantized = nvfp4_trt.quantize(module, fp8=["q", "down"]).module
    compiled = torch.compile(quantized, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert torch.allclose(compiled(**batch), quantized(**batch), atol=1e-5)
