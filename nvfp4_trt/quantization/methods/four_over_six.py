"""`four-over-six`: the largest magnitude of a block maps to 6 or to 4, whichever errs less.

e2m1 has nothing between 4 and 6. A block scaled to 4 has no such gap, and coarser steps below it; which is better
depends on the block. After Cook et al., "Four Over Six" (arXiv 2512.02010). They lower the per-tensor scale's 448
to 256, so that the block with the tensor's largest magnitude can be scaled to 4 too. Here 448 stays: the few
blocks that this concerns have both scales cut off at 448 or keep the usual one, and no block errs more than by
`max`. On the weights of a sentence encoder 256 and 448 differ by 0.003 dB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nvfp4_trt.format.scales import block_scale_from_amax
from nvfp4_trt.quantization.methods.block_error import BlockErrors
from nvfp4_trt.quantization.methods.choice import ScaleChoice

if TYPE_CHECKING:
    from torch import Tensor

    from nvfp4_trt.format import ScaleRule

_SIX_OVER_FOUR = 1.5


def _block_scales(
    blocks: Tensor,
    amax: Tensor,
    usual: Tensor,
    scale: Tensor,
    inverse: Tensor,
    rule: ScaleRule,
    importance: Tensor | None = None,
) -> Tensor:
    errors = BlockErrors(blocks, inverse, importance)
    other = block_scale_from_amax(amax * _SIX_OVER_FOUR, scale, inverse, rule)
    four, six = (scales.view(torch.uint8).int() for scales in (other, usual))
    better = errors.of(four) < errors.of(six)
    return torch.where(better, four, six).to(torch.uint8).view(usual.dtype)


FOUR_OVER_SIX = ScaleChoice(_block_scales)
