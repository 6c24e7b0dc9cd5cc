"""The custom torch operators of FP8 layers (`torch.ops.nvfp4.fp8_*`): `format.fp8` for exporters and compilers."""

from __future__ import annotations

import torch
from torch import Tensor

from nvfp4_trt import format as fmt

_Context = torch.autograd.function.FunctionCtx


@torch.library.custom_op("nvfp4::fp8_scale", mutates_args=())
def fp8_scale(x: Tensor, per_row: bool) -> Tensor:
    """Return the run-time scale amax(|x|) / 448: fp32 `[..., 1]` per row, else `[]`."""
    return fmt.fp8_scale(x, per_row=per_row)


@fp8_scale.register_fake
def _(x: Tensor, per_row: bool) -> Tensor:
    return x.new_empty((*x.shape[:-1], 1) if per_row else (), dtype=torch.float32)


@torch.library.custom_op("nvfp4::fp8_dequantize", mutates_args=())
def fp8_dequantize(codes: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the values of codes `[..., K]`, e4m3fn, with a scale that broadcasts to them."""
    return fmt.fp8_dequantize(codes, scale, dtype)


@fp8_dequantize.register_fake
def _(codes: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    return codes.new_empty(codes.shape, dtype=dtype)


@torch.library.custom_op("nvfp4::fp8_fake_quantize", mutates_args=())
def fp8_fake_quantize(x: Tensor, scale: Tensor) -> Tensor:
    """Quantize and dequantize `x`: same shape and dtype; gradients pass straight through, but where it clips."""
    return fmt.fp8_dequantize(fmt.fp8_quantize(x, scale), scale, x.dtype)


@fp8_fake_quantize.register_fake
def _(x: Tensor, scale: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _keep(ctx: _Context, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _straight_through(ctx: _Context, gradient: Tensor) -> tuple[Tensor, None]:
    x, scale = ctx.saved_tensors  # type: ignore[attr-defined]
    # A sixteenth of slack: the scale is a rounded quotient of the amax itself, which must pass.
    within = x.float().abs() <= scale * (fmt.E4M3_MAX * 1.0625)
    return torch.where(within, gradient, torch.zeros_like(gradient)), None


fp8_fake_quantize.register_autograd(_straight_through, setup_context=_keep)


def _no_scale_gradient(_ctx: _Context, _gradient: Tensor) -> tuple[None, None]:
    return None, None


def _no_weight_gradient(_ctx: _Context, _gradient: Tensor) -> tuple[None, None, None]:
    return None, None, None


fp8_scale.register_autograd(_no_scale_gradient)
fp8_dequantize.register_autograd(_no_weight_gradient)
