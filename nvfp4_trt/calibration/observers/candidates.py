"""The scales that an observer chooses among, where it has to try them."""

from __future__ import annotations

import numpy as np

from nvfp4_trt.format import FLT_MAX

_STEPS = 16
"""In an octave: e4m3 has 8 numbers in one."""
_ABOVE, _BELOW = 1, 4
"""Octaves above the largest magnitude, where each phase of e4m3's grid comes once, and below."""


def candidates(largest: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Return the magnitudes that the scale may be for, fp32, from the largest down."""
    octaves = np.arange(_ABOVE * _STEPS, -_BELOW * _STEPS - 1, -1) / _STEPS
    return np.minimum(largest * np.exp2(octaves), FLT_MAX).astype(np.float32)
