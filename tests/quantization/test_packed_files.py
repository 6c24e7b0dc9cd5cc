"""A packed safetensors file holds what `quantize` computes, and everything else as it was."""

import json
import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import nvfp4_trt
from nvfp4_trt.errors import (
    FileMissingError,
    FileTruncatedError,
    InputsMissingError,
    NonfiniteWeightError,
    NotAModelError,
    NothingToQuantizeError,
    PatternMatchesNothingError,
    RecipeInvalidError,
    WrongKindError,
)
from nvfp4_trt.recipe import RECIPES, Weights


@pytest.fixture
def weights():
    torch.manual_seed(0)
    return {
        "up.weight": torch.randn(300, 256),
        "up.bias": torch.randn(300),
        "down.weight": torch.randn(64, 304).half(),
        "odd.weight": torch.randn(8, 30),
        "ids": torch.arange(160).view(10, 16),
        "flag": torch.tensor([True, False, True]),
        "loose": torch.randn(7, 32).bfloat16(),
    }


@pytest.fixture
def source(weights, tmp_path):
    save_file(weights, tmp_path / "in.safetensors", metadata={"format": "pt"})
    (tmp_path / "out").mkdir()
    return tmp_path / "in.safetensors"


def equal(one, other):
    return one.dtype == other.dtype and torch.equal(
        one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8)
    )


@pytest.mark.parametrize(
    ("rule", "method"), [("spec", "max"), ("modelopt", "max"), ("spec", "mse"), ("torchao", "four-over-six")]
)
def test_the_numbers_are_those_of_quantize(weights, source, tmp_path, rule, method):
    made = nvfp4_trt.pack(source, tmp_path / "out" / "p", rule=rule, method=method)
    assert sorted(made.weights) == ["down.weight", "loose", "up.weight"]
    found = load_file(tmp_path / "out" / "p")
    assert made.bytes == (tmp_path / "out" / "p").stat().st_size
    recipe = RECIPES["w4a16"].model_copy(update={"weights": Weights(rule=rule, method=method)})
    for name in made.weights:
        weight = weights[name]
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        layer.weight = nn.Parameter(weight)
        quantized = nvfp4_trt.quantize(nn.Sequential(layer), recipe).module[0]
        for suffix in ("packed", "block_scale", "per_tensor_scale"):
            assert equal(found.pop(f"{name}_{suffix}"), getattr(quantized, f"weight_{suffix}"))
    assert found.keys() == weights.keys() - set(made.weights)
    assert all(equal(found[name], weights[name]) for name in found)
    assert made.copied == len(found)


def test_metadata(source, tmp_path):
    nvfp4_trt.pack(source, tmp_path / "p", only=["up"], method="mse")
    with safe_open(tmp_path / "p", "pt") as file:
        told = file.metadata()
    assert (told["format"], told["nvfp4.version"], told["nvfp4.scale_rule"]) == ("pt", "1", "spec")
    assert told["nvfp4.method"] == "mse"
    assert json.loads(told["nvfp4.weights"]) == {"up.weight": {"shape": [300, 256], "dtype": "float32"}}
    with pytest.raises(WrongKindError, match="is packed already"):
        nvfp4_trt.pack(tmp_path / "p", tmp_path / "q")


@pytest.mark.parametrize(
    ("patterns", "packed"),
    [
        ({"only": ["up", "lo*"]}, {"up.weight", "loose"}),
        ({"exclude": ["up"]}, {"down.weight", "loose"}),
        ({"only": ["*"], "exclude": ["loose"]}, {"up.weight", "down.weight"}),
    ],
)
def test_patterns(source, tmp_path, patterns, packed):
    assert set(nvfp4_trt.pack(source, tmp_path / "p", **patterns).weights) == packed


def test_a_method_that_needs_inputs(source, tmp_path):
    with pytest.raises(InputsMissingError, match=r"gptq\+mse looks at what enters each layer") as caught:
        nvfp4_trt.pack(source, tmp_path / "p", method="gptq+mse")
    assert "export MODEL -o FILE --weights gptq+mse --inputs" in caught.value.hint
    with pytest.raises(RecipeInvalidError, match="'best' is not a weight method"):
        nvfp4_trt.pack(source, tmp_path / "p", method="best")


def test_a_file_may_be_packed_into_itself(source, weights):
    nvfp4_trt.pack(source, source)
    assert "up.weight_packed" in load_file(source)


def damage(source, how):
    if how == "nan":
        save_file({"fc.weight": torch.full((4, 32), float("nan"))}, source)
    elif how == "cut":
        os.truncate(source, source.stat().st_size - 1000)
    elif how == "header":
        source.write_bytes(b"\x20" + b"\0" * 7 + b'{"fc.weight": ' + b"?" * 40)
    elif how == "small":
        save_file({"bias": torch.zeros(16)}, source)
    elif how == "named":
        save_file({"w": torch.zeros(4, 32), "w_packed": torch.zeros(1)}, source)
    elif how == "gone":
        source.unlink()
    elif how == "pickle":
        torch.save({"w": torch.zeros(4, 32)}, source)


BAD = [
    ("nan", {}, NonfiniteWeightError, "the weight fc.weight holds 128 values"),
    ("cut", {}, FileTruncatedError, "ends within the tensor"),
    ("header", {}, NotAModelError, "header is not readable"),
    ("small", {}, NothingToQuantizeError, "none of the 1 tensors"),
    ("named", {}, WrongKindError, "tensors named like packed ones"),
    ("gone", {}, FileMissingError, "does not exist"),
    ("pickle", {}, WrongKindError, "is not a safetensors file"),
    ("whole", {"only": ["dwon"]}, PatternMatchesNothingError, "--only 'dwon' matches none of the 3"),
    ("whole", {"exclude": ["*"]}, NothingToQuantizeError, "all 3 weights"),
]


@pytest.mark.parametrize(("how", "options", "error", "said"), BAD, ids=[f"{b[0]} {b[1]}" for b in BAD])
def test_what_fails_leaves_nothing(source, tmp_path, how, options, error, said):
    damage(source, how)
    with pytest.raises(error, match=said):
        nvfp4_trt.pack(source, tmp_path / "out" / "p", **options)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_that_becomes_shorter_while_it_is_read(source, tmp_path, monkeypatch):
    """The header is good, and the file is cut between its reading and that of a weight."""
    from nvfp4_trt.quantization import packed_files

    fill = packed_files._fill

    def cut_first(*arguments):
        os.truncate(source, source.stat().st_size - 200_000)
        fill(*arguments)

    mapped = packed_files.map_tensors([source])
    monkeypatch.setattr(packed_files, "map_tensors", lambda _: mapped)
    monkeypatch.setattr(packed_files, "_fill", cut_first)
    with pytest.raises(FileTruncatedError, match=r"in\.safetensors ends at byte"):
        nvfp4_trt.pack(source, tmp_path / "out" / "p")
    assert list((tmp_path / "out").iterdir()) == []
