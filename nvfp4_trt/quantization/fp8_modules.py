"""FP8 linear layers: a weight with a scale for each output channel, and an activation with one a row or tensor."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nvfp4_trt import format as fmt
from nvfp4_trt.quantization import fp8_ops
from nvfp4_trt.quantization.bases import QuantizedLinear, Quantizer
from nvfp4_trt.recipe import ActivationScaling

_CHUNK = 1 << 20
"""Elements of a weight that are widened to fp32 at once."""


class Fp8Weight(NamedTuple):
    """A weight `[N, K]` in FP8."""

    codes: Tensor
    """float8_e4m3fn `[N, K]`."""
    scale: Tensor
    """fp32 `[N, 1]`."""


def fp8_weight(weight: Tensor) -> Fp8Weight:
    """Quantize a finite weight `[N, K]` of fp16, bf16 or fp32, some rows at a time."""
    codes = torch.empty(weight.shape, dtype=torch.float8_e4m3fn, device=weight.device)
    scale = torch.empty((weight.shape[0], 1), dtype=torch.float32, device=weight.device)
    step = max(1, _CHUNK // weight.shape[1])
    for start in range(0, weight.shape[0], step):
        rows = slice(start, start + step)
        values = weight[rows].detach()
        scale[rows] = fmt.fp8_scale(values, per_row=True)
        codes[rows] = fmt.fp8_quantize(values, scale[rows])
    return Fp8Weight(codes, scale)


class Fp8Quantizer(Quantizer):
    """The quantizer of an FP8 linear's activation.

    FP8 has one level of scales. `single-level`, whose block scales FP8 has not, is therefore `dynamic-token`.
    """

    def quantized(self, x: Tensor) -> Tensor:
        """Return `x` quantized and dequantized."""
        scale = self.scale
        if scale is None:
            scale = fp8_ops.fp8_scale(x, self.scaling is not ActivationScaling.DYNAMIC)
        values: Tensor = fp8_ops.fp8_fake_quantize(x, scale)
        return values


class Fp8Linear(QuantizedLinear):
    """`y = QDQ(x) · W'ᵀ + b` with W' `[N, K]` held as FP8.

    Args:
        weight: the weight.
        bias: `[N]`, or None.
        quantizer: the activation's quantizer.
        dtype: the weight's original dtype.
    """

    weight_fp8: Tensor
    weight_scale: Tensor

    def __init__(
        self, weight: Fp8Weight, bias: Tensor | None, quantizer: Fp8Quantizer, dtype: torch.dtype
    ) -> None:
        n, k = weight.codes.shape
        super().__init__((n, k), bias, quantizer, dtype, weight_fp8=weight.codes, weight_scale=weight.scale)

    def dequantized(self, dtype: torch.dtype) -> Tensor:
        """Return the weight's values `[N, K]` in `dtype`."""
        values: Tensor = fp8_ops.fp8_dequantize(self.weight_fp8, self.weight_scale, dtype)
        return values
