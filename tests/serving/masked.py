"""A small encoder with a mask, whose results of a request must not depend on how far it was padded."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nvfp4_trt


class Masked(nn.Module):
    """One attention layer over embedded ids, behind a mask; the hidden states and the mean of those shown."""

    def __init__(self, width: int = 64, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.embed = nn.Embedding(100, width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.norm = nn.LayerNorm(width)
        self.pool = nn.Linear(width, 48)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embed(input_ids)
        batch, sequence, _ = x.shape
        q, k, v = (
            each(x).reshape(batch, sequence, self.heads, -1).transpose(1, 2)
            for each in (self.query, self.key, self.value)
        )
        shown = attention_mask[:, None, None, :].bool().expand(-1, -1, sequence, -1)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=shown).transpose(1, 2).flatten(2)
        hidden = self.norm(x + self.out(mixed))
        weights = attention_mask[:, :, None].to(hidden.dtype)
        return hidden, self.pool((hidden * weights).sum(1) / weights.sum(1))


def request(batch: int, sequence: int, seed: int = 0) -> dict[str, Tensor]:
    """Return random ids `[batch, sequence]`, all of them shown."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 100, (batch, sequence), generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def build(source, folder, **options):
    """Build a serving set for sm_120, on any machine."""
    return nvfp4_trt.build_buckets(
        source, folder, backend="tensorrt_rtx", targets=["sm_120"], **{"optimize": "off", **options}
    )
