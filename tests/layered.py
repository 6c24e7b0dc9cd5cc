"""A model with all that a comparison layer by layer has to cope with, and faults to plant in it."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class Layered(nn.Module):
    """Integer tokens, a mask, attention, one layer called twice, two equal layers, several outputs."""

    def __init__(self):
        super().__init__()
        self.embed, self.norm = nn.Embedding(50, 32), nn.LayerNorm(32)
        self.q, self.k, self.v = (nn.Linear(32, 32, bias=bias) for bias in (True, False, True))
        self.shared = nn.Linear(32, 32)
        self.twin_a, self.twin_b = nn.Linear(32, 64), nn.Linear(32, 64)
        self.twin_b.load_state_dict(self.twin_a.state_dict())
        self.down = nn.Linear(64, 32)

    def forward(self, ids, mask):
        x = self.norm(self.embed(ids))
        q, k, v = (layer(x)[:, None] for layer in (self.q, self.k, self.v))
        seen = mask[:, None, None].expand(-1, 1, mask.shape[1], -1)  # ONNX Runtime does not broadcast it
        x = x + F.scaled_dot_product_attention(q, k, v, attn_mask=seen)[:, 0]
        x = self.shared(F.relu(self.shared(x)))
        hidden = F.gelu(self.twin_a(x)) * self.twin_b(torch.tanh(x))
        return {"hidden": hidden, "y": self.down(hidden)}


LAYERS = ["q", "k", "v", "shared", "shared@2", "twin_a", "twin_b", "down"]


def make():
    torch.manual_seed(0)
    return Layered()


def batches(shapes=((2, 7), (3, 5))):
    for seed, (rows, length) in enumerate(shapes):
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(0, 50, (rows, length), generator=generator)
        mask = torch.arange(length)[None] < torch.randint(2, length + 1, (rows, 1), generator=generator)
        yield {"ids": ids, "mask": mask}


def double_scale(layer):
    """Spoil a per-tensor scale."""
    layer["weight_per_tensor_scale"] *= np.float32(2)


def raise_block_scale(layer):
    """Spoil one block's scale: half of it, the exponent of e4m3 before."""
    layer["weight_block_scale"][1, 0] -= 8


def swap_nibbles(layer):
    """Swap the two codes of the first byte that has two."""
    codes = layer["weight_packed"].reshape(-1)
    place = int(np.flatnonzero(codes // 16 != codes % 16)[0])
    codes[place] = codes[place] % 16 * 16 + codes[place] // 16


FAULTS = [double_scale, raise_block_scale, swap_nibbles]
PARTS = {"weight_packed": np.uint8, "weight_block_scale": np.uint8, "weight_per_tensor_scale": np.float32}
