"""FP8 linear layers: a weight with a scale for each output channel, and an activation with one a row or tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own habit)

from nvfp4_trt import format as fmt
from nvfp4_trt.quantization import fp8_ops
from nvfp4_trt.quantization.modules import KeepsDtypes
from nvfp4_trt.recipe import ActivationScaling

if TYPE_CHECKING:
    from collections.abc import Callable

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


class Fp8Quantizer(KeepsDtypes):
    """Quantizes and dequantizes an activation `[..., K]` in the scaling mode of the recipe.

    FP8 has one level of scales. `single-level`, whose block scales FP8 has not, is therefore `dynamic-token`.

    Args:
        scaling: any mode of `ActivationScaling`; `none` passes its input through.
        scale: fp32 `[]`, the calibrated scale; needed by, and only by, `static`.
    """

    scale: Tensor | None

    def __init__(self, scaling: ActivationScaling, scale: Tensor | None = None) -> None:
        super().__init__()
        if (scale is not None) != (scaling is ActivationScaling.STATIC):
            raise ValueError(f"scaling {scaling} with scale {scale}")
        self.scaling = scaling
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        """Return the values that the FP8 GEMM sees, in the shape and dtype of `x`."""
        if self.scaling is ActivationScaling.NONE:
            return x
        scale = self.scale
        if scale is None:
            scale = fp8_ops.fp8_scale(x, self.scaling is not ActivationScaling.DYNAMIC)
        quantized: Tensor = fp8_ops.fp8_fake_quantize(x, scale)
        return quantized

    def extra_repr(self) -> str:
        """Show the mode in `print(module)`."""
        return str(self.scaling)


class Fp8Linear(KeepsDtypes):
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
        super().__init__()
        self.out_features, self.in_features = weight.codes.shape
        self.dtype = dtype
        self.register_buffer("weight_fp8", weight.codes)
        self.register_buffer("weight_scale", weight.scale)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=bias.requires_grad)
        self.input_quantizer = quantizer

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> KeepsDtypes:
        super()._apply(fn, recurse)
        self.dtype = fn(torch.empty(0, dtype=self.dtype, device=self.weight_fp8.device)).dtype
        return self

    def dequantized(self, dtype: torch.dtype) -> Tensor:
        """Return the weight's values `[N, K]` in `dtype`."""
        values: Tensor = fp8_ops.fp8_dequantize(self.weight_fp8, self.weight_scale, dtype)
        return values

    @property
    def weight(self) -> Tensor:
        """The weight's values in the dtype it came in, for code that looks at `module.weight`."""
        return self.dequantized(self.dtype)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (as nn.Linear names it)
        """Return `[..., N]` for `input` `[..., K]`, in the dtype of `input`."""
        bias = None if self.bias is None else self.bias.to(input.dtype)
        return F.linear(self.input_quantizer(input), self.dequantized(input.dtype), bias)

    def extra_repr(self) -> str:
        """Show the shape in `print(module)`."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
