"""`mse`: the block scales, and the per-tensor scale, that leave the least squared error.

Which e4m3 neighbours of the usual block scale are worth a look was measured on the weights of a sentence encoder
(10.6 million, signal to quantization noise): none, which is `max`, 20.50 dB; -1 and 5, 21.52 dB; -1, 1, 4 and 5,
21.74 dB; the six here, 21.80 dB, and so do all from -6 to 8. A step is a sixteenth to an eighth; 4 to 6 steps
up are where the largest magnitude maps to 4. Searching the per-tensor scale adds 0.01 dB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nvfp4_trt.format import round_e4m3, scale_from_amax
from nvfp4_trt.format.scales import block_scale_from_amax
from nvfp4_trt.quantization.methods.block_error import BlockErrors
from nvfp4_trt.quantization.methods.choice import ScaleChoice

if TYPE_CHECKING:
    from torch import Tensor

    from nvfp4_trt.format import ScaleRule

STEPS = (-1, 1, 3, 4, 5, 6)
"""Neighbours of the usual block scale that are tried, in steps of e4m3."""

_NUMBER = 7
"""The bits of an error that say which candidate it is of."""

_LARGEST_BYTE = 0x7E
"""448; 0x7F is NaN."""
_SMALLEST = 2.0**-9

_SHRINKS = tuple(2.0 ** (-i / 4) for i in range(4))
"""Where the largest block scale may lie below 448. Another octave is the same grid again."""

_SAMPLE = 1 << 14
"""Blocks that the per-tensor scale is chosen on, evenly spaced."""


def _block_scales(
    blocks: Tensor,
    amax: Tensor,  # noqa: ARG001 (as `ChooseBlockScales` has it)
    usual: Tensor,
    scale: Tensor,  # noqa: ARG001
    inverse: Tensor,
    rule: ScaleRule,
    importance: Tensor | None = None,
) -> Tensor:
    return _search(BlockErrors(blocks, inverse, importance), usual, rule)[0]


def _search(errors: BlockErrors, usual: Tensor, rule: ScaleRule) -> tuple[Tensor, Tensor]:
    """Return the best block scales, and their errors in units of the per-tensor scale, squared.

    An error's lowest bits are replaced by the number of its candidate. Errors are not negative and sort as
    integers do, so that one minimum finds both; of errors that differ in these bits only, the first one wins.
    """
    codes = usual.view(torch.uint8).int()
    lowest = int(round_e4m3(torch.tensor(max(rule.floor, _SMALLEST))).view(torch.uint8))
    least = errors.of(codes).view(torch.int32).bitwise_and_(~_NUMBER)
    for number, step in enumerate(STEPS, start=1):
        tried = (codes + step).clamp_(lowest, _LARGEST_BYTE)
        error = errors.of(tried).view(torch.int32)
        torch.minimum(least, error.bitwise_and_(~_NUMBER).bitwise_or_(number), out=least)
    winner = torch.bitwise_and(least, _NUMBER)
    steps = torch.tensor((0, *STEPS), dtype=torch.int32, device=usual.device)
    moved = (codes + steps[winner.long()]).clamp_(lowest, _LARGEST_BYTE)
    best = torch.where(winner == 0, codes, moved).to(torch.uint8)
    return best.view(usual.dtype), (least - winner).view(torch.float32)


def _per_tensor(blocks: Tensor, amax: Tensor, rule: ScaleRule) -> tuple[Tensor, Tensor]:
    step = -(-len(blocks) // _SAMPLE)
    sample, largest = blocks[::step], amax[::step]
    usual = scale_from_amax(amax.amax(), rule)
    best, least = usual, None
    for shrink in _SHRINKS:
        scale, inverse = scale_from_amax(amax.amax() / shrink, rule)
        block = block_scale_from_amax(largest, scale, inverse, rule)
        errors = _search(BlockErrors(sample, inverse), block, rule)[1]
        error = errors.sum(dtype=torch.float64) * scale.double() ** 2
        if least is None or bool(error < least):
            best, least = (scale, inverse), error
    return best


MSE = ScaleChoice(_block_scales, _per_tensor)
