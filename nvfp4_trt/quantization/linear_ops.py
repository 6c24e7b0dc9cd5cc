"""A whole quantized linear as one operator (`torch.ops.nvfp4.linear`): what an exporter traces of it.

Run as separate operators, a linear is four nodes of a traced graph: scale, quantizer, weight, product. Tracing and
translating a model take time for each node, whatever it computes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own habit)

from nvfp4_trt.quantization import ops

if TYPE_CHECKING:
    _Context = torch.autograd.function.FunctionCtx


@torch.library.custom_op("nvfp4::linear", mutates_args=())
def linear(
    x: Tensor,
    packed: Tensor,
    block_scale: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None,
    scaling: str,
    scale: Tensor | None = None,
) -> Tensor:
    """Return `QDQ(x) · Wᵀ + bias`, `[..., N]`, in the dtype of `x`, computed as the separate operators compute it.

    Args:
        x: fp16, bf16 or fp32 `[..., K]`.
        packed: the weight's codes, uint8 `[N, K/2]`.
        block_scale: float8_e4m3fn `[N, K/16]`.
        weight_scale: fp32 `[]`.
        bias: `[N]` in the dtype of `x`, or None.
        scaling: of the activation: `none`, or as `quantize_scaled`.
        scale: fp32 `[]`, the scale of `static`.
    """
    values = x if scaling == "none" else ops.fake_quantize_scaled(x, scaling, scale)
    return F.linear(values, ops.dequantize(packed, block_scale, weight_scale, x.dtype), bias)


@linear.register_fake
def _(
    x: Tensor,
    packed: Tensor,
    block_scale: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None,
    scaling: str,
    scale: Tensor | None = None,
) -> Tensor:
    return x.new_empty((*x.shape[:-1], packed.shape[0]))


_Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, str, Tensor | None]


def _keep(ctx: _Context, inputs: _Inputs, output: Tensor) -> None:
    x, packed, block_scale, weight_scale, bias, scaling, scale = inputs
    ctx.save_for_backward(x, packed, block_scale, weight_scale, scale)  # type: ignore[arg-type]
    ctx.scaling, ctx.has_bias = scaling, bias is not None  # type: ignore[attr-defined]


def _gradient(ctx: _Context, gradient: Tensor) -> tuple[Tensor, None, None, None, Tensor | None, None, None]:
    x, packed, block_scale, weight_scale, scale = ctx.saved_tensors  # type: ignore[attr-defined]
    of_x = gradient @ ops.dequantize(packed, block_scale, weight_scale, x.dtype)
    if ctx.scaling in {"static", "single"}:  # type: ignore[attr-defined]
        of_x = ops.straight_through(x, scale, of_x)
    of_bias = gradient.flatten(0, -2).sum(dim=0) if ctx.has_bias else None  # type: ignore[attr-defined]
    return of_x, None, None, None, of_bias, None, None


linear.register_autograd(_gradient, setup_context=_keep)
