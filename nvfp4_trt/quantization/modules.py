"""The quantized modules: what `nn.Linear` and `nn.Embedding` become. Inference only, any device."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own habit)

from nvfp4_trt.quantization import ops
from nvfp4_trt.quantization.bases import HoldsWeight, QuantizedLinear, Quantizer
from nvfp4_trt.quantization.linear_ops import linear
from nvfp4_trt.recipe import ActivationScaling

_NAMES = {
    ActivationScaling.NONE: "none",
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

    def buffers(self) -> dict[str, Tensor]:
        """Return the parts by the names of a module's buffers."""
        return {f"weight_{name}": part for name, part in self._asdict().items()}


class ActivationQuantizer(Quantizer):
    """The quantizer of an NVFP4 linear's activation; `scale` is the per-tensor scale of `static`."""

    def quantized(self, x: Tensor) -> Tensor:
        """Return `x` quantized and dequantized, its scale included: one operator."""
        values: Tensor = ops.fake_quantize_scaled(x, _NAMES[self.scaling], self.scale)
        return values

    def then_linear(self, x: Tensor, weight: PackedWeight, bias: Tensor | None) -> Tensor:
        """Return `forward(x) · Wᵀ + bias`, `[..., N]`, as one operator; `bias` in the dtype of `x`."""
        product: Tensor = linear(x, *weight, bias, _NAMES[self.scaling], self.scale)
        return product


class _HoldsPackedWeight(HoldsWeight):
    weight_packed: Tensor
    weight_block_scale: Tensor
    weight_per_tensor_scale: Tensor

    @property
    def packed_weight(self) -> PackedWeight:
        """The weight as it is held."""
        return PackedWeight(self.weight_packed, self.weight_block_scale, self.weight_per_tensor_scale)

    def dequantized(self, dtype: torch.dtype) -> Tensor:
        """Return the weight's values `[N, K]` in `dtype`."""
        values: Tensor = ops.dequantize(*self.packed_weight, dtype)
        return values


class QuantLinear(_HoldsPackedWeight, QuantizedLinear):
    """`y = QDQ(x) · W'ᵀ + b` with W' `[N, K]` held as packed NVFP4.

    On a GPU, QDQ(x) and W' are one launch each of this package's kernels, and the GEMM is cuBLAS's, of the dtype
    of `x`: no GPU multiplies FP4 here. The FP4 GEMM is `nvfp4_trt.ops.gemm`. An exporter sees one operator.

    Args:
        weight: the packed weight.
        bias: `[N]`, or None.
        quantizer: the activation's quantizer.
        dtype: the weight's original dtype.
    """

    input_quantizer: ActivationQuantizer

    def __init__(
        self, weight: PackedWeight, bias: Tensor | None, quantizer: ActivationQuantizer, dtype: torch.dtype
    ) -> None:
        n, half = weight.packed.shape
        QuantizedLinear.__init__(self, (n, half * 2), bias, quantizer, dtype, **weight.buffers())

    def product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Return `[..., N]` for `x` `[..., K]` and a bias in its dtype."""
        if torch.compiler.is_exporting():
            return self.input_quantizer.then_linear(x, self.packed_weight, bias)
        return super().product(x, bias)


class QuantEmbedding(_HoldsPackedWeight):
    """An embedding that reads the rows of a packed weight it shares with a linear layer.

    Args:
        weight: the packed weight `[vocabulary, K]`.
        dtype: the dtype of the rows that come out.
    """

    def __init__(self, weight: PackedWeight, dtype: torch.dtype) -> None:
        super().__init__(dtype, **weight.buffers())

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
