"""What a method chose is read back, bit for bit, from the portable file, the lowered one and the engine."""

import numpy as np
import onnx_ir as ir
import pytest
import torch
from parts import example

import nvfp4_trt
from nvfp4_trt.portable.swizzle import swizzle_bytes
from nvfp4_trt.quantization.modules import QuantLinear
from nvfp4_trt.recipe import RECIPES, WeightMethod

pytestmark = pytest.mark.long
CHOSEN = RECIPES["w4a4-dynamic-token"].with_method(WeightMethod.GPTQ_MSE)


def inputs():
    generator = torch.Generator().manual_seed(2)
    return [{"x": torch.randn(2, 24, 64, generator=generator)} for _ in range(2)]


def layers_of(quantized):
    """Return codes, block scales and per-tensor scale of each layer, as bytes and a number."""
    return {
        name: (
            layer.weight_packed.numpy(),
            layer.weight_block_scale.view(torch.uint8).numpy(),
            layer.weight_per_tensor_scale.numpy(),
        )
        for name, layer in quantized.module.named_modules()
        if isinstance(layer, QuantLinear)
    }


def initializers(path):
    return {name: value.const_value for name, value in ir.load(path).graph.initializers.items()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return the folder of a built model, the quantized layers, and the engine's artifact."""
    folder = tmp_path_factory.mktemp("lossless")
    model, _, dynamic = example("llama")
    nvfp4_trt.export(model, folder / "m.onnx", recipe=CHOSEN, inputs=inputs(), dynamic=dynamic)
    engine = nvfp4_trt.build(
        folder / "m.onnx",
        folder / "m.engine",
        backend="tensorrt_rtx",
        optimize="off",
        lowered=folder / "lowered.onnx",
    )
    return folder, layers_of(nvfp4_trt.quantize(model, CHOSEN, inputs=inputs())), engine


def test_the_method_differs_from_max(made):
    """Else what follows would show nothing."""
    _, layers, _ = made
    model, _, _ = example("llama")
    plain = layers_of(nvfp4_trt.quantize(model))
    assert all((plain[name][0] != layers[name][0]).mean() > 0.05 for name in layers)
    assert all((plain[name][1] != layers[name][1]).mean() > 0.05 for name in layers)


def test_the_portable_file_holds_it(made):
    folder, layers, _ = made
    held = initializers(folder / "m.onnx")
    assert len(layers) == 7
    for name, (codes, steps, scale) in layers.items():
        assert held[f"{name}.weight_packed"].tobytes() == codes.tobytes()
        assert held[f"{name}.weight_block_scale"].tobytes() == steps.tobytes()
        assert held[f"{name}.weight_per_tensor_scale"].tobytes() == scale.tobytes()


def merged(layers):
    """Return what `MergeLinears` makes of them: the layers stacked, by their joined names."""
    return {joined: [layers[name] for name in joined.split("+")] for joined in ("q+k+v", "o", "gate+up", "down")}


def test_the_builder_was_given_it(made):
    folder, layers, engine = made
    assert engine.audit.counts("nvfp4") == (7, 7)
    held = initializers(folder / "lowered.onnx")
    weights = [name for name, tensor in held.items() if tensor.dtype is ir.DataType.FLOAT4E2M1]
    assert sorted(weights) == sorted(f"{joined}.weight" for joined in merged(layers))
    for joined, parts in merged(layers).items():
        codes, steps, scales = (np.concatenate([part[i].reshape(-1) for part in parts]) for i in range(3))
        assert held[f"{joined}.weight"].tobytes() == codes.tobytes()
        assert held[f"{joined}.weight_block_scale"].tobytes() == steps.tobytes()
        assert held[f"{joined}.weight_per_tensor_scale"].tobytes() == scales.max().tobytes()
        if len(parts) > 1:  # the rest of each layer's own scale is a factor of its columns
            shares = np.repeat(scales / scales.max(), [len(part[0]) for part in parts])
            assert held[f"{joined}.shares"].tobytes() == shares.tobytes()


def test_the_engine_holds_it(made):
    """Codes lie in the engine as they are, block scales in the tiles of the hardware."""
    folder, layers, _ = made
    engine = (folder / "m.engine").read_bytes()
    for joined, parts in merged(layers).items():
        assert b"".join(part[0].tobytes() for part in parts) in engine, joined
        assert swizzle_bytes(np.concatenate([part[1] for part in parts])).tobytes() in engine, joined
