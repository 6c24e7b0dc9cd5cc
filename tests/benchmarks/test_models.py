"""The models that the benchmarks measure: the blocks written here compute what transformers' own ones compute."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2Model, LlamaConfig, LlamaModel, T5Config, T5EncoderModel

FOLDER = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(FOLDER))  # benchmarks are scripts beside each other

import blocks  # noqa: E402


def _load():
    """Import benchmarks/models.py under another name: the tests have a module `models` of their own."""
    spec = importlib.util.spec_from_file_location("benchmark_models", FOLDER / "models.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


models = _load()


def _copy(target, source):
    """Give a module the parameters of another, in the order in which `source` lists pairs of modules."""
    for ours, theirs in source:
        target.get_submodule(theirs).load_state_dict(ours.state_dict())


def _agree(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.fixture
def x():
    return torch.randn(2, 37, 64, generator=torch.Generator().manual_seed(1))


def test_llama_blocks_are_those_of_transformers(x):
    ours = blocks.LlamaStack(2, 64, 112, heads=8, groups=2).eval()
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=112,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=2,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
        vocab_size=8,
    )
    theirs = LlamaModel(config).eval()
    theirs.norm = nn.Identity()
    names = {"norm_1": "input_layernorm", "norm_2": "post_attention_layernorm"}
    names |= {f"{name}_proj": f"self_attn.{name}_proj" for name in "qkvo"}
    names |= {f"{name}_proj": f"mlp.{name}_proj" for name in ("gate", "up", "down")}
    for index, block in enumerate(ours.blocks):
        _copy(theirs, [(getattr(block, name), f"layers.{index}.{other}") for name, other in names.items()])
    with torch.no_grad():
        _agree(ours(x), theirs(inputs_embeds=x).last_hidden_state)


def test_gpt2_blocks_are_those_of_transformers(x):
    ours = blocks.Gpt2Stack(2, 64, heads=4).eval()
    config = GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=8, activation_function="gelu_new")
    theirs = GPT2Model(config).eval()
    theirs.ln_f = nn.Identity()
    theirs.wpe.weight.data.zero_()
    names = {"ln_1": "ln_1", "ln_2": "ln_2", "c_attn": "attn.c_attn", "c_proj": "attn.c_proj"}
    names |= {"c_fc": "mlp.c_fc", "mlp_proj": "mlp.c_proj"}
    for index, block in enumerate(ours):
        for name in ("c_attn", "c_proj", "c_fc", "mlp_proj"):
            nn.init.normal_(getattr(block, name).bias)
        _copy(theirs, [(getattr(block, name), f"h.{index}.{other}") for name, other in names.items()])
    with torch.no_grad():
        _agree(ours(x), theirs(inputs_embeds=x).last_hidden_state)


def test_t5_blocks_are_those_of_transformers():
    x = torch.randn(
        1, 300, 64, generator=torch.Generator().manual_seed(1)
    )  # beyond the farthest distance told apart
    ours = blocks.T5Stack(2, 64, 112, heads=4).eval()
    config = T5Config(
        d_model=64, d_kv=16, d_ff=112, num_layers=2, num_heads=4, vocab_size=8, feed_forward_proj="gated-gelu"
    )
    theirs = T5EncoderModel(config).eval().encoder
    theirs.final_layer_norm = nn.Identity()
    names = {name: f"layer.0.SelfAttention.{name}" for name in "qkvo"}
    names |= {"norm_1": "layer.0.layer_norm", "norm_2": "layer.1.layer_norm"}
    names |= {name: f"layer.1.DenseReluDense.{name}" for name in ("wi_0", "wi_1", "wo")}
    for index, block in enumerate(ours.blocks):
        _copy(theirs, [(getattr(block, name), f"block.{index}.{other}") for name, other in names.items()])
    _copy(theirs, [(ours.relative_attention_bias, "block.0.layer.0.SelfAttention.relative_attention_bias")])
    with torch.no_grad():
        _agree(ours(x), theirs(inputs_embeds=x).last_hidden_state)


@pytest.mark.parametrize("name", models.NAMES)
def test_every_model_runs_small_and_is_the_same_each_time(name):
    first, second = (models.make(name, 1, torch.float32, scale=8, batch=2, sequence=9) for _ in range(2))
    with torch.no_grad():
        found, again = (s.module(**s.inputs) for s in (first, second))
    found, again = (
        (f[0] if isinstance(f, tuple) or hasattr(f, "last_hidden_state") else f) for f in (found, again)
    )
    assert torch.isfinite(found).all()
    assert torch.equal(found, again)
    assert found.shape[:2] == ((2, 197) if name == "vit-b" else (2, 9))
    assert not first.module.training
    zeros = [n for n, p in first.module.named_parameters() if p.dim() == 1 and not p.any()]
    # a compiler may drop what adds zero; the sentence encoder keeps its own weights, and its pooler has no bias
    assert zeros == (["pooler.dense.bias"] if name == "minilm" else [])


def test_full_sizes_are_those_of_the_models():
    counted = {name: sum(p.numel() for p in models.make(name).module.parameters()) for name in ("llama-block",)}
    assert counted["llama-block"] == 218_112_000
    (block,) = models.make("t5-block", 1).module.blocks
    assert (block.wi_0.in_features, block.wi_0.out_features) == (768, 2048)
    (block,) = models.make("gpt2-block", 1).module
    assert tuple(block.c_attn.weight.shape) == (768, 2304)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="'gpt3' is none of minilm"):
        models.make("gpt3")
