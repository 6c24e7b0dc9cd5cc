"""Observers: from the statistics of an activation to the largest magnitude that its static scale is for.

One file each. All of them compute on the CPU, in one thread, from integers and one maximum, so that equal
statistics give equal scales.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nvfp4_trt.calibration.observers import entropy, headroom, largest, mse, percentile
from nvfp4_trt.calibration.statistics import MAGNITUDES, RATIOS, Statistics
from nvfp4_trt.format import FLT_MAX
from nvfp4_trt.recipe import Activations, ObserverName

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Observer:
    """An observer: what it needs to be counted, and how it chooses.

    Attributes:
        wants: the optional fields of `Statistics` that it reads.
        choose: given statistics that hold something above zero, and the recipe's activations; returns the
            largest magnitude that the scale is for, above zero.
    """

    wants: frozenset[str]
    choose: Callable[[Statistics, Activations], float]


OBSERVERS = {
    ObserverName.MAX: Observer(frozenset(), largest.choose),
    ObserverName.PERCENTILE: Observer(frozenset({MAGNITUDES}), percentile.choose),
    ObserverName.MSE: Observer(frozenset({RATIOS}), mse.choose),
    ObserverName.ENTROPY: Observer(frozenset(), entropy.choose),
    ObserverName.HEADROOM: Observer(frozenset(), headroom.choose),
}


def observer_of(activations: Activations) -> Observer:
    """Return the observer of a recipe with static scaling."""
    if activations.observer is None:
        raise ValueError(f"no static scale to observe: scaling {activations.scaling}")
    return OBSERVERS[activations.observer]


def amax_of(seen: Statistics, activations: Activations, *, fp8: bool = False) -> float:
    """Return the largest magnitude that a layer's static scale is for: an fp32 number, finite.

    Args:
        seen: with the fields that `observer_of(activations)` wants; its maximum is finite.
        activations: of the recipe, static.
        fp8: whether the layer is FP8: no block scales take the range up there, and the observer is `max`.
    """
    if fp8 or not seen.blocks[1:].any():  # or all is zero, or so small that no scale keeps it
        return seen.largest
    chosen = observer_of(activations).choose(seen, activations)
    if not 0 < chosen < math.inf:
        chosen = FLT_MAX
    return chosen
