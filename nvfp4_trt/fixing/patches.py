"""A convolution whose windows tile its input, as a patch embedding's → a linear layer over flattened patches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from nvfp4_trt.fixing.parts import linear_of

if TYPE_CHECKING:
    from torch.nn.modules.conv import _ConvNd


class PatchLinear(nn.Module):
    """What the convolution computes, on `[..., C, *extents]` with or without a batch; it drops a remainder too.

    Args:
        source: a convolution whose stride is its kernel, without padding and dilation, of one group.
    """

    def __init__(self, source: _ConvNd) -> None:
        super().__init__()
        self.patch = tuple(source.kernel_size)
        self.linear = linear_of(source.weight.flatten(1), source.bias)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (as nn.Conv2d names it)
        """Return `[..., N, *patches]`: of each extent `[patches, size]`, the size moves behind the channels."""
        count = len(self.patch)
        first = input.dim() - count
        counts = []
        for i, size in enumerate(self.patch):
            axis = first + i
            patches = input.shape[axis] // size
            counts.append(patches)
            input = input.narrow(axis, 0, patches * size)  # noqa: A001
        shape = [*input.shape[:first]]
        for patches, size in zip(counts, self.patch, strict=True):
            shape += [patches, size]
        lead = list(range(first - 1))
        positions = [first + 2 * i for i in range(count)]
        inside = [first - 1, *(axis + 1 for axis in positions)]
        tiled = input.reshape(shape).permute(*lead, *positions, *inside).flatten(-1 - count)
        result: Tensor = self.linear(tiled)
        return result.movedim(-1, first - 1)
