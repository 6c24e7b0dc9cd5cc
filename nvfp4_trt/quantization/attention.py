"""`nn.MultiheadAttention` with its projections as four linear layers that can be quantized one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own habit)

if TYPE_CHECKING:
    from collections.abc import Callable


IN_PROJECTIONS = ("q_proj", "k_proj", "v_proj")


def refusal(attention: nn.MultiheadAttention) -> str | None:
    """Return why an attention module must stay whole, or None where it can be opened."""
    if type(attention).forward is not nn.MultiheadAttention.forward:
        return f"{type(attention).__name__} overrides MultiheadAttention.forward"
    if attention.bias_k is not None or attention.bias_v is not None:
        return "MultiheadAttention with add_bias_kv"
    if attention.add_zero_attn:
        return "MultiheadAttention with add_zero_attn"
    return None


class ProjectedAttention(nn.Module):
    """Computes what `nn.MultiheadAttention` computes, through `q_proj`, `k_proj`, `v_proj`, `out_proj`.

    Queries, keys and values that are one tensor still meet one quantizer each of equal scale, which the
    exporter shares and TensorRT merges into one GEMM.
    """

    q_proj: Callable[[Tensor], Tensor]
    k_proj: Callable[[Tensor], Tensor]
    v_proj: Callable[[Tensor], Tensor]
    out_proj: Callable[[Tensor], Tensor]
    num_heads: int
    head_dim: int
    dropout: float
    batch_first: bool

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """See `torch.nn.MultiheadAttention.forward`: same arguments, shapes and results."""
        batched = query.dim() == 3  # noqa: PLR2004 (batch, sequence, embedding)
        if not batched:
            query, key, value = (t.unsqueeze(0) for t in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = self._batch_first(query, key, value)
        q, k, v = (
            self._heads(project(t))
            for project, t in ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        )
        if is_causal and attn_mask is None:
            raise ValueError("is_causal needs attn_mask, as in torch.nn.MultiheadAttention")
        mask = self._mask(attn_mask, key_padding_mask, q)
        dropout = self.dropout if self.training else 0.0
        weights: Tensor | None = None
        if need_weights:
            scores = q @ k.transpose(-2, -1) * self.head_dim**-0.5
            weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
            weights = F.dropout(weights, dropout, self.training)
            mixed = weights @ v
            weights = weights.mean(dim=1) if average_attn_weights else weights
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        out = self.out_proj(mixed.transpose(1, 2).flatten(2))
        if not batched:
            return out.squeeze(0), None if weights is None else weights.squeeze(0)
        return (out if self.batch_first else out.transpose(0, 1)), weights

    def _batch_first(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # What was one tensor stays one tensor, so that its quantizer can be shared.
        q = query.transpose(0, 1)
        k = q if key is query else key.transpose(0, 1)
        v = q if value is query else k if value is key else value.transpose(0, 1)
        return q, k, v

    def _heads(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], self.num_heads, self.head_dim).transpose(1, 2)

    def _mask(self, attn_mask: Tensor | None, padding: Tensor | None, q: Tensor) -> Tensor | None:
        """Add both masks up to one `[B or 1, heads or 1, Lq or 1, Lk]` of the dtype of `q`."""
        mask = None if attn_mask is None else _additive(attn_mask, q.dtype)
        if mask is not None and mask.dim() == 3:  # noqa: PLR2004 (batch times heads, Lq, Lk)
            mask = mask.reshape(q.shape[0], self.num_heads, *mask.shape[1:])
        if padding is None:
            return mask
        keys = _additive(padding, q.dtype)[:, None, None, :]
        return keys if mask is None else mask + keys


class OpenMultiheadAttention(ProjectedAttention):
    """An `nn.MultiheadAttention` whose projections are linear layers of their own.

    Args:
        source: the module to take the parameters of; see `refusal` for those that cannot be opened.
    """

    # What torch's encoder layers look at to see that their fused path, which reads these, is not for this
    # one.
    _qkv_same_embed_dim = False
    in_proj_weight = None
    in_proj_bias = None

    def __init__(self, source: nn.MultiheadAttention) -> None:
        super().__init__()
        self.embed_dim, self.num_heads = source.embed_dim, source.num_heads
        self.head_dim, self.dropout = source.head_dim, source.dropout
        self.batch_first = source.batch_first
        for name, (weight, bias) in in_projections(source).items():
            self.add_module(name, _linear(weight, bias))
        self.add_module("out_proj", _linear(source.out_proj.weight, source.out_proj.bias))
        self.train(source.training)


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype is torch.bool:
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(mask, float("-inf"))
    return mask.to(dtype)


def in_projections(attention: nn.MultiheadAttention) -> dict[str, tuple[Tensor, Tensor | None]]:
    """Return the weight `[N, K]` and the bias of `q_proj`, `k_proj` and `v_proj`: views, where they are one."""
    bias = attention.in_proj_bias
    biases = (None, None, None) if bias is None else bias.chunk(3)
    if attention.in_proj_weight is not None:
        weights = attention.in_proj_weight.chunk(3)
    else:
        weights = (attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight)
    return dict(zip(IN_PROJECTIONS, zip(weights, biases, strict=True), strict=True))


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    made.weight = nn.Parameter(weight.detach(), requires_grad=weight.requires_grad)
    if bias is not None:
        made.bias = nn.Parameter(bias.detach(), requires_grad=bias.requires_grad)
    return made
