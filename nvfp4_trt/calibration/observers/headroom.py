"""`headroom`: room above what was seen, as far as small blocks do not pay for it.

A block's e4m3 scale has its full precision from 2^-6 to 448, a range of 28672. Which part of it calibrated blocks
use is free: with the per-tensor scale of their maximum they are at its top, and a larger activation saturates.
This observer puts a low percentile of the block maxima, the anchor, near the bottom instead: the scale is for
`ratio` times the anchor, but never for less than a high percentile of the maxima. The idea, and the defaults
(1, 99.99, 16384), are those of ModelOpt's `nvfp4_act_headroom` (its pull request 2028).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvfp4_trt.calibration.statistics import lower_edges, percentile_bin, upper_edges
from nvfp4_trt.format import FLT_MAX

if TYPE_CHECKING:
    from nvfp4_trt.calibration.statistics import Statistics
    from nvfp4_trt.recipe import Activations


def choose(seen: Statistics, activations: Activations) -> float:
    """Return `max(ratio * anchor, high)`, of the percentiles `anchor` and `percentile` of block maxima."""
    low, high, ratio = activations.anchor, activations.percentile, activations.ratio
    if low is None or high is None or ratio is None:
        raise ValueError(f"headroom without its parameters: {activations}")
    anchor = float(lower_edges()[percentile_bin(seen.blocks, low)])
    upper = min(float(upper_edges()[percentile_bin(seen.blocks, high)]), seen.largest)
    return min(max(ratio * anchor, upper), FLT_MAX)
