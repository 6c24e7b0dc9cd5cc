"""`entropy`: the scale whose quantization changes the distribution of block maxima least.

TensorRT's calibration for int8 chooses the threshold with the smallest Kullback-Leibler divergence between a
histogram and the same after it went through 128 levels (S. Migacz, "8-bit inference with TensorRT", GTC 2017).
What the per-tensor scale of NVFP4 quantizes is block maxima, and the levels are those of e4m3. There the tail
is gathered into the last bin before the two are compared, which costs so little that e4m3, whose levels are as
dense below as above, would lose it for nothing. Here it is part of what the last level stands for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from nvfp4_trt import format as fmt
from nvfp4_trt.calibration.observers.candidates import candidates
from nvfp4_trt.calibration.statistics import lower_edges
from nvfp4_trt.format.scales import block_scale_from_amax

if TYPE_CHECKING:
    from nvfp4_trt.calibration.statistics import Counts, Statistics
    from nvfp4_trt.recipe import Activations


def choose(seen: Statistics, _activations: Activations) -> float:
    """Return the candidate with the least divergence; of equal ones the largest, which saturates last."""
    used = np.flatnonzero(seen.blocks[1:]) + 1
    maxima, counts = torch.from_numpy(lower_edges()[used]), seen.blocks[used]
    tried = candidates(seen.largest)
    divergences = [_divergence(counts, _levels(maxima, float(amax))) for amax in tried]
    return float(tried[int(np.argmin(divergences))])


def _levels(maxima: torch.Tensor, amax: float) -> Counts:
    """Return the e4m3 code of each block maximum when the per-tensor scale is for `amax`: int64."""
    scale, inverse = fmt.scale_from_amax(torch.tensor(amax))
    codes = block_scale_from_amax(maxima, scale, inverse, fmt.SPEC).view(torch.uint8)
    return codes.numpy().astype(np.int64)


def _divergence(counts: Counts, levels: Counts) -> float:
    """Return KL(P || Q): P the counts by bin, Q the same with each level's counts spread evenly over its bins."""
    spread = np.bincount(levels, weights=counts)[levels] / np.bincount(levels)[levels]
    return float((counts * np.log(counts / spread)).sum() / counts.sum())
