"""What quantized modules of every format have in common: dtypes that stay, a quantizer, a weight, a product."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own habit)

from nvfp4_trt.recipe import ActivationScaling

if TYPE_CHECKING:
    from collections.abc import Callable


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


class Quantizer(KeepsDtypes):
    """Quantizes and dequantizes an activation `[..., K]` in the scaling mode of the recipe.

    Args:
        scaling: any mode of `ActivationScaling`; `none` passes its input through.
        scale: fp32 `[]`, the calibrated scale above all others; needed by, and only by, `static`.
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
        """Return the values that the GEMM sees, in the shape and dtype of `x`."""
        return x if self.scaling is ActivationScaling.NONE else self.quantized(x)

    @abstractmethod
    def quantized(self, x: Tensor) -> Tensor:
        """Return `x` quantized and dequantized; `scaling` is not `none`."""

    def extra_repr(self) -> str:
        """Show the mode in `print(module)`."""
        return str(self.scaling)


class HoldsWeight(KeepsDtypes):
    """A module that holds a quantized weight in its buffers.

    Args:
        dtype: the weight's original dtype.
        buffers: the parts of the weight, by name.
    """

    def __init__(self, dtype: torch.dtype, **buffers: Tensor) -> None:
        super().__init__()
        self.dtype = dtype
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> KeepsDtypes:
        super()._apply(fn, recurse)
        # What the weight comes out as follows `.half()` and the like, as an unpacked weight would.
        device = next(self.buffers(recurse=False)).device
        self.dtype = fn(torch.empty(0, dtype=self.dtype, device=device)).dtype
        return self

    @abstractmethod
    def dequantized(self, dtype: torch.dtype) -> Tensor:
        """Return the weight's values `[N, K]` in `dtype`."""

    @property
    def weight(self) -> Tensor:
        """The weight's values in the dtype it came in, for code that looks at `module.weight`."""
        return self.dequantized(self.dtype)


class QuantizedLinear(HoldsWeight):
    """`y = QDQ(x) · W'ᵀ + b` with W' `[N, K]` held quantized.

    Args:
        shape: N and K.
        bias: `[N]`, or None.
        quantizer: the activation's quantizer.
        dtype: the weight's original dtype.
        buffers: the parts of the weight, by name.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        bias: Tensor | None,
        quantizer: Quantizer,
        dtype: torch.dtype,
        **buffers: Tensor,
    ) -> None:
        super().__init__(dtype, **buffers)
        self.out_features, self.in_features = shape
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=bias.requires_grad)
        self.input_quantizer = quantizer

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (as nn.Linear names it)
        """Return `[..., N]` for `input` `[..., K]`, in the dtype of `input`."""
        bias: Tensor | None = self.bias
        if bias is not None and bias.dtype != input.dtype:  # a cast to the same dtype is two nodes of a trace
            bias = bias.to(input.dtype)
        return self.product(input, bias)

    def product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Return `[..., N]` for `x` `[..., K]` and a bias in its dtype."""
        return F.linear(self.input_quantizer(x), self.dequantized(x.dtype), bias)

    def extra_repr(self) -> str:
        """Show the shape in `print(module)`."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
