"""One small model for each form of graph that a lowering pass looks for."""

import copy

import torch
from models import make
from torch import Tensor, nn
from torch.nn import functional as F


class Heads(nn.Module):
    """Self-attention behind a norm, its heads folded by `reshape(b, s, -1)`, and a pooled first token."""

    def __init__(self, width: int = 64, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm_in, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out, self.pooler = nn.Linear(width, width), nn.Linear(width, 48)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        batch, sequence, _ = x.shape
        normed = self.norm_in(x)
        q, k, v = (
            project(normed).reshape(batch, sequence, self.heads, -1).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, sequence, -1)
        hidden = self.norm_out(x + self.out(mixed))
        return hidden, torch.tanh(self.pooler(hidden[:, 0]))


class Shared(nn.Module):
    """Weights of several layers that are one or equal: a layer that runs twice, under one name and under two;
    two layers with one weight, on one input and one behind the other; a layer and its copy, likewise."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.twice, self.alias = nn.Linear(width, width), nn.Linear(width, width)
        self.another_name = self.alias
        self.tied, self.tied_beside, self.tied_behind = (nn.Linear(width, width) for _ in range(3))
        self.tied_beside.weight = self.tied_behind.weight = self.tied.weight
        self.first = nn.Linear(width, width, bias=False)
        self.copy_beside, self.copy_behind = copy.deepcopy(self.first), copy.deepcopy(self.first)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.twice(F.relu(self.twice(x))))
        x = F.relu(self.another_name(F.relu(self.alias(x))))
        x = self.tied_behind(F.relu(self.tied(x)) - F.relu(self.tied_beside(x)))
        return self.copy_behind(F.relu(self.first(x)) + F.silu(self.copy_beside(x)))


def _rows() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 48), nn.GELU(), nn.Linear(48, 40))


PARTS = {
    "rows": (_rows, (3, 64), ("batch",)),  # rank 2: torch writes Gemm with bias
    "bare": (lambda: nn.Linear(64, 48, bias=False), (2, 5, 64), ("batch,sequence",)),  # its GEMM is an output
    "rank4": (lambda: nn.Linear(64, 48), (2, 3, 4, 64), ("batch",)),
    "heads": (Heads, (2, 6, 64), ("batch,sequence",)),
    "shared": (Shared, (2, 6, 32), ("batch,sequence",)),
}


def example(name: str) -> tuple[nn.Module, dict[str, Tensor], tuple[str, ...]]:
    """Return a model of `PARTS` or of `models.make`, a batch and its dynamic dimensions; always the same."""
    if name not in PARTS:
        return make(name)
    make_module, shape, dynamic = PARTS[name]
    torch.manual_seed(0)
    module = make_module().eval()
    parameter = "x" if name in {"heads", "shared"} else "input"
    return module, {parameter: torch.randn(shape) * 3}, dynamic
