"""The small models that several tests share."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class OddMLP(nn.Module):
    """An MLP whose second layer has a K that is no multiple of 16, and whose head has N = 1."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(64, 100)
        self.fc2 = nn.Linear(100, 128)
        self.fc3 = nn.Linear(128, 96)
        self.head = nn.Linear(96, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.gelu(self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))))


class GPT2Block(nn.Module):
    """Hugging Face Conv1D layers, a causal mask, and an embedding tied with the head."""

    def __init__(self, vocabulary: int = 320, width: int = 64, heads: int = 4) -> None:
        from transformers.pytorch_utils import Conv1D

        super().__init__()
        self.heads = heads
        self.wte = nn.Embedding(vocabulary, width)
        self.ln_1, self.ln_2, self.ln_f = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.c_attn, self.c_proj = Conv1D(3 * width, width), Conv1D(width, width)
        self.c_fc, self.c_out = Conv1D(4 * width, width), Conv1D(width, 4 * width)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.wte(ids)
        q, k, v = (
            t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.c_attn(self.ln_1(x)).chunk(3, dim=-1)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(mixed.transpose(1, 2).flatten(2))
        x = x + self.c_out(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))
        return self.lm_head(self.ln_f(x))


class WrittenRMSNorm(nn.Module):
    """RMSNorm as Hugging Face's Llama writes it out: in fp32, and rounded before the weight."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        return self.weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)


class LlamaBlock(nn.Module):
    """RMSNorm (written out, and torch's own), grouped attention, SwiGLU."""

    def __init__(self, width: int = 64, heads: int = 4, groups: int = 2, hidden: int = 128) -> None:
        super().__init__()
        self.size = width // heads
        self.norm_1, self.norm_2 = WrittenRMSNorm(width), nn.RMSNorm(width, eps=1e-5)
        self.q, self.o = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.k, self.v = (nn.Linear(width, groups * self.size, bias=False) for _ in range(2))
        self.gate, self.up = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm_1(x)
        q, k, v = (
            project(normed).unflatten(-1, (-1, self.size)).transpose(1, 2) for project in (self.q, self.k, self.v)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.o(mixed.transpose(1, 2).flatten(2))
        normed = self.norm_2(x)
        return x + self.down(F.silu(self.gate(normed)) * self.up(normed))


def encoder_layer() -> nn.Module:
    return nn.TransformerEncoderLayer(64, 4, dim_feedforward=128, batch_first=True, activation="gelu").eval()


def odd_mlp_state_dict_factory() -> nn.Module:
    return OddMLP()


def make(name: str) -> tuple[nn.Module, dict[str, Tensor], tuple[str, ...]]:
    """Return a model, a batch for it and its dynamic dimensions; the same numbers each time."""
    torch.manual_seed(0)
    if name == "mlp":
        return OddMLP().eval(), {"x": torch.randn(3, 64)}, ("batch",)
    if name == "gpt2":
        return GPT2Block().eval(), {"ids": torch.randint(0, 320, (2, 12))}, ("batch,sequence",)
    if name == "llama":
        return LlamaBlock().eval(), {"x": torch.randn(2, 6, 64)}, ("batch,sequence",)
    return encoder_layer(), {"src": torch.randn(2, 10, 64)}, ("batch,sequence",)
