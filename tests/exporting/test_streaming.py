"""Exporting from files, weight by weight, writes the very bytes that exporting from memory writes."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

import nvfp4_trt
from nvfp4_trt.errors import FileTruncatedError
from nvfp4_trt.exporting import export_module
from nvfp4_trt.loading import Spill, load_model
from nvfp4_trt.loading.stored import region_of
from nvfp4_trt.quantization import quantize_module
from nvfp4_trt.recipe import RECIPES

SIZES = {"hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 512, "num_hidden_layers": 2}
IDS = {"input_ids": torch.arange(16).view(2, 8)}


def model_of(kind):
    torch.manual_seed(0)
    if kind == "bert":
        return BertModel(BertConfig(vocab_size=300, max_position_embeddings=64, **SIZES)).eval()
    config = LlamaConfig(vocab_size=300, num_key_value_heads=2, tie_word_embeddings=True, use_cache=False, **SIZES)
    return LlamaForCausalLM(config).eval()


@pytest.mark.parametrize(
    ("kind", "recipe", "dtype", "shard"),
    [
        ("bert", "w4a4-static", "float16", "5GB"),
        pytest.param("llama", "w4a4-dynamic-token", None, "400KB", marks=pytest.mark.long),
    ],
)
def test_a_folder_gives_the_bytes_that_its_module_gives(tmp_path, kind, recipe, dtype, shard):
    model = model_of(kind)
    model.save_pretrained(tmp_path / "folder", max_shard_size=shard)
    assert (tmp_path / "folder" / "model.safetensors").exists() == (shard == "5GB")
    options = {"recipe": recipe, "dtype": dtype, "inputs": [IDS], "dynamic": ["batch,sequence"]}
    ours = nvfp4_trt.export(tmp_path / "folder", tmp_path / "a.onnx", **options)
    whole = nvfp4_trt.export(model, tmp_path / "b.onnx", **options)
    # All but the hash of the source, which is of files here and of a state dict there.
    told = whole.metadata.source_sha256.encode()
    assert (tmp_path / "b.onnx").read_bytes().replace(told, ours.metadata.source_sha256.encode()) == (
        tmp_path / "a.onnx"
    ).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "b.onnx", "folder"]


def test_weights_of_another_dtype_in_a_factorys_module(tmp_path, monkeypatch):
    model = model_of("bert")
    save_file({n: t.half() for n, t in model.state_dict().items()}, tmp_path / "w.safetensors")
    (tmp_path / "streamed_bert.py").write_text(
        "from transformers import BertConfig, BertModel\n"
        f"def make():\n    return BertModel(BertConfig(vocab_size=300, max_position_embeddings=64, **{SIZES}))\n"
    )
    monkeypatch.chdir(tmp_path)
    options = {"inputs": [IDS], "dynamic": ["batch,sequence"]}
    ours = nvfp4_trt.export("w.safetensors", "a.onnx", factory="streamed_bert:make", **options)
    model.load_state_dict({n: t.float() for n, t in load_file("w.safetensors").items()})
    whole = nvfp4_trt.export(model, "b.onnx", **options)
    told, mine = whole.metadata.source_sha256.encode(), ours.metadata.source_sha256.encode()
    assert (tmp_path / "b.onnx").read_bytes().replace(told, mine) == (tmp_path / "a.onnx").read_bytes()


def test_in_memory_and_spilled_modules_are_the_same_file(tmp_path):
    model_of("bert").save_pretrained(tmp_path / "folder")
    recipe = RECIPES["w4a4-dynamic-token"]
    kept = quantize_module(load_model(tmp_path / "folder").module, recipe)
    export_module(kept, IDS, tmp_path / "a.onnx", source_sha256="0")
    with Spill(tmp_path / "b.onnx") as spill:
        put_aside = quantize_module(load_model(tmp_path / "folder").module, recipe, spill=spill)
        dense = put_aside.module.encoder.layer[0].intermediate.dense
        assert region_of(dense.weight_packed) is not None
        assert region_of(dense.weight_per_tensor_scale) is None
        export_module(put_aside, IDS, tmp_path / "b.onnx", source_sha256="0")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def pages_in_memory(tensor):
    """Return how many pages of a tensor this process has in memory, and of how many."""
    page = os.sysconf("SC_PAGESIZE")
    first, last = -(-tensor.data_ptr() // page), (tensor.data_ptr() + tensor.nbytes) // page
    with Path("/proc/self/pagemap").open("rb") as pagemap:
        pagemap.seek(first * 8)
        entries = np.frombuffer(pagemap.read((last - first) * 8), dtype=np.uint64)
    return int((entries >> np.uint64(63)).sum()), len(entries)


def test_weights_in_files_are_not_looked_at(tmp_path):
    """After an export, the embedding's mapped pages are still not in memory, and its bytes are in the file."""
    BertModel(BertConfig(vocab_size=9000, max_position_embeddings=64, **SIZES)).save_pretrained(
        tmp_path / "folder"
    )
    loaded = load_model(tmp_path / "folder")
    embedding = loaded.module.embeddings.word_embeddings.weight.detach()
    with Spill(tmp_path / "a.onnx") as spill:
        quantized = quantize_module(loaded.module, RECIPES["w4a4-dynamic-token"], inplace=True, spill=spill)
        export_module(quantized, IDS, tmp_path / "a.onnx", source_sha256="0")
        weight = quantized.module.encoder.layer[0].intermediate.dense.weight_packed
        assert pages_in_memory(weight)[0] == 0
    there, of = pages_in_memory(embedding)
    assert (there < of / 10, of > 1000) == (True, True)
    held = next(t for t in onnx.load(tmp_path / "a.onnx").graph.initializer if "word_embeddings" in t.name)
    assert held.raw_data == embedding.numpy().tobytes()
    assert pages_in_memory(embedding) == (of, of)


def test_a_file_that_becomes_shorter_after_loading(tmp_path):
    model_of("bert").save_pretrained(tmp_path / "folder")
    (tmp_path / "out").mkdir()
    loaded = load_model(tmp_path / "folder")
    os.truncate(tmp_path / "folder" / "model.safetensors", 200_000)
    with (
        Spill(tmp_path / "out" / "a.onnx") as spill,
        pytest.raises(FileTruncatedError, match=r"model\.safetensors"),
    ):
        quantize_module(loaded.module, RECIPES["w4a4-dynamic-token"], inplace=True, spill=spill)
    assert list((tmp_path / "out").iterdir()) == []
