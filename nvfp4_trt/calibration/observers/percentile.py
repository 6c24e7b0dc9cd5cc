"""`percentile`: a percentile of the magnitudes above zero; what lies above it may saturate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvfp4_trt.calibration.statistics import percentile_bin, upper_edges

if TYPE_CHECKING:
    from nvfp4_trt.calibration.statistics import Statistics
    from nvfp4_trt.recipe import Activations


def choose(seen: Statistics, activations: Activations) -> float:
    """Return the upper edge of the bin that the percentile falls into, at most the largest magnitude."""
    percent = 100.0 if activations.percentile is None else activations.percentile
    if not seen.magnitudes[1:].any():
        return seen.largest
    return min(float(upper_edges()[percentile_bin(seen.magnitudes, percent)]), seen.largest)
