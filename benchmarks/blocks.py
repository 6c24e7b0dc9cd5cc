"""Transformer blocks written out in torch: Llama-style, GPT-2-style and T5-style stacks.

Each stack takes hidden states `x`, floating `[batch, sequence, width]`, and returns the same shape. What a real
model computes once for all of its blocks (rotary angles, the table of position biases) is computed once here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

if TYPE_CHECKING:
    from collections.abc import Sequence


def _split(x: Tensor, heads: int) -> Tensor:
    """Return `[batch, sequence, heads · size]` as `[batch, heads, sequence, size]`."""
    return torch.unflatten(x, -1, (heads, -1)).transpose(1, 2)


def _join(x: Tensor) -> Tensor:
    """Undo `_split`."""
    return x.transpose(1, 2).flatten(2)


def _rotary(x: Tensor, size: int, base: float = 500_000.0) -> tuple[Tensor, Tensor]:
    """Return cosine and sine of each position's angles, `[sequence, size]` in the dtype of `x`.

    The halves of a head turn against each other, as in Llama's published checkpoints for `transformers`
    (the paper, https://arxiv.org/abs/2104.09864, pairs neighbours instead).
    """
    positions = torch.arange(x.shape[1], device=x.device, dtype=torch.float32)
    powers = torch.arange(0, size, 2, device=x.device, dtype=torch.float32) / size
    angles = positions[:, None] * base**-powers
    both = torch.cat((angles, angles), dim=-1)
    return both.cos().to(x.dtype), both.sin().to(x.dtype)


def _rotated(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    cosine, sine = angles
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat((-second, first), dim=-1) * sine


class LlamaBlock(nn.Module):
    """RMSNorm, causal attention with grouped keys and values and rotary positions, RMSNorm, SwiGLU."""

    def __init__(self, width: int, hidden: int, heads: int, groups: int) -> None:
        super().__init__()
        self.heads, self.groups = heads, groups
        narrow = width // heads * groups
        self.norm_1, self.norm_2 = nn.RMSNorm(width, eps=1e-5), nn.RMSNorm(width, eps=1e-5)
        self.q_proj, self.o_proj = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.k_proj, self.v_proj = (nn.Linear(width, narrow, bias=False) for _ in range(2))
        self.gate_proj, self.up_proj = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
        """Return the block's output, `[batch, sequence, width]`."""
        normed = self.norm_1(x)
        q = _rotated(_split(self.q_proj(normed), self.heads), angles)
        k = _rotated(_split(self.k_proj(normed), self.groups), angles)
        v = _split(self.v_proj(normed), self.groups)
        each = self.heads // self.groups
        k, v = (t[:, :, None].expand(-1, -1, each, -1, -1).flatten(1, 2) for t in (k, v))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o_proj(_join(mixed))
        normed = self.norm_2(x)
        added: Tensor = x + self.down_proj(functional.silu(self.gate_proj(normed)) * self.up_proj(normed))
        return added


class LlamaStack(nn.Module):
    """Llama blocks that share their rotary angles."""

    def __init__(self, layers: int, width: int, hidden: int, heads: int, groups: int) -> None:
        super().__init__()
        self.size = width // heads
        self.blocks = nn.ModuleList(LlamaBlock(width, hidden, heads, groups) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        """Return the last block's output, `[batch, sequence, width]`."""
        angles = _rotary(x, self.size)
        for block in self.blocks:
            x = block(x, angles)
        return x


class Gpt2Block(nn.Module):
    """LayerNorm, causal attention behind one fused projection, LayerNorm, a tanh-GELU MLP; `Conv1D` weights."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.c_attn, self.c_proj = Conv1D(3 * width, width), Conv1D(width, width)
        self.c_fc, self.mlp_proj = Conv1D(4 * width, width), Conv1D(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, `[batch, sequence, width]`."""
        q, k, v = (_split(part, self.heads) for part in self.c_attn(self.ln_1(x)).chunk(3, dim=-1))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(_join(mixed))
        added: Tensor = x + self.mlp_proj(functional.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))
        return added


class T5Block(nn.Module):
    """An encoder block of T5 1.1: RMSNorm, attention with position biases and no scaling, RMSNorm, gated GELU."""

    def __init__(self, width: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.wi_0, self.wi_1 = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.wo = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Return the block's output, `[batch, sequence, width]`.

        Args:
            x: `[batch, sequence, width]`.
            bias: what is added to every batch entry's scores, `[1, heads, sequence, sequence]`.
        """
        normed = self.norm_1(x)
        q, k, v = (_split(project(normed), self.heads) for project in (self.q, self.k, self.v))
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
        x = x + self.o(_join(mixed))
        normed = self.norm_2(x)
        gate = functional.gelu(self.wi_0(normed), approximate="tanh")
        added: Tensor = x + self.wo(gate * self.wi_1(normed))
        return added


class T5Stack(nn.Module):
    """T5 encoder blocks that share one table of relative position biases."""

    BUCKETS, FARTHEST = 32, 128

    def __init__(self, layers: int, width: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.relative_attention_bias = nn.Embedding(self.BUCKETS, heads)
        self.blocks = nn.ModuleList(T5Block(width, hidden, heads) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        """Return the last block's output, `[batch, sequence, width]`."""
        positions = torch.arange(x.shape[1], device=x.device)
        buckets = self._buckets(positions[None, :] - positions[:, None])
        bias = self.relative_attention_bias(buckets).permute(2, 0, 1)[None]
        for block in self.blocks:
            x = block(x, bias)
        return x

    def _buckets(self, offsets: Tensor) -> Tensor:
        """Return the row of the table for each distance key - query, int64 `[sequence, sequence]`.

        Half of the rows are for each direction; of these, half stand for one distance each and the rest for
        distances growing as a logarithm up to `FARTHEST` (T5, https://arxiv.org/abs/1910.10683, section 2.1).
        """
        half = self.BUCKETS // 2
        exact = half // 2
        away = offsets.abs()
        growth = torch.log(away.clamp(min=1).float() / exact) / math.log(self.FARTHEST / exact)
        far = (exact + growth * (half - exact)).long().clamp(max=half - 1)
        return torch.where(away < exact, away, far) + torch.where(offsets > 0, half, 0)


class Gpt2Stack(nn.Sequential):
    """GPT-2 blocks one after the other."""

    def __init__(self, layers: int, width: int, heads: int) -> None:
        super().__init__(*(Gpt2Block(width, heads) for _ in range(layers)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the last block's output, `[batch, sequence, width]`."""
        for block in self:
            x = block(x)
        return x


def fill(module: nn.Module, dtype: torch.dtype, seed: int, *, ones: Sequence[type[nn.Module]]) -> nn.Module:
    """Give a module that was made on the meta device its weights, straight in `dtype`.

    Matrices are normal with deviation 1/√K, as an untrained network's usually are; vectors are small, and around
    1 in the modules of the types in `ones` (norms' gains).

    Args:
        module: has parameters only; a buffer would stay uninitialized.
        dtype: of all parameters.
        seed: of the random numbers.
        ones: types of modules whose `weight` is a gain.
    """
    generator = torch.Generator().manual_seed(seed)
    module = module.to(dtype).to_empty(device="cpu")
    with torch.no_grad():
        for child in module.modules():
            for name, parameter in child.named_parameters(recurse=False):
                inside = parameter.shape[0] if isinstance(child, Conv1D) else parameter.shape[-1]
                gain = isinstance(child, tuple(ones)) and name == "weight"
                deviation = 0.02 if parameter.dim() == 1 else inside**-0.5
                parameter.normal_(1.0 if gain else 0.0, deviation, generator=generator)
    return module
