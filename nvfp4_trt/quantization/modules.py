"""The quantized modules: what `nn.Linear` and `nn.Embedding` become. Inference only, any device."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own habit)

from nvfp4_trt.quantization import ops
from nvfp4_trt.recipe import ActivationScaling

if TYPE_CHECKING:
    from collections.abc import Callable


_FUSED = {
    ActivationScaling.DYNAMIC: "tensor",
    ActivationScaling.DYNAMIC_TOKEN: "token",
    ActivationScaling.STATIC: "static",
    ActivationScaling.SINGLE_LEVEL: "single",
}


class PackedWeight(NamedTuple):
    """A weight `[N, K]` in NVFP4: several modules may hold the same one."""

    packed: Tensor
    """uint8 `[N, K/2]`, low nibble first."""
    block_scale: Tensor
    """float8_e4m3fn `[N, K/16]`."""
    per_tensor_scale: Tensor
    """fp32 `[]`."""


class KeepsDtypes(nn.Module):
    """A module whose own buffers move between devices, and keep their dtypes under `.half()` and the like."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> KeepsDtypes:
        kept = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, before in kept.items():
            after = self._buffers[name]
            if before is not None and after is not None and after.dtype != before.dtype:
                self._buffers[name] = before.to(after.device)
        return self


class ActivationQuantizer(KeepsDtypes):
    """Quantizes and dequantizes an activation `[..., K]` in the scaling mode of the recipe.

    Args:
        scaling: any mode of `ActivationScaling`; `none` passes its input through.
        scale: fp32 `[]`, the calibrated per-tensor scale; needed by, and only by, `static`.
        persistent: whether the scale is part of the state dict.
    """

    scale: Tensor | None

    def __init__(
        self, scaling: ActivationScaling, scale: Tensor | None = None, *, persistent: bool = True
    ) -> None:
        super().__init__()
        if (scale is not None) != (scaling is ActivationScaling.STATIC):
            raise ValueError(f"scaling {scaling} with scale {scale}")
        self.scaling = scaling
        self.register_buffer("scale", scale, persistent=persistent)

    def forward(self, x: Tensor) -> Tensor:
        """Return the values that the FP4 GEMM sees, in the shape and dtype of `x`."""
        if self.scaling is ActivationScaling.NONE:
            return x
        scale = self.scale
        if x.is_cuda or not torch.compiler.is_exporting():  # one operator, the run-time scale included
            fused: Tensor = ops.fake_quantize_scaled(x, _FUSED[self.scaling], scale)
            return fused
        if self.scaling is ActivationScaling.DYNAMIC:
            scale = ops.per_tensor_scale(x)
        elif self.scaling is ActivationScaling.DYNAMIC_TOKEN:
            scale = ops.per_token_scale(x)
        quantized: Tensor = ops.fake_quantize(x, scale)
        return quantized

    def extra_repr(self) -> str:
        """Show the mode in `print(module)`."""
        return str(self.scaling)


class _HoldsPackedWeight(KeepsDtypes):
    weight_packed: Tensor
    weight_block_scale: Tensor
    weight_per_tensor_scale: Tensor

    def __init__(self, weight: PackedWeight, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.register_buffer("weight_packed", weight.packed)
        self.register_buffer("weight_block_scale", weight.block_scale)
        self.register_buffer("weight_per_tensor_scale", weight.per_tensor_scale)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> KeepsDtypes:
        super()._apply(fn, recurse)
        # What the weight comes out as follows `.half()` and the like, as an unpacked weight would.
        self.dtype = fn(torch.empty(0, dtype=self.dtype, device=self.weight_packed.device)).dtype
        return self

    def dequantized(self, dtype: torch.dtype) -> Tensor:
        """Return the weight's values `[N, K]` in `dtype`."""
        values: Tensor = ops.dequantize(
            self.weight_packed, self.weight_block_scale, self.weight_per_tensor_scale, dtype
        )
        return values

    @property
    def weight(self) -> Tensor:
        """The weight's values in the dtype it came in, for code that looks at `module.weight`."""
        return self.dequantized(self.dtype)


class QuantLinear(_HoldsPackedWeight):
    """`y = QDQ(x) · W'ᵀ + b` with W' `[N, K]` held as packed NVFP4.

    On a GPU, QDQ(x) and W' are one launch each of this package's kernels, and the GEMM is cuBLAS's, of the dtype
    of `x`: no GPU multiplies FP4 here. The FP4 GEMM is `nvfp4_trt.ops.gemm`.

    Args:
        weight: the packed weight.
        bias: `[N]`, or None.
        quantizer: the activation's quantizer.
        dtype: the weight's original dtype.
    """

    def __init__(
        self, weight: PackedWeight, bias: Tensor | None, quantizer: ActivationQuantizer, dtype: torch.dtype
    ) -> None:
        super().__init__(weight, dtype)
        self.out_features, half = weight.packed.shape
        self.in_features = half * 2
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=bias.requires_grad)
        self.input_quantizer = quantizer

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (as nn.Linear names it)
        """Return `[..., N]` for `input` `[..., K]`, in the dtype of `input`."""
        bias = None if self.bias is None else self.bias.to(input.dtype)
        return F.linear(self.input_quantizer(input), self.dequantized(input.dtype), bias)

    def extra_repr(self) -> str:
        """Show the shape in `print(module)`."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class QuantEmbedding(_HoldsPackedWeight):
    """An embedding that reads the rows of a packed weight it shares with a linear layer.

    Args:
        weight: the packed weight `[vocabulary, K]`.
        dtype: the dtype of the rows that come out.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (as nn.Embedding names it)
        """Return rows `[..., K]` of the integer ids `input` `[...]`."""
        if torch.compiler.is_exporting():
            # One dequantized weight for this lookup and for the GEMM that shares it.
            return F.embedding(input, self.dequantized(self.dtype))
        rows: Tensor = ops.dequantize(
            self.weight_packed[input],
            self.weight_block_scale.view(torch.uint8)[input].view(torch.float8_e4m3fn),
            self.weight_per_tensor_scale,
            self.dtype,
        )
        return rows
