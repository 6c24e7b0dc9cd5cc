"""A transformer block whose norms stand in front or behind."""

from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    """Attention and an MLP, with norms in front (Llama-style) or behind (BERT-style)."""

    def __init__(self, before, *, width=256, heads=4, inner=512):
        super().__init__()
        self.before, self.heads = before, heads
        norm = nn.RMSNorm if before else nn.LayerNorm
        self.norm_1, self.norm_2 = norm(width), norm(width)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width, bias=not before) for _ in range(4))
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)

    def attention(self, x):
        q, k, v = (each(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in (self.q, self.k, self.v))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def forward(self, x):
        if self.before:
            x = x + self.attention(self.norm_1(x))
            return x + self.down(F.gelu(self.up(self.norm_2(x))))
        x = self.norm_1(x + self.attention(x))
        return self.norm_2(x + self.down(F.gelu(self.up(x))))
