"""What the rewrites share."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def linear_of(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Return a linear layer that holds a weight `[N, K]` and a bias `[N]`, without making others first."""
    n, k = weight.shape
    with torch.device("meta"):
        made = nn.Linear(k, n, bias=bias is not None)
    made.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        made.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return made
