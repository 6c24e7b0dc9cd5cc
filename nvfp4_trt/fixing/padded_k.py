"""A linear layer whose K is no multiple of 16, or below 32 → one on an input padded with zeros."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own habit)

from nvfp4_trt.fixing.parts import linear_of
from nvfp4_trt.format import BLOCK
from nvfp4_trt.layers import MIN_K
from nvfp4_trt.quantization.select import weight_nk


class PaddedLinear(nn.Module):
    """What the layer computes: products with zeros are zero, in the padded columns of the weight as of the input.

    Args:
        source: an `nn.Linear`, or Hugging Face's `Conv1D`.
    """

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        weight = weight_nk(source)
        k = weight.shape[1]
        self.more = max(MIN_K, -(-k // BLOCK) * BLOCK) - k
        self.linear = linear_of(F.pad(weight.detach(), (0, self.more)), source.bias)  # type: ignore[arg-type]

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (as nn.Linear names it)
        """Return `[..., N]` for `[..., K]`."""
        result: Tensor = self.linear(F.pad(input, (0, self.more)))
        return result
