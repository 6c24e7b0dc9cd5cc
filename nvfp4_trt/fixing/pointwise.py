"""A 1x1 convolution → a linear layer over the channels of each position."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from nvfp4_trt.fixing.parts import linear_of

if TYPE_CHECKING:
    from torch.nn.modules.conv import _ConvNd


class PointwiseLinear(nn.Module):
    """What the convolution computes, on `[..., C, *positions]` with or without a batch.

    Args:
        source: a convolution with one kernel element, stride 1, no padding and one group.
    """

    def __init__(self, source: _ConvNd) -> None:
        super().__init__()
        self.axis = -1 - len(source.kernel_size)
        self.linear = linear_of(source.weight.flatten(1), source.bias)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (as nn.Conv2d names it)
        """Return `[..., N, *positions]`."""
        result: Tensor = self.linear(input.movedim(self.axis, -1))
        return result.movedim(-1, self.axis)
