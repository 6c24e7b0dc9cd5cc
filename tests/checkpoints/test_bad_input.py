"""Damaged checkpoints: one error each, with a stable code, that names the file and the tensor."""

import json
import math
import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import nvfp4_trt
from nvfp4_trt.checkpoints import read_checkpoint
from nvfp4_trt.errors import Nvfp4Error

LAYER = "block.fc"
FORMATS = ("packed", "torchao", "compressed-tensors", "modelopt")
NAMES = {  # codes, block scales, per-tensor scale, input scale
    "packed": [f"{LAYER}.weight_{e}" for e in ("packed", "block_scale", "per_tensor_scale", "input_scale")],
    "torchao": [f"{LAYER}._weight_{e}" for e in ("qdata", "scale", "per_tensor_scale", "act_per_tensor_scale")],
    "compressed-tensors": [
        f"{LAYER}.{e}" for e in ("weight_packed", "weight_scale", "weight_global_scale", "input_global_scale")
    ],
    "modelopt": [f"{LAYER}.{e}" for e in ("weight", "weight_scale", "weight_scale_2", "input_scale")],
}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A checkpoint of one layer with a static input scale, in each format."""
    root = tmp_path_factory.mktemp("good")
    torch.manual_seed(0)
    save_file({f"{LAYER}.weight": torch.randn(32, 64), f"{LAYER}.bias": torch.zeros(32)}, root / "f.safetensors")
    nvfp4_trt.pack(root / "f.safetensors", root / "p.safetensors")
    tensors, metadata = opened(root / "p.safetensors")
    said = json.loads(metadata["nvfp4.weights"])
    said[f"{LAYER}.weight"]["activation"] = "static"
    tensors[f"{LAYER}.weight_input_scale"] = torch.tensor(0.0123)
    save_file(tensors, root / "s.safetensors", metadata | {"nvfp4.weights": json.dumps(said)})
    for to in FORMATS:
        nvfp4_trt.convert(root / "s.safetensors", root / to, to=to)
    return root


def opened(path):
    with safe_open(path, "pt") as file:
        return load_file(path), file.metadata()


def damaged(good, tmp_path, kind, change):
    """Copy a checkpoint, with its tensors changed."""
    folder = tmp_path / kind
    folder.mkdir(parents=True)
    for file in (good / kind).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    tensors, metadata = opened(folder / "model.safetensors")
    change(tensors)
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "model.safetensors", metadata)
    return folder


def refused(path, code, *named):
    with pytest.raises(Nvfp4Error) as caught:
        read_checkpoint(path)
    assert caught.value.code == code, caught.value.message
    assert str(path) in caught.value.message
    for name in named:
        assert name in caught.value.message
    assert caught.value.hint


def to(name, value):
    def change(tensors):
        tensors[name] = value(tensors[name]) if callable(value) else value

    return change


@pytest.mark.parametrize("kind", FORMATS)
def test_the_undamaged_ones_are_read_and_agree(good, kind):
    first, other = read_checkpoint(good / "packed"), read_checkpoint(good / kind)
    stored, same = first.weights[f"{LAYER}.weight"], other.weights[f"{LAYER}.weight"]
    assert stored.dtype == same.dtype
    assert stored.scale.multiplier() == same.scale.multiplier()
    assert stored.activation.scale.multiplier() == same.activation.scale.multiplier()
    assert torch.equal(stored.packed, same.packed)
    assert torch.equal(stored.block_scale.view(torch.uint8), same.block_scale.view(torch.uint8))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("which", range(4))
def test_a_missing_tensor(good, tmp_path, kind, which):
    name = NAMES[kind][which]
    folder = damaged(good, tmp_path, kind, lambda tensors: tensors.pop(name))
    if which == 0 and kind == "compressed-tensors":
        refused(folder, "checkpoint-config", LAYER)  # the configuration names the layer, and it has no codes
    else:
        refused(folder, "tensor-missing", name)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("which", range(4))
def test_a_wrong_dtype(good, tmp_path, kind, which):
    name = NAMES[kind][which]
    wrong = torch.int8 if which == 0 else torch.float16
    folder = damaged(good, tmp_path, kind, to(name, lambda t: t.to(torch.float32).to(wrong)))
    refused(folder, "tensor-invalid", name, str(wrong).removeprefix("torch."))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("which", range(1, 4))
def test_a_wrong_shape(good, tmp_path, kind, which):
    name = NAMES[kind][which]
    folder = damaged(good, tmp_path, kind, to(name, lambda t: t[:-1] if t.dim() > 1 else torch.ones(3)))
    refused(folder, "tensor-invalid", name)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("which", [2, 3])
def test_a_scale_that_is_none(good, tmp_path, kind, value, which):
    name = NAMES[kind][which]
    folder = damaged(good, tmp_path, kind, to(name, lambda t: torch.full_like(t, value)))
    refused(folder, "scale-invalid", name)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("bits", [0x7F, 0xFF, 0x80 | 0x38, 0x00])
def test_a_block_scale_that_is_none(good, tmp_path, kind, bits):
    name = NAMES[kind][1]

    def change(tensors):
        tensors[name].view(torch.uint8)[0, 0] = bits

    refused(damaged(good, tmp_path, kind, change), "scale-invalid", name)


@pytest.mark.parametrize("kind", ["packed", "compressed-tensors", "modelopt"])
def test_another_group_size(good, tmp_path, kind):
    name = NAMES[kind][1]
    folder = damaged(good, tmp_path, kind, to(name, lambda t: t[:, ::2]))
    refused(folder, "checkpoint-config", name, "for each 32 elements")


@pytest.mark.parametrize("kind", ["compressed-tensors", "modelopt"])
def test_an_extra_tensor(good, tmp_path, kind):
    name = NAMES[kind][2].replace(LAYER, "other")
    folder = damaged(good, tmp_path, kind, to_new(name, torch.ones(1)))
    if kind == "compressed-tensors":
        refused(folder, "tensor-unexpected", name)
        return
    folder = damaged(good, tmp_path / "x", kind, to_new(f"{LAYER}.pre_quant_scale", torch.ones(64)))
    refused(folder, "tensor-unexpected", "pre_quant_scale")


def to_new(name, value):
    return lambda tensors: tensors.__setitem__(name, value)


@pytest.mark.parametrize("kind", ["packed", "torchao"])
def test_an_extra_tensor_beside_those_that_are_named(good, tmp_path, kind):
    name = NAMES[kind][2].replace(LAYER, "other")
    refused(damaged(good, tmp_path, kind, to_new(name, torch.ones(1))), "tensor-unexpected", name)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_truncated_file(good, tmp_path, kind):
    folder = damaged(good, tmp_path, kind, lambda _: None)
    file = folder / "model.safetensors"
    os.truncate(file, file.stat().st_size - 100)
    refused(folder, "file-truncated", "model.safetensors")


def reconfigured(good, tmp_path, kind, change, file="config.json"):
    folder = damaged(good, tmp_path, kind, lambda _: None)
    config = json.loads((folder / file).read_text())
    change(config)
    (folder / file).write_text(json.dumps(config))
    return folder


def group(config):
    return config["quantization_config"]["config_groups"]["group_0"]


CONTRADICTIONS = {
    "the layer is ignored": lambda c: c["quantization_config"].update(ignore=[LAYER]),
    "by a pattern": lambda c: c["quantization_config"].update(ignore=["re:.*fc"]),
    "input not quantized": lambda c: group(c).update(input_activations=None),
    "group size": lambda c: group(c)["weights"].update(group_size=32),
    "bits": lambda c: group(c)["input_activations"].update(num_bits=8),
    "no group has it": lambda c: group(c).update(targets=["block.other"]),
    "no groups": lambda c: c["quantization_config"].update(config_groups={}),
    "another format": lambda c: group(c).update(format="mxfp4-pack-quantized"),
    "key-value cache": lambda c: c["quantization_config"].update(kv_cache_scheme={"num_bits": 8}),
}


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_a_compressed_tensors_configuration_that_contradicts(good, tmp_path, what):
    folder = reconfigured(good, tmp_path, "compressed-tensors", CONTRADICTIONS[what])
    refused(folder, "checkpoint-config", "config.json")


MODELOPT = {
    "excluded": {"exclude_modules": ["block.*"]},
    "weight-only": {"quant_algo": "W4A16_NVFP4"},
    "another algorithm": {"quant_algo": "FP8"},
    "no algorithm": {"quant_algo": None},
    "group size": {"group_size": 32},
    "key-value cache": {"kv_cache_quant_algo": "FP8"},
    "a layer without codes": {
        "quant_algo": "MIXED_PRECISION",
        "quantized_layers": {LAYER: {"quant_algo": "NVFP4"}, "block.up": {"quant_algo": "NVFP4"}},
    },
    "a layer left out": {
        "quant_algo": "MIXED_PRECISION",
        "quantized_layers": {"block.up": {"quant_algo": "NVFP4"}},
    },
}


@pytest.mark.parametrize("what", MODELOPT)
def test_a_modelopt_configuration_that_contradicts(good, tmp_path, what):
    folder = reconfigured(
        good, tmp_path, "modelopt", lambda c: c["quantization"].update(MODELOPT[what]), "hf_quant_config.json"
    )
    refused(folder, "checkpoint-config", "hf_quant_config.json")


HEADERS = {
    "packed": {
        "unreadable": {"nvfp4.weights": "{"},
        "version": {"nvfp4.version": "9"},
        "shape": {"nvfp4.weights": json.dumps({f"{LAYER}.weight": {"shape": [1, 2], "dtype": "float32"}})},
    },
    "torchao": {
        "unreadable": {"tensor_names": "["},
        "class": {f"{LAYER}.weight": '{"_type": "MXTensor"}'},
        "group size": {f"{LAYER}.weight": '{"_type": "NVFP4Tensor", "_data": {"block_size": 32}}'},
    },
}


@pytest.mark.parametrize(("kind", "what"), [(kind, what) for kind, held in HEADERS.items() for what in held])
def test_a_header_that_contradicts(good, tmp_path, kind, what):
    folder = damaged(good, tmp_path, kind, lambda _: None)
    tensors, metadata = opened(folder / "model.safetensors")
    save_file(tensors, folder / "model.safetensors", metadata | HEADERS[kind][what])
    refused(folder, "checkpoint-config")


def test_what_is_no_checkpoint(good, tmp_path):
    refused(good / "f.safetensors", "wrong-kind")


CANNOT = [("dynamic-token", to_) for to_ in ("torchao", "compressed-tensors", "modelopt")]


@pytest.mark.parametrize(("scaling", "kind"), [*CANNOT, ("dynamic", "modelopt"), ("single-level", "modelopt")])
def test_a_scaling_that_the_format_cannot_hold(good, tmp_path, scaling, kind):
    tensors, metadata = opened(good / "p.safetensors")
    said = json.loads(metadata["nvfp4.weights"])
    said[f"{LAYER}.weight"]["activation"] = scaling
    save_file(tensors, tmp_path / "d.safetensors", metadata | {"nvfp4.weights": json.dumps(said)})
    with pytest.raises(Nvfp4Error, match=f"{LAYER}.weight") as caught:
        nvfp4_trt.convert(tmp_path / "d.safetensors", tmp_path / "out", to=kind)
    assert caught.value.code == "format-cannot-hold"
    assert not (tmp_path / "out").exists()
    nvfp4_trt.convert(tmp_path / "d.safetensors", tmp_path / "same", to="packed")
    assert str(read_checkpoint(tmp_path / "same").weights[f"{LAYER}.weight"].activation.scaling) == scaling


@pytest.mark.parametrize("kind", ["torchao", "compressed-tensors", "modelopt"])
def test_a_name_that_the_format_cannot_hold(tmp_path, kind):
    save_file({"loose": torch.randn(4, 32)}, tmp_path / "f.safetensors")
    nvfp4_trt.pack(tmp_path / "f.safetensors", tmp_path / "p.safetensors")
    with pytest.raises(Nvfp4Error, match="named loose") as caught:
        nvfp4_trt.convert(tmp_path / "p.safetensors", tmp_path / "out", to=kind)
    assert caught.value.code == "format-cannot-hold"


def test_outputs_that_cannot_be(good, tmp_path):
    with pytest.raises(Nvfp4Error, match=r"config\.json") as caught:
        nvfp4_trt.convert(good / "packed", tmp_path / "one.safetensors", to="modelopt")
    assert caught.value.code == "format-cannot-hold"
    (tmp_path / "mine").write_text("keep")
    with pytest.raises(Nvfp4Error, match="not empty") as caught:
        nvfp4_trt.convert(good / "packed", tmp_path, to="modelopt")
    assert caught.value.code == "output-unwritable"
    assert (tmp_path / "mine").read_text() == "keep"
