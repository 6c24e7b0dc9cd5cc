"""What calibration keeps of an activation: a largest magnitude, and integer counts over bins that never move.

Integers add up to the same in any order, so statistics of parts (batches, runs, processes) merge into exactly
those of the whole. A bin is the upper bits of an fp32 number, so that no rounding decides where a value falls,
and every device counts alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from nvfp4_trt.format import BLOCK, cpu

if TYPE_CHECKING:
    from torch import Tensor

    Counts = np.ndarray[tuple[int], np.dtype[np.int64]]

_MANTISSA = 6
_SHIFT = 23 - _MANTISSA
BINS = 1 << (8 + _MANTISSA)
"""Bins of magnitudes: 64 in each octave, so that a bin is at most 1/64 wide, relative to its lower edge."""

RATIO_BINS = 65
"""Bins of an element over its block's maximum: 64 equal ones, and one for 1 itself."""

OCTAVES = 256
"""Exponents of fp32."""

_PIECE = 1 << 22
"""Elements that are counted at once: what counting takes beside the activation is some 12 bytes for each."""

MAGNITUDES, RATIOS = "magnitudes", "ratios"


@dataclass
class Statistics:
    """What was seen of the activation of one layer.

    Attributes:
        largest: the largest magnitude, exact; NaN or infinity where one was seen.
        blocks: int64 `[BINS]`, how many blocks of 16 have their largest magnitude in each bin.
        magnitudes: int64 `[BINS]`, how many elements have their magnitude in each bin; empty if not wanted.
        ratios: int64 `[OCTAVES * 65]`: by the exponent of the block's maximum, how many elements lie in each
            of `RATIO_BINS` when divided by it; empty if not wanted.
    """

    largest: float
    blocks: Counts
    magnitudes: Counts
    ratios: Counts

    @classmethod
    def empty(cls, wanted: frozenset[str]) -> Statistics:
        """Return the statistics of nothing, with the optional fields in `wanted`."""
        return cls(
            0.0,
            np.zeros(BINS, np.int64),
            np.zeros(BINS if MAGNITUDES in wanted else 0, np.int64),
            np.zeros(OCTAVES * RATIO_BINS if RATIOS in wanted else 0, np.int64),
        )

    def add(self, x: Tensor) -> None:
        """Count an activation `[..., K]` of fp32, fp16 or bf16, on any device.

        A K that is no multiple of 16, which FP8 layers may have, is filled up with zeros.
        """
        flat = torch.nn.functional.pad(x.detach(), (0, -x.shape[-1] % BLOCK)).reshape(-1, BLOCK)
        for start in range(0, len(flat), _PIECE // BLOCK):
            piece = flat[start : start + _PIECE // BLOCK]
            on_cpu = piece.device.type == "cpu"
            amax = cpu.block_amax(piece).reshape(-1) if on_cpu else piece.abs().amax(dim=-1).float()
            self.largest = larger(self.largest, float(amax.amax()))
            self.blocks += _count(_bin(amax), BINS)
            if self.magnitudes.size:
                self.magnitudes += _count(_bin(piece.float().abs()).reshape(-1), BINS)
            if self.ratios.size:
                self.ratios += _count(_ratio_bin(piece.float().abs(), amax).reshape(-1), self.ratios.size)

    def merge(self, other: Statistics) -> None:
        """Add what was seen elsewhere."""
        self.largest = larger(self.largest, other.largest)
        for mine, theirs in zip(self.counts, other.counts, strict=True):
            np.add(mine, theirs, out=mine)

    def put(self, counts: Counts) -> None:
        """Take over the numbers of `counts`, concatenated."""
        ends = np.cumsum([len(mine) for mine in self.counts])[:-1]
        for mine, given in zip(self.counts, np.split(counts, ends), strict=True):
            mine[:] = given

    @property
    def counts(self) -> tuple[Counts, Counts, Counts]:
        """The fields that add up."""
        return self.blocks, self.magnitudes, self.ratios


def lower_edges() -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Return the smallest magnitude of each bin, fp32 `[BINS]`; from the first above fp32's, infinity or NaN."""
    return (np.arange(BINS, dtype=np.int32) << _SHIFT).view(np.float32)


def upper_edges() -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Return the smallest magnitude above each bin, fp32 `[BINS]`."""
    return ((np.arange(BINS, dtype=np.int64) + 1) << _SHIFT).astype(np.int32).view(np.float32)


def percentile_bin(counts: Counts, percent: float) -> int:
    """Return the first bin up to which at least `percent` of all that is not zero lies.

    The first bin, of zero and what no scale keeps, does not count; some other bin must.
    """
    summed = np.cumsum(counts) - counts[0]
    return int(np.searchsorted(summed, max(1.0, float(summed[-1]) * percent / 100)))


def larger(a: float, b: float) -> float:
    """Return the larger number; NaN is larger than all."""
    return a if a != a or a >= b else b  # noqa: PLR0124 (only NaN is not itself)


def _bin(magnitudes: Tensor) -> Tensor:
    return magnitudes.view(torch.int32) >> _SHIFT


def _ratio_bin(magnitudes: Tensor, amax: Tensor) -> Tensor:
    """Return for fp32 `[blocks, 16]` the place in `Statistics.ratios` of each, int32."""
    # Of a subnormal maximum nothing is kept by any scale; 1 stands in for zero.
    within = magnitudes / torch.where(amax > 0, amax, 1.0).unsqueeze(-1)
    ratio = (within * (RATIO_BINS - 1)).nan_to_num(nan=0.0).to(torch.int32).clamp(max=RATIO_BINS - 1)
    return (amax.view(torch.int32) >> 23).unsqueeze(-1) * RATIO_BINS + ratio


def _count(places: Tensor, bins: int) -> Counts:
    counted: Counts = torch.bincount(places, minlength=bins).cpu().numpy()
    return counted
