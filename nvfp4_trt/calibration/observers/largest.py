"""`max`: the largest magnitude that was seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nvfp4_trt.calibration.statistics import Statistics
    from nvfp4_trt.recipe import Activations


def choose(seen: Statistics, _activations: Activations) -> float:
    """Return it, exactly."""
    return seen.largest
