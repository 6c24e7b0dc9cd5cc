"""Operators that do what stands before a linear too: a norm or an activation, and quantizing its result.

On a GPU that has the kernels each is one launch; elsewhere torch's own operators compute the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own habit)

from nvfp4_trt.quantization import cuda
from nvfp4_trt.quantization.ops import quantize_scaled_torch

if TYPE_CHECKING:
    from nvfp4_trt.kernels.launch import Scaling


@torch.library.custom_op("nvfp4::norm_quantize", mutates_args=())
def norm_quantize(
    x: Tensor,
    function: str,
    weight: Tensor | None,
    bias: Tensor | None,
    epsilon: float,
    residual: Tensor | None = None,
    scaling: str = "token",
    scale: Tensor | None = None,
    tiled: bool = False,
    keep: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Normalize `x`, or `x + residual`, along K and quantize the result.

    Args:
        x: fp16, bf16 or fp32 `[..., K]`, K a multiple of 16.
        function: `layer_norm` or `rms_norm`, computed in fp32 and rounded once.
        weight: `[K]` of the dtype of `x`, or None.
        bias: likewise; `layer_norm` only.
        epsilon: added to the variance, or to the mean square.
        residual: as `x`, or None. The sum is rounded to the dtype before it is normalized.
        scaling: as `quantize_scaled`, with `scale` and `tiled`.
        scale: fp32 `[]`, the scale of `static`.
        tiled: whether block scales come in tiles.
        keep: whether what was quantized is wanted too.

    Returns:
        Codes, block scales and scale as `quantize_scaled`; what was quantized, `[..., K]`, empty without `keep`;
        and the sum, empty without a residual.
    """
    return _norm_quantize(x, function, weight, bias, epsilon, residual, scaling, scale, tiled, keep)


def _norm_quantize(
    x: Tensor,
    function: str,
    weight: Tensor | None,
    bias: Tensor | None,
    epsilon: float,
    residual: Tensor | None,
    scaling: str,
    scale: Tensor | None,
    tiled: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    total = x.new_empty(0) if residual is None else x + residual
    summed = (x if residual is None else total).float()
    gain, shift = (None if each is None else each.float() for each in (weight, bias))
    if function == "layer_norm":
        values = F.layer_norm(summed, summed.shape[-1:], gain, shift, epsilon)
    elif function == "rms_norm" and bias is None:
        values = F.rms_norm(summed, summed.shape[-1:], gain, epsilon)
    else:
        raise ValueError(f"{function!r} is neither layer_norm nor rms_norm (which has no bias)")
    values = values.to(x.dtype)
    return *quantize_scaled_torch(values, scaling, scale, "spec", tiled), values if keep else x.new_empty(0), total


@norm_quantize.register_kernel("cuda")
def _(
    x: Tensor,
    function: str,
    weight: Tensor | None,
    bias: Tensor | None,
    epsilon: float,
    residual: Tensor | None = None,
    scaling: str = "token",
    scale: Tensor | None = None,
    tiled: bool = False,
    keep: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    if cuda.takes(x, "spec"):
        norm = (function, weight, bias, epsilon)
        return cuda.norm_quantize(x, norm, residual, cast("Scaling", scaling), scale, tiled=tiled, keep=keep)
    return _norm_quantize(x, function, weight, bias, epsilon, residual, scaling, scale, tiled, keep)


@norm_quantize.register_fake
def _(
    x: Tensor,
    function: str,
    weight: Tensor | None,
    bias: Tensor | None,
    epsilon: float,
    residual: Tensor | None = None,
    scaling: str = "token",
    scale: Tensor | None = None,
    tiled: bool = False,
    keep: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return *cuda.quantized_outputs(x, scaling, tiled=tiled), *cuda.fused_outputs(
        x, keep=keep, sums=residual is not None
    )


@torch.library.custom_op("nvfp4::activation_quantize", mutates_args=())
def activation_quantize(
    x: Tensor,
    function: str,
    other: Tensor | None = None,
    scaling: str = "token",
    scale: Tensor | None = None,
    tiled: bool = False,
    keep: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Apply an activation function and quantize the result.

    Args:
        x: fp16, bf16 or fp32 `[..., K]`, K a multiple of 16; rows may be apart.
        function: `gelu`, `gelu_tanh`, `silu`, `relu`, or `silu_mul`, which is silu(x) · other; computed in fp32
            and rounded once.
        other: `[..., K]`, of `silu_mul` only.
        scaling: as `quantize_scaled`, with `scale` and `tiled`.
        scale: fp32 `[]`, the scale of `static`.
        tiled: whether block scales come in tiles.
        keep: whether what was quantized is wanted too.

    Returns:
        Codes, block scales and scale as `quantize_scaled`; what was quantized, `[..., K]`, empty without `keep`.
    """
    return _activation_quantize(x, function, other, scaling, scale, tiled, keep)


def _activation_quantize(
    x: Tensor, function: str, other: Tensor | None, scaling: str, scale: Tensor | None, tiled: bool, keep: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    wide = x.float()
    if function == "silu_mul" and other is not None:
        values = F.silu(wide) * other.float()
    elif function == "gelu":
        values = F.gelu(wide)
    elif function == "gelu_tanh":
        values = F.gelu(wide, approximate="tanh")
    elif function in {"silu", "relu"}:
        values = F.silu(wide) if function == "silu" else F.relu(wide)
    else:
        raise ValueError(f"{function!r} is not an activation function, or lacks its second factor")
    values = values.to(x.dtype)
    return *quantize_scaled_torch(values, scaling, scale, "spec", tiled), values if keep else x.new_empty(0)


@activation_quantize.register_kernel("cuda")
def _(
    x: Tensor,
    function: str,
    other: Tensor | None = None,
    scaling: str = "token",
    scale: Tensor | None = None,
    tiled: bool = False,
    keep: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if cuda.takes(x, "spec"):
        return cuda.activation_quantize(
            x, function, other, cast("Scaling", scaling), scale, tiled=tiled, keep=keep
        )
    return _activation_quantize(x, function, other, scaling, scale, tiled, keep)


@activation_quantize.register_fake
def _(
    x: Tensor,
    function: str,
    other: Tensor | None = None,
    scaling: str = "token",
    scale: Tensor | None = None,
    tiled: bool = False,
    keep: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return *cuda.quantized_outputs(x, scaling, tiled=tiled), cuda.fused_outputs(x, keep=keep, sums=False)[0]
