"""`gptq`: codes that make good what the codes before them did to the layer's output.

Frantar et al., "GPTQ" (arXiv 2210.17323), on the NVFP4 grid. Columns are quantized one after another; the error of
each is taken from the columns that follow, `w_k -= (w_j - q_j) / U_jj * U_jk` with Uᵀ·U = H⁻¹. The block scales of
16 columns are chosen when their turn comes, from what they have become, each column's error counting 1 / U_jj²:
what is left of it after the columns behind have done what they can.

Before that the weight goes towards the one that reproduces the float layer's output by least squares from what
will enter the quantized layer (as in GPTAQ, arXiv 2504.02692): inputs that are quantized, and come from quantized
layers. It goes as far as what is found on one half of the inputs is right on the other (`Moments.pulled`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch

from nvfp4_trt import format as fmt
from nvfp4_trt.format.scales import block_scale_from_amax
from nvfp4_trt.quantization.methods.block_error import round_to_grid
from nvfp4_trt.quantization.modules import PackedWeight

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from torch import Tensor

    from nvfp4_trt.quantization.methods.choice import ScaleChoice
    from nvfp4_trt.quantization.methods.moments import Moments

_COLUMNS = 128
"""Columns whose errors reach those behind them in one matrix product."""


_ROWS = 256
"""Rows that one thread takes at a time: rows have nothing to do with each other. On a GPU it takes all at once."""


def gptq(
    weight: Tensor, moments: Moments, rule: fmt.ScaleRule, choice: ScaleChoice, pool: ThreadPoolExecutor
) -> PackedWeight:
    """Quantize a weight for given inputs.

    Args:
        weight: fp16, bf16 or fp32 `[N, K]`, finite, K a multiple of 16.
        moments: of the layer's inputs, on the weight's device.
        rule: how block scales are rounded.
        choice: how scales are chosen.
        pool: as from `packing.every_core`.
    """
    columns, upper = moments.factors
    moved = moments.pulled(weight).contiguous()
    blocks = moved.view(-1, fmt.BLOCK)
    scale, inverse = choice.per_tensor(blocks, blocks.abs().amax(dim=1), rule)

    def quantize(rows: Tensor) -> _Sweep:
        return _Sweep(rows.t()[columns].contiguous(), upper, scale, inverse, rule, choice).run()

    parts = (
        list(pool.map(quantize, torch.split(moved, _ROWS))) if moved.device.type == "cpu" else [quantize(moved)]
    )
    back = torch.argsort(columns)
    codes = torch.cat([part.codes[back].t() for part in parts])
    scales = torch.cat([part.scales[back[:: fmt.BLOCK] // fmt.BLOCK].t() for part in parts])
    return PackedWeight(fmt.pack_codes(codes), scales.view(torch.float8_e4m3fn), scale)


class _Sweep:
    """Goes over the columns of a weight, which lie as rows here: `[K, N]`, in the order of quantizing."""

    def __init__(
        self,
        rows: Tensor,
        upper: Tensor,
        scale: Tensor,
        inverse: Tensor,
        rule: fmt.ScaleRule,
        choice: ScaleChoice,
    ) -> None:
        self.rows, self.upper, self.rule, self.choice = rows, upper, rule, choice
        self.scale, self.inverse = scale, inverse
        k, n = rows.shape
        self.codes = torch.empty((k, n), dtype=torch.uint8, device=rows.device)
        self.scales = torch.empty((k // fmt.BLOCK, n), dtype=torch.uint8, device=rows.device)

    def run(self) -> Self:
        """Fill `codes` and the bytes of `scales`; what is left in `rows` has no meaning."""
        rows, upper = self.rows, self.upper
        for first in range(0, len(rows), _COLUMNS):
            end = min(first + _COLUMNS, len(rows))
            errors = torch.empty_like(rows[first:end])
            for start in range(first, end, fmt.BLOCK):
                stop = start + fmt.BLOCK
                own = errors[start - first : stop - first]
                self._quantize(slice(start, stop), own)
                rows[stop:end].addmm_(upper[start:stop, stop:end].t(), own, alpha=-1)
            rows[end:].addmm_(upper[first:end, end:].t(), errors, alpha=-1)
        return self

    def _quantize(self, place: slice, errors: Tensor) -> None:
        """Quantize one block of 16 columns; `errors` receives `(w_j - q_j) / U_jj`."""
        group, upper = self.rows[place], self.upper[place, place]
        pivots = upper.diagonal()
        block_scale = self._block_scales(group.t().contiguous(), pivots**-2)
        self.scales[place.start // fmt.BLOCK] = block_scale.view(torch.uint8)
        s_b = block_scale.float()
        per_value = torch.where(s_b > 0, self.inverse / s_b, 0.0)
        per_code = s_b * self.scale
        for j in range(fmt.BLOCK):
            value = round_to_grid(group[j] * per_value)
            self.codes[place.start + j] = fmt.round_e2m1(value)
            errors[j] = (group[j] - value * per_code) / pivots[j]
            group[j + 1 :].sub_(upper[j, j + 1 :].unsqueeze(1) * errors[j])

    def _block_scales(self, blocks: Tensor, importance: Tensor) -> Tensor:
        amax = blocks.abs().amax(dim=1)
        usual = block_scale_from_amax(amax, self.scale, self.inverse, self.rule)
        choose = self.choice.block_scales
        if choose is None:
            return usual
        return choose(blocks, amax, usual, self.scale, self.inverse, self.rule, importance)
