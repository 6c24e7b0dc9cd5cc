"""Checkpoints that the peers made are read and exported bit for bit; those written here, the peers read."""

import json

import onnx
import peers
import pytest
import torch
from onnx import numpy_helper
from safetensors import safe_open
from safetensors.torch import load_file

import nvfp4_trt
from nvfp4_trt import format as fmt
from nvfp4_trt.checkpoints import read_checkpoint

IDS = ["input_ids:int64:2x8:0..90"]
OF = {
    "torchao.safetensors": {"input_specs": ["input:bfloat16:3x64"], "factory": "peers:plain_pair"},
    "torchao-static.safetensors": {"input_specs": ["input:bfloat16:3x64"], "factory": "peers:plain_pair"},
    "compressed-tensors": {"input_specs": IDS},
    "modelopt": {"input_specs": IDS},
}


def raw(tensor):
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def tensors_of(path):
    return load_file(path / "model.safetensors" if path.is_dir() else path)


def assert_same_tensors(one, other):
    first, second = tensors_of(one), tensors_of(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert tensor.dtype == second[name].dtype, name
        assert tensor.shape == second[name].shape, name
        assert raw(tensor) == raw(second[name]), name


@pytest.fixture(scope="module", params=OF)
def exported(made, request):
    return request.param, nvfp4_trt.export(made / request.param, made / "m.onnx", **OF[request.param])


def test_codes_and_scales_in_the_onnx_file_are_the_checkpoints(made, exported):
    name, artifact = exported
    weights = read_checkpoint(made / name).weights
    graph = onnx.load(artifact.path).graph
    held = {x.name: x for x in graph.initializer}
    nodes = {node.input[0]: node for node in graph.node if node.op_type == "Dequantize"}
    quantizers = [node for node in graph.node if node.op_type == "Quantize" and node.input[1] in held]
    static = {numpy_helper.to_array(held[node.input[1]]).item() for node in quantizers}
    assert len(weights) == len([layer for layer in artifact.layers if layer.quantized]) >= 2
    for stored in weights.values():
        layer = stored.name.removesuffix(".weight")
        assert held[f"{layer}.weight_packed"].raw_data == raw(stored.packed)
        _, block_scale, scale = nodes[f"{layer}.weight_packed"].input
        assert held[block_scale].raw_data == raw(stored.block_scale)
        assert numpy_helper.to_array(held[scale]).item() == stored.scale.multiplier()
        if stored.activation.scale is not None:
            assert stored.activation.scale.multiplier() in static
    assert bool(static) == (name != "torchao.safetensors")


def test_the_engine_is_built_from_these_bits_and_audited(made, exported, tmp_path):
    name, artifact = exported
    engine = nvfp4_trt.build(artifact, tmp_path / "m.engine", lowered=tmp_path / "lowered.onnx")
    asked = "nvfp4-weight-only" if name == "torchao.safetensors" else "nvfp4"
    count = len([layer for layer in artifact.layers if layer.quantized])
    assert engine.audit.counts(asked) == (count, count)
    if name.startswith("torchao"):  # no two of its layers share an input, so none are merged
        given = {x.raw_data for x in onnx.load(tmp_path / "lowered.onnx").graph.initializer}
        for stored in read_checkpoint(made / name).weights.values():
            assert {raw(stored.packed), raw(stored.block_scale)} <= given


def test_reading_gives_the_peers_own_tensors(made):
    own = tensors_of(made / "modelopt")
    for name, stored in read_checkpoint(made / "modelopt").weights.items():
        layer = name.removesuffix(".weight")
        assert raw(own[name]) == raw(stored.packed)
        assert own[f"{layer}.input_scale"].item() == stored.activation.scale.value
    module = peers.torchao_module()
    stored = read_checkpoint(made / "torchao.safetensors").weights
    for name, tensor in module.state_dict().items():
        if name in stored:
            found = fmt.dequantize(
                stored[name].packed, stored[name].block_scale, torch.tensor(stored[name].scale.value)
            )
            torch.testing.assert_close(found, tensor.dequantize(torch.float32), rtol=1e-6, atol=0)


def test_a_saved_state_dict_is_read_like_its_flattened_file(made, tmp_path):
    torch.save(peers.torchao_module(static=True).state_dict(), tmp_path / "s.pt")
    nvfp4_trt.convert(tmp_path / "s.pt", tmp_path / "a.safetensors", to="packed")
    nvfp4_trt.convert(made / "torchao-static.safetensors", tmp_path / "b.safetensors", to="packed")
    assert_same_tensors(tmp_path / "a.safetensors", tmp_path / "b.safetensors")


ROUTES = [
    ("compressed-tensors", ["modelopt", "torchao", "packed", "compressed-tensors"]),
    ("modelopt", ["compressed-tensors", "packed", "torchao", "modelopt"]),
]


@pytest.mark.parametrize(("name", "route"), ROUTES)
def test_a_round_trip_through_every_format_is_exact(made, tmp_path, name, route):
    here = made / name
    for index, to in enumerate(route):
        converted = nvfp4_trt.convert(here, tmp_path / f"{index}-{to}", to=to)
        assert converted.weights
        here = tmp_path / f"{index}-{to}"
    assert_same_tensors(made / name, here)


def test_torchao_through_the_others_keeps_everything(made, tmp_path):
    source = made / "torchao-static.safetensors"
    nvfp4_trt.convert(source, tmp_path / "direct.safetensors", to="torchao")
    nvfp4_trt.convert(source, tmp_path / "ct", to="compressed-tensors")
    nvfp4_trt.convert(tmp_path / "ct", tmp_path / "back.safetensors", to="torchao")
    assert_same_tensors(tmp_path / "direct.safetensors", tmp_path / "back.safetensors")


def test_torchao_reads_what_is_written(made, tmp_path):
    from torchao.prototype.safetensors.safetensors_support import unflatten_tensor_state_dict

    source = made / "torchao-static.safetensors"
    nvfp4_trt.convert(source, tmp_path / "t.safetensors", to="torchao")
    with safe_open(tmp_path / "t.safetensors", "pt") as file:
        state, left = unflatten_tensor_state_dict(tensors_of(tmp_path / "t.safetensors"), file.metadata())
    assert not left
    module = peers.torchao_module(static=True)
    for name, tensor in module.state_dict().items():
        assert type(state[name]) is type(tensor)
    torch.testing.assert_close(state["0.weight"].dequantize(), module[0].weight.dequantize(), rtol=0, atol=0)
    assert torch.equal(state["0.weight"].act_per_tensor_scale, module[0].weight.act_per_tensor_scale)


def test_torchao_runs_what_is_written(made, tmp_path):
    from torchao.prototype.safetensors.safetensors_support import unflatten_tensor_state_dict

    nvfp4_trt.convert(made / "torchao.safetensors", tmp_path / "t.safetensors", to="torchao")
    with safe_open(tmp_path / "t.safetensors", "pt") as file:
        state, _ = unflatten_tensor_state_dict(tensors_of(tmp_path / "t.safetensors"), file.metadata())
    module, x = peers.torchao_module(), torch.randn(4, 64).bfloat16()
    again = peers.plain_pair()
    again.load_state_dict({k: torch.nn.Parameter(t, requires_grad=False) for k, t in state.items()}, assign=True)
    assert torch.equal(again(x), module(x))


def test_compressed_tensors_and_transformers_load_what_is_written(made, tmp_path):
    from transformers import AutoModelForCausalLM

    nvfp4_trt.convert(made / "modelopt", tmp_path / "ct", to="compressed-tensors")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "ct", dtype="auto")
    written = tensors_of(tmp_path / "ct")
    weights = read_checkpoint(made / "modelopt").weights
    layer = "model.layers.0.mlp.up_proj"
    loaded = model.get_submodule(layer)
    assert torch.equal(loaded.weight_packed, written[f"{layer}.weight_packed"])
    assert torch.equal(loaded.input_global_scale, written[f"{layer}.input_global_scale"])
    model(torch.arange(8).view(1, 8))  # the first forward decompresses
    stored = weights[f"{layer}.weight"]
    expected = fmt.dequantize(stored.packed, stored.block_scale, torch.tensor(stored.scale.value))
    torch.testing.assert_close(loaded.weight.data.float(), expected, rtol=1e-2, atol=0)


def test_the_readers_of_modelopts_format_take_what_is_written(made, tmp_path):
    from compressed_tensors.entrypoints.convert.converters import ModelOptNvfp4Converter
    from modelopt.torch.quantization.qtensor import NVFP4QTensor

    nvfp4_trt.convert(made / "compressed-tensors", tmp_path / "mo", to="modelopt")
    found = tensors_of(tmp_path / "mo")
    own = tensors_of(made / "compressed-tensors")
    layer = "model.layers.0.mlp.up_proj"
    quantized = NVFP4QTensor((128, 64), torch.float32, found[f"{layer}.weight"])
    scales = {"scale": found[f"{layer}.weight_scale"], "double_scale": found[f"{layer}.weight_scale_2"]}
    values = quantized.dequantize(dtype=torch.float32, block_sizes={-1: 16}, **scales)
    expected = fmt.dequantize(
        found[f"{layer}.weight"], found[f"{layer}.weight_scale"], found[f"{layer}.weight_scale_2"]
    )
    torch.testing.assert_close(values, expected, rtol=1e-6, atol=0)
    converted = ModelOptNvfp4Converter(targets=[r"re:.*proj$"]).validate(dict(found))
    assert raw(converted[f"{layer}.weight_packed"]) == raw(own[f"{layer}.weight_packed"])
    quantization = json.loads((tmp_path / "mo" / "hf_quant_config.json").read_text())["quantization"]
    assert (quantization["quant_algo"], quantization["group_size"]) == ("NVFP4", 16)
    assert "lm_head" in quantization["exclude_modules"]
