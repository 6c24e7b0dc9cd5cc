"""How far one run's outputs are from another's: SQNR, cosine and the largest difference."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from nvfp4_trt.comparison.result import OutputMetrics, sqnr_db

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.generic]

_PIECE = 1 << 20


class Accumulator:
    """Sums over all batches of one output, in fp64; metrics are of the sums, not means of ratios.

    An infinity that both runs have in one place counts as equal, and adds nothing; anything else that is
    not finite (NaN anywhere, an infinity in one run) makes every metric NaN.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._sums = np.zeros(4)
        self._largest = 0.0
        self._broken = False

    def add(self, reference: Array, model: Array) -> None:
        """Add one batch: two arrays of one shape, any dtypes of real numbers."""
        ours, theirs = np.ravel(reference), np.ravel(model)
        for start in range(0, ours.size, _PIECE):
            self._add(
                ours[start : start + _PIECE].astype(np.float64),
                theirs[start : start + _PIECE].astype(np.float64),
            )

    def _add(self, reference: NDArray[np.float64], model: NDArray[np.float64]) -> None:
        finite = np.isfinite(reference) & np.isfinite(model)
        if not finite.all():
            self._broken |= bool((reference != model)[~finite].any())
            reference, model = reference[finite], model[finite]
        if reference.size:
            noise = model - reference
            self._sums += [reference @ reference, model @ model, reference @ model, noise @ noise]
            self._largest = max(self._largest, float(np.abs(noise).max()))

    def metrics(self) -> OutputMetrics:
        """Return the metrics of what was added so far."""
        if self._broken:
            return OutputMetrics(self.name, math.nan, math.nan, math.nan)
        signal, power, dot, noise = (float(number) for number in self._sums)
        cosine = 1.0 if noise == 0 else _cosine(signal, power, dot)
        return OutputMetrics(self.name, sqnr_db(signal, noise), cosine, self._largest)


def _cosine(signal: float, power: float, dot: float) -> float:
    if signal == 0 or power == 0:
        return 0.0
    return max(-1.0, min(1.0, dot / (math.sqrt(signal) * math.sqrt(power))))
