"""`mse`: the scale under which the activation errs least, squared, when it is quantized.

The error of a block of 16 follows from its maximum, which decides the e4m3 scale, and from its elements' ratios
to that maximum. Both are counted: maxima in fine bins, ratios for each octave of maxima. So one pass over the
data gives the error under any scale, with the format's own arithmetic on the middle of each bin.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from nvfp4_trt import format as fmt
from nvfp4_trt.calibration.observers.candidates import candidates
from nvfp4_trt.calibration.statistics import OCTAVES, RATIO_BINS, lower_edges, upper_edges
from nvfp4_trt.format.scales import block_scale_from_amax

if TYPE_CHECKING:
    from nvfp4_trt.calibration.statistics import Statistics
    from nvfp4_trt.recipe import Activations

    Matrix = np.ndarray[tuple[int, int], np.dtype[np.float64]]

_UNITS_PER_OCTAVE = 256
_UNIT_OCTAVES = 8
"""A block's maximum in units of its scale: 6, give or take e4m3's rounding; up to 6 * 2^4 where it saturates."""


def choose(seen: Statistics, _activations: Activations) -> float:
    """Return the candidate with the least error; of equal ones the largest, which saturates last."""
    used = np.flatnonzero(seen.blocks[1:]) + 1
    edges = torch.from_numpy(np.stack([lower_edges()[used], upper_edges()[used]]))
    maxima = edges.mean(dim=0).clamp(max=seen.largest)
    by_octave = _errors_by_octave(seen)
    octaves = lower_edges()[used].view(np.int32) >> 23
    weights = seen.blocks[used] * np.square(maxima.numpy().astype(np.float64))
    tried = candidates(seen.largest)
    errors = [float((weights * by_octave[octaves, _place(maxima, float(amax))]).sum()) for amax in tried]
    return float(tried[int(np.argmin(errors))])


def _errors_by_octave(seen: Statistics) -> Matrix:
    """Return the squared error over the squared maximum of a block, by its octave and its place in `_units`.

    Each block of an octave counts with the octave's mean ratios.
    """
    ratios = seen.ratios.reshape(OCTAVES, RATIO_BINS).astype(np.float64)
    share = ratios / np.maximum(ratios.sum(axis=1, keepdims=True), 1)
    found: Matrix = np.einsum("or,ur->ou", share, _errors())  # no BLAS: in the same order everywhere
    return found


@cache
def _units() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return block maxima in units of their scale; 0 stands for a block whose scale is 0."""
    steps = np.arange(_UNITS_PER_OCTAVE * _UNIT_OCTAVES) / _UNITS_PER_OCTAVE
    return np.concatenate([[0.0], np.exp2(steps)])


@cache
def _errors() -> Matrix:
    """Return the squared error over the squared maximum, of each ratio at each of `_units`."""
    ratios = np.minimum(np.arange(RATIO_BINS) + 0.5, RATIO_BINS - 1) / (RATIO_BINS - 1)
    units = _units()[:, None]
    elements = units * ratios
    values = torch.tensor(fmt.E2M1_VALUES).double()[fmt.round_e2m1(torch.from_numpy(elements)).int()].numpy()
    dead = np.broadcast_to(np.square(ratios), elements.shape)
    return np.where(units == 0, dead, np.square((values - elements) / np.maximum(units, 1)))


def _place(maxima: torch.Tensor, amax: float) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the place in `_units` of blocks with these maxima, fp32, when the scale is for `amax`."""
    scale, inverse = fmt.scale_from_amax(torch.tensor(amax))
    block_scale = block_scale_from_amax(maxima, scale, inverse, fmt.SPEC).float()
    units = torch.where(block_scale == 0, 1.0, maxima * (inverse / block_scale)).numpy().astype(np.float64)
    steps = np.rint(np.log2(np.maximum(units, 1.0)) * _UNITS_PER_OCTAVE).astype(np.int64)
    places = 1 + np.minimum(steps, _UNITS_PER_OCTAVE * _UNIT_OCTAVES - 1)
    return np.where((block_scale == 0).numpy(), 0, places)
