"""How codes and block scales are distributed: counted byte by byte, which adds up over tensors and batches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

from nvfp4_trt.portable import e2m1_values, stored_weights
from nvfp4_trt.reporting.data import EXPONENTS, GRID, Codes, Scales

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

    Counts = NDArray[np.int64]

_PIECE = 1 << 22
_PLACES = np.array([GRID.index(value) for value in e2m1_values().tolist()])
"""Code → its place in `GRID`; -0.0 equals 0.0."""
_E4M3 = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float64)
_LARGEST, _SMALLEST_NORMAL = 448.0, 2.0**-6
_FP8 = "Fp8Dequantize"


class Counter:
    """Counts the bytes of packed codes and of their block scales."""

    def __init__(self) -> None:
        self._codes = np.zeros(256, dtype=np.int64)
        self._scales = np.zeros(256, dtype=np.int64)

    def add(self, packed: NDArray[np.generic], block_scale: NDArray[np.generic]) -> None:
        """Add one tensor: packed codes uint8 `[..., K/2]` and block scales e4m3fn `[..., K/16]`."""
        self._codes += _count(packed)
        self._scales += _count(block_scale)

    def codes(self) -> Codes:
        """Return how often each e2m1 value occurs."""
        both = self._codes.reshape(16, 16)  # high nibble, low nibble
        counts = np.zeros(len(GRID), dtype=np.int64)
        np.add.at(counts, _PLACES, both.sum(axis=0) + both.sum(axis=1))
        return Codes(counts=tuple(counts.tolist()), nan_blocks=int(self._scales[np.isnan(_E4M3)].sum()))

    def scales(self) -> Scales:
        """Return the distribution of the block scales; NaN is left out."""
        kept = ~np.isnan(_E4M3)
        values, counts = _E4M3[kept], self._scales[kept]
        positive = values > 0
        exponents = np.floor(np.log2(values[positive])).astype(int) - EXPONENTS[0]
        by_exponent = np.bincount(exponents, weights=counts[positive], minlength=len(EXPONENTS)).astype(int)
        seen = values[positive & (counts > 0)]
        return Scales(
            counts=tuple(by_exponent.tolist()),
            zeros=int(counts[values == 0].sum()),
            largest=int(counts[values == _LARGEST].sum()),
            subnormal=int(counts[positive & (values < _SMALLEST_NORMAL)].sum()),
            low=float(seen.min(initial=math.inf)) if seen.size else 0.0,
            quartiles=_quartiles(values, counts),
            high=float(seen.max(initial=0.0)),
        )


def _count(array: NDArray[np.generic]) -> Counts:
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    total = np.zeros(256, dtype=np.int64)
    for start in range(0, flat.size, _PIECE):  # bincount makes int64 of what it counts
        total += np.bincount(flat[start : start + _PIECE], minlength=256)
    return total


def _quartiles(values: NDArray[np.float64], counts: Counts) -> tuple[float, float, float]:
    order = np.argsort(values)
    running = np.cumsum(counts[order])
    if not running[-1]:
        return (0.0, 0.0, 0.0)
    low, middle, high = (values[order[np.searchsorted(running, q * running[-1])]] for q in (0.25, 0.5, 0.75))
    return float(low), float(middle), float(high)


def weight_distributions(model: ir.Model) -> dict[str, tuple[Codes, Scales]]:
    """Return the codes and block scales of every NVFP4 weight of a portable file, by layer.

    Raises:
        ValueError: a weight is of another dtype than the format's, or shorter than its shape.
    """
    found = {}
    for held in stored_weights(model):
        if held.operator == _FP8:
            continue
        packed, block_scale = held.tensors[0].numpy(), held.tensors[1].numpy()
        if (packed.dtype.name, block_scale.dtype.name) != ("uint8", "float8_e4m3fn"):
            raise ValueError(f"{held.layer} has codes of {packed.dtype} and block scales of {block_scale.dtype}")
        counter = Counter()
        counter.add(packed, block_scale)
        found[held.layer] = counter.codes(), counter.scales()
    return found
