"""Hugging Face folders, written by transformers' own save_pretrained."""

import hashlib
import json
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from nvfp4_trt.errors import (
    DependencyMissingError,
    FileMissingError,
    FileTruncatedError,
    NotAModelError,
    StateDictMismatchError,
    UntrustedCodeError,
    WrongKindError,
)
from nvfp4_trt.loading import SourceKind, flatten_outputs, load_model

SIZES = {"vocab_size": 50, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
IDS = torch.arange(12).reshape(2, 6)


@pytest.fixture
def bert():
    torch.manual_seed(0)
    return BertModel(BertConfig(num_hidden_layers=1, max_position_embeddings=32, **SIZES)).eval()


@pytest.fixture
def folder(here, bert):
    bert.save_pretrained("bert")
    return here / "bert"


def edit(folder, **changes):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config.update(changes)
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def test_a_folder_is_loaded(folder, bert):
    loaded = load_model(folder)
    assert loaded.kind is SourceKind.FOLDER
    assert type(loaded.module) is BertModel
    assert not loaded.module.training
    assert loaded.notes == ("BertModel with sdpa attention, without a key-value cache",)
    assert loaded.module.config.use_cache is False
    expected, got = flatten_outputs(bert(IDS)), flatten_outputs(loaded.module(IDS))
    assert list(got) == ["last_hidden_state", "pooler_output"]
    assert all(torch.equal(expected[name], got[name]) for name in got)


def test_the_hash_is_over_config_and_weights(folder):
    names = ["config.json", "model.safetensors"]
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    assert load_model(folder).sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_sharded_tied_weights(here):
    config = LlamaConfig(
        num_hidden_layers=1,
        num_key_value_heads=1,
        max_position_embeddings=32,
        tie_word_embeddings=True,
        **SIZES,
    )
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained("llama", max_shard_size="8KB")
    assert (here / "llama" / "model.safetensors.index.json").exists()
    module = load_model("llama").module
    assert module.lm_head.weight is module.model.embed_tokens.weight
    output = flatten_outputs(module(IDS))
    assert list(output) == ["logits"]  # no cache
    assert torch.equal(output["logits"], model(IDS, use_cache=False).logits)


def test_a_missing_shard(here, bert):
    bert.save_pretrained("bert", max_shard_size="8KB")
    gone = sorted((here / "bert").glob("model-*.safetensors"))[1]
    gone.unlink()
    with pytest.raises(FileMissingError, match=f"such as {gone.name}") as caught:
        load_model("bert")
    assert caught.value.code == "file-missing"


@pytest.mark.parametrize("index", ["[]", "{}", "no", '{"weight_map": {"w": "../../x.safetensors"}}'])
def test_an_index_that_is_none(folder, index):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(NotAModelError, match=r"is no index|outside its folder"):
        load_model(folder)


def test_a_truncated_weights_file(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(FileTruncatedError, match="that its header states") as caught:
        load_model(folder)
    assert caught.value.code == "file-truncated"


def test_code_in_the_folder_is_refused_even_when_trusted(here, folder):
    edit(folder, auto_map={"AutoModel": "evil.Model"})
    (folder / "evil.py").write_text("import os\nos.mkdir('code-ran')\n")
    with pytest.raises(UntrustedCodeError, match="auto_map") as caught:
        load_model(folder, trust_pickle=True)
    assert caught.value.code == "untrusted-code"
    assert "--model package.module:factory" in caught.value.hint
    assert not (here / "code-ran").exists()


def test_pickled_weights_have_a_way_out(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(WrongKindError, match=r"has its weights in pytorch_model\.bin") as caught:
        load_model(folder)
    assert "save_pretrained" in caught.value.hint


def test_no_weights(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileMissingError, match=r"neither model\.safetensors nor"):
        load_model(folder)


def test_a_folder_without_a_config(here):
    (here / "empty").mkdir()
    with pytest.raises(NotAModelError, match=r"has no config\.json"):
        load_model("empty")


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"architectures": None}, NotAModelError, "names no architecture"),
        ({"architectures": ["NotThere"]}, NotAModelError, "has no model class 'NotThere'"),
        ({"architectures": ["BertTokenizer"]}, NotAModelError, "has no model class 'BertTokenizer'"),
        ({"quantization_config": {"bits": 4}}, WrongKindError, "is quantized already"),
        ({"hidden_size": 18}, StateDictMismatchError, r"do not have the shapes of config\.json: .*\(file \["),
        ({"num_hidden_layers": 2}, StateDictMismatchError, "lacks 16 weights of BertModel"),
        ({"num_attention_heads": 3}, NotAModelError, "BertModel cannot be loaded"),
    ],
)
def test_configs_that_do_not_fit(folder, changes, error, said):
    edit(folder, **changes)
    with pytest.raises(error, match=said) as caught:
        load_model(folder)
    assert caught.value.code == error.code


def test_a_config_that_is_not_json(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(NotAModelError, match="is not JSON"):
        load_model(folder)


def test_unused_weights_are_noted(folder):
    weights = load_file(folder / "model.safetensors")
    weights["cls.predictions.bias"] = torch.zeros(50)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "passed over 1 weights that BertModel has no place for" in load_model(folder).notes


def test_transformers_missing(folder, monkeypatch):
    # the interpreter's own way of saying that a module cannot be imported
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(DependencyMissingError, match="needs transformers") as caught:
        load_model(folder)
    assert caught.value.code == "dependency-missing"
    assert caught.value.hint == "pip install 'nvfp4-trt[hf]'"


def test_a_folder_takes_no_factory(folder):
    with pytest.raises(WrongKindError, match="a Hugging Face folder"):
        load_model(folder, factory="a:b")


def test_an_exported_transformer_keeps_its_output_names(here, bert):
    dynamic = {"input_ids": {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}}
    program = torch.export.export(bert, (), {"input_ids": IDS}, dynamic_shapes=dynamic)
    torch.export.save(program, "bert.pt2")
    loaded = load_model("bert.pt2")
    assert list(loaded.example) == ["input_ids"]
    got = flatten_outputs(loaded.module(input_ids=IDS[:1, :4]))
    assert list(got) == ["last_hidden_state", "pooler_output"]
    names = {n for n, inner in loaded.module.named_modules() if isinstance(inner, torch.nn.Linear)}
    assert names == {n for n, inner in bert.named_modules() if isinstance(inner, torch.nn.Linear)}
