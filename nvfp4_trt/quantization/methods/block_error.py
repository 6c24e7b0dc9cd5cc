"""The squared error that a block scale leaves in its block: what the searching methods compare."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nvfp4_trt.format import E2M1_MAX

if TYPE_CHECKING:
    from torch import Tensor

_EXPONENT = 0x7F800000
"""The exponent bits of an fp32 number: alone they are the power of two below it."""

_COARSEST = 4.0
"""e2m1 is spaced 0.5 up to 2, 1 up to 4, 2 from there: half the power of two below, from 1 to 4."""

_ROUNDER = 1.5 * 2.0**22
"""Adding 2^22 times a power of two, and a half more for numbers below 0, rounds to half of that power."""

_SPLITTER = 2.0**22
"""The same for magnitudes, with the number itself, 1 at least, in place of the power of two below it: what is
added has the same exponent. It saves a step; ties fall to either side, and their error is the same."""

_SCALES = torch.arange(0x7F, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
_INVERSES = torch.where(_SCALES == 0, 1.0, _SCALES).reciprocal()


class BlockErrors:
    """Computes errors of the same blocks for several scales.

    Blocks lie side by side here, `[16, B]`: a scale for each is then one row, and a sum over a block is fifteen
    additions of rows, which torch does several times faster than sixteen neighbours at a time.

    Args:
        blocks: fp16, bf16 or fp32 `[B, 16]`, finite.
        inverse: the reciprocal of the per-tensor scale, fp32, one number.
        importance: what the squared error of each column counts, fp32 `[16]`; all alike by default.
    """

    def __init__(self, blocks: Tensor, inverse: Tensor, importance: Tensor | None = None) -> None:
        self._magnitudes = torch.empty(blocks.shape[::-1], dtype=torch.float32, device=blocks.device)
        self._magnitudes.copy_(blocks.t()).abs_().mul_(inverse)
        self._values = torch.empty_like(self._magnitudes)
        self._splitters = torch.empty_like(self._magnitudes)
        self._importance = None if importance is None else importance.unsqueeze(-1)
        self._scales, self._inverses = _SCALES.to(blocks.device), _INVERSES.to(blocks.device)

    def of(self, scales: Tensor) -> Tensor:
        """Return the squared errors, fp32 `[B]`, in units of the per-tensor scale squared.

        Args:
            scales: bytes of e4m3 block scales, as int32 `[B]`. A block of scale 0 has codes 0: all of it is error.
        """
        s_b = torch.index_select(self._scales, 0, scales)
        values = torch.mul(self._magnitudes, torch.index_select(self._inverses, 0, scales), out=self._values)
        splitters = torch.clamp(values, min=1.0, out=self._splitters)
        rounded = values.add_(splitters, alpha=_SPLITTER).sub_(splitters, alpha=_SPLITTER).clamp_(max=E2M1_MAX)
        errors = torch.addcmul(self._magnitudes, rounded, s_b, value=-1, out=values)
        errors.mul_(errors)
        if self._importance is not None:
            errors.mul_(self._importance)
        return errors.sum(dim=0)


def round_to_grid(values: Tensor) -> Tensor:
    """Return the nearest e2m1 values, fp32, of fp32 numbers: ties to even, saturating at 6."""
    mask = torch.tensor(_EXPONENT, dtype=torch.int32, device=values.device)
    spacing = (values.view(torch.int32) & mask).view(torch.float32).clamp_(1.0, _COARSEST)
    rounded = values.add(spacing, alpha=_ROUNDER).sub_(spacing, alpha=_ROUNDER)
    return rounded.clamp_(-E2M1_MAX, E2M1_MAX)
