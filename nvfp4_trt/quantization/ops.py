"""The custom torch operators of NVFP4 (`torch.ops.nvfp4.*`), with fake kernels and gradients.

They wrap `nvfp4_trt.format` and add nothing to its arithmetic; on a GPU that has kernels they are one launch
each, of the same arithmetic, bit for bit. As custom operators they stay whole
through `torch.compile(fullgraph=True)` and `torch.export`, so that an exporter can turn each into its ONNX
node; none of them looks at data from Python, so none breaks a graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from nvfp4_trt import format as fmt
from nvfp4_trt.quantization import cuda

if TYPE_CHECKING:
    from collections.abc import Callable

    from nvfp4_trt.kernels.launch import Scaling

_Context = torch.autograd.function.FunctionCtx


@torch.library.custom_op("nvfp4::per_tensor_scale", mutates_args=())
def per_tensor_scale(x: Tensor, rule: str = "spec") -> Tensor:
    """Return the run-time per-tensor scale amax(|x|) / 2688 of `x` of any shape: fp32 `[]`."""
    return fmt.per_tensor_scale(x, fmt.scale_rule(rule))


@per_tensor_scale.register_fake
def _(x: Tensor, rule: str = "spec") -> Tensor:
    return x.new_empty((), dtype=torch.float32)


@torch.library.custom_op("nvfp4::per_token_scale", mutates_args=())
def per_token_scale(x: Tensor, rule: str = "spec") -> Tensor:
    """Return the run-time scale of each row of `x` `[..., K]`, amax over K / 2688: fp32 `[..., 1]`."""
    return fmt.per_token_scale(x, fmt.scale_rule(rule))


@per_token_scale.register_fake
def _(x: Tensor, rule: str = "spec") -> Tensor:
    return x.new_empty((*x.shape[:-1], 1), dtype=torch.float32)


@torch.library.custom_op("nvfp4::quantize", mutates_args=())
def quantize(x: Tensor, scale: Tensor | None, rule: str = "spec") -> tuple[Tensor, Tensor]:
    """Quantize `x` `[..., K]` along K.

    Args:
        x: fp16, bf16 or fp32, K a multiple of 16.
        scale: fp32 `[]` or `[..., 1]`; None for single-level scaling.
        rule: name of the scale rule.

    Returns:
        Packed e2m1 codes, uint8 `[..., K/2]`, and block scales, float8_e4m3fn `[..., K/16]`.
    """
    return fmt.quantize(x, scale, fmt.scale_rule(rule))


@quantize.register_fake
def _(x: Tensor, scale: Tensor | None, rule: str = "spec") -> tuple[Tensor, Tensor]:
    lead, k = x.shape[:-1], x.shape[-1]
    return (
        x.new_empty((*lead, k // 2), dtype=torch.uint8),
        x.new_empty((*lead, k // fmt.BLOCK), dtype=torch.float8_e4m3fn),
    )


@torch.library.custom_op("nvfp4::dequantize", mutates_args=())
def dequantize(packed: Tensor, block_scale: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Return the values `[..., K]` of packed codes `[..., K/2]`, computed in fp32 and rounded once."""
    return fmt.dequantize(packed, block_scale, scale, dtype)


@dequantize.register_kernel("cuda")
def _(packed: Tensor, block_scale: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    if cuda.takes_packed(packed, block_scale, scale, dtype):
        return cuda.dequantize(packed, block_scale, scale, dtype)
    return fmt.dequantize(packed, block_scale, scale, dtype)


@dequantize.register_fake
def _(packed: Tensor, block_scale: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    return packed.new_empty((*packed.shape[:-1], packed.shape[-1] * 2), dtype=dtype)


@torch.library.custom_op("nvfp4::fake_quantize", mutates_args=())
def fake_quantize(x: Tensor, scale: Tensor | None, rule: str = "spec") -> Tensor:
    """Quantize and dequantize `x` `[..., K]`: same shape and dtype; gradients pass straight through.

    A gradient is stopped where a given `scale` is too small for the element's magnitude (it saturates at
    2688 · scale, or 2688 where `scale` is None), as in a clipping quantizer; a scale taken from `x` itself
    saturates nothing, so all gradients pass.
    """
    which = fmt.scale_rule(rule)
    packed, block_scale = fmt.quantize(x, scale, which)
    return fmt.dequantize(packed, block_scale, scale, x.dtype)


@fake_quantize.register_fake
def _(x: Tensor, scale: Tensor | None, rule: str = "spec") -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@torch.library.custom_op("nvfp4::quantize_scaled", mutates_args=())
def quantize_scaled(
    x: Tensor, scaling: str, scale: Tensor | None = None, rule: str = "spec", tiled: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Quantize `x` `[..., K]` along K, the scale above the block scales included.

    Args:
        x: fp16, bf16 or fp32, K a multiple of 16.
        scaling: `tensor` or `token`, a run-time scale for all or for each row; `static`; `single`, which is 1.
        scale: fp32 `[]`, the scale of `static`.
        rule: name of the scale rule.
        tiled: whether block scales come in tiles of 128 rows by 4 (`format.swizzle_scales`).

    Returns:
        Packed e2m1 codes, uint8 `[..., K/2]`; block scales, float8_e4m3fn `[..., K/16]`, or one-dimensional
        where tiled; and the scale, fp32 `[]`, or `[..., 1]` per token.
    """
    return quantize_scaled_torch(x, scaling, scale, rule, tiled)


def quantize_scaled_torch(
    x: Tensor, scaling: str, scale: Tensor | None, rule: str, tiled: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Do what `quantize_scaled` does with torch's own operators, on any device."""
    used = _scale_of(x, scaling, scale, rule)
    packed, block_scale = fmt.quantize(x, used, fmt.scale_rule(rule))
    if tiled:
        block_scale = fmt.swizzle_scales(block_scale.reshape(-1, block_scale.shape[-1])).reshape(-1)
    # An output may not be an input.
    return packed, block_scale, x.new_ones((), dtype=torch.float32) if used is None else used.clone()


@quantize_scaled.register_kernel("cuda")
def _(
    x: Tensor, scaling: str, scale: Tensor | None = None, rule: str = "spec", tiled: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    if cuda.takes(x, rule):
        return cuda.quantize(x, cast("Scaling", scaling), scale, rule, tiled=tiled)
    return quantize_scaled_torch(x, scaling, scale, rule, tiled)


@quantize_scaled.register_fake
def _(
    x: Tensor, scaling: str, scale: Tensor | None = None, rule: str = "spec", tiled: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    return cuda.quantized_outputs(x, scaling, tiled=tiled)


@torch.library.custom_op("nvfp4::fake_quantize_scaled", mutates_args=())
def fake_quantize_scaled(x: Tensor, scaling: str, scale: Tensor | None = None, rule: str = "spec") -> Tensor:
    """Quantize and dequantize `x` as `quantize_scaled` and `dequantize` would; gradients as of `fake_quantize`."""
    return _fake_quantize_scaled(x, scaling, scale, rule)


def _fake_quantize_scaled(x: Tensor, scaling: str, scale: Tensor | None, rule: str) -> Tensor:
    used = _scale_of(x, scaling, scale, rule)
    packed, block_scale = fmt.quantize(x, used, fmt.scale_rule(rule))
    return fmt.dequantize(packed, block_scale, used, x.dtype)


@fake_quantize_scaled.register_kernel("cuda")
def _(x: Tensor, scaling: str, scale: Tensor | None = None, rule: str = "spec") -> Tensor:
    if cuda.takes(x, rule):
        return cuda.fake_quantize(x, cast("Scaling", scaling), scale, rule)
    return _fake_quantize_scaled(x, scaling, scale, rule)


@fake_quantize_scaled.register_fake
def _(x: Tensor, scaling: str, scale: Tensor | None = None, rule: str = "spec") -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@torch.library.custom_op("nvfp4::fake_quantize_weight", mutates_args=())
def fake_quantize_weight(weight: Tensor, dtype: torch.dtype, rule: str = "spec") -> Tensor:
    """Return the values that a weight `[N, K]` has once it is packed: those of `pack_weight` and `dequantize`.

    Gradients pass straight through, in the weight's own dtype: the per-tensor scale comes from the weight's
    largest magnitude, so nothing saturates.

    Args:
        weight: fp16, bf16 or fp32, K a multiple of 16.
        dtype: what the values are rounded to, once.
        rule: name of the scale rule.
    """
    return fmt.dequantize(*fmt.pack_weight(weight, fmt.scale_rule(rule)), dtype)


@fake_quantize_weight.register_kernel("cuda")
def _(weight: Tensor, dtype: torch.dtype, rule: str = "spec") -> Tensor:
    if not cuda.takes(weight, rule) or dtype not in cuda.DTYPES:
        return fmt.dequantize(*fmt.pack_weight(weight, fmt.scale_rule(rule)), dtype)
    if dtype == weight.dtype:
        return cuda.fake_quantize(weight, "tensor", None, rule)
    return cuda.dequantize(*cuda.quantize(weight, "tensor", None, rule, tiled=False), dtype)


@fake_quantize_weight.register_fake
def _(weight: Tensor, dtype: torch.dtype, rule: str = "spec") -> Tensor:
    return weight.new_empty(weight.shape, dtype=dtype)


def _scale_of(x: Tensor, scaling: str, scale: Tensor | None, rule: str) -> Tensor | None:
    if scaling == "tensor":
        return fmt.per_tensor_scale(x, fmt.scale_rule(rule))
    if scaling == "token":
        return fmt.per_token_scale(x, fmt.scale_rule(rule))
    if (scaling == "static") != (scale is not None) or scaling not in {"static", "single"}:
        raise ValueError(f"scaling {scaling!r} with scale {scale}")
    return scale


def _keep_for_backward(ctx: _Context, inputs: tuple[Tensor, Tensor | None, str], output: Tensor) -> None:
    x, scale, _rule = inputs
    ctx.save_for_backward(x, scale)  # type: ignore[arg-type]


def straight_through(x: Tensor, scale: Tensor | None, gradient: Tensor) -> Tensor:
    """Return the gradient of `x` `[..., K]` for that of its quantized values, as `fake_quantize` says."""
    # An eighth of slack: the scale is a rounded quotient of the amax itself, which must pass.
    reach = fmt.TWO_LEVEL_MAX * 1.125
    limit = reach if scale is None else scale * reach
    return torch.where(x.float().abs() <= limit, gradient, torch.zeros_like(gradient))


def _straight_through(ctx: _Context, gradient: Tensor) -> tuple[Tensor, None, None]:
    x, scale = ctx.saved_tensors  # type: ignore[attr-defined]
    return straight_through(x, scale, gradient), None, None


fake_quantize.register_autograd(_straight_through, setup_context=_keep_for_backward)


def _keep_scaled(ctx: _Context, inputs: tuple[Tensor, str, Tensor | None, str], output: Tensor) -> None:
    x, scaling, scale, _rule = inputs
    ctx.runtime = scaling in {"tensor", "token"}  # type: ignore[attr-defined]
    if not ctx.runtime:  # type: ignore[attr-defined] # else nothing saturates, and the activation need not be kept
        ctx.save_for_backward(x, scale)  # type: ignore[arg-type]


def _scaled_gradient(ctx: _Context, gradient: Tensor) -> tuple[Tensor, None, None, None]:
    if ctx.runtime:  # type: ignore[attr-defined]
        return gradient, None, None, None
    return _straight_through(ctx, gradient)[0], None, None, None


fake_quantize_scaled.register_autograd(_scaled_gradient, setup_context=_keep_scaled)


def _keep_dtype(ctx: _Context, inputs: tuple[Tensor, torch.dtype, str], output: Tensor) -> None:
    ctx.dtype = inputs[0].dtype  # type: ignore[attr-defined]


def _weight_gradient(ctx: _Context, gradient: Tensor) -> tuple[Tensor, None, None]:
    return gradient.to(ctx.dtype), None, None  # type: ignore[attr-defined]


fake_quantize_weight.register_autograd(_weight_gradient, setup_context=_keep_dtype)


def _no_gradient(arity: int) -> Callable[..., tuple[None, ...]]:
    """Return a backward that stops: a scale is taken for a constant, and codes have no derivative."""

    def backward(_ctx: _Context, *_gradients: Tensor) -> tuple[None, ...]:
        return (None,) * arity

    return backward


per_tensor_scale.register_autograd(_no_gradient(2))
per_token_scale.register_autograd(_no_gradient(2))
quantize.register_autograd(_no_gradient(3))
quantize_scaled.register_autograd(_no_gradient(5))
dequantize.register_autograd(_no_gradient(4))
