"""The row of every table: a layer of the model, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass

NVFP4 = "nvfp4"
WEIGHT_ONLY = "nvfp4-weight-only"
FP8 = "fp8"
FP8_WEIGHT_ONLY = "fp8-weight-only"

MIN_K = 32
"""TensorRT builds a GEMM with K = 16 in half precision without a word; from 32 in steps of 16 it is FP4."""


@dataclass(frozen=True)
class Layer:
    """A layer that has a weight, and its precision."""

    name: str
    """Qualified name in the torch module."""
    kind: str
    """Class name of the module."""
    shape: tuple[int, ...]
    """Shape of the weight; `(N, K)` for a linear layer, whatever order it is stored in."""
    precision: str
    """`nvfp4`, `nvfp4-weight-only`, `fp8`, `fp8-weight-only`, or the dtype it stays in."""
    reason: str = ""
    """Why it is not FP4; empty where it is."""

    @property
    def quantized(self) -> bool:
        """Whether its weight is stored as NVFP4 or FP8."""
        return self.is_fp4 or self.is_fp8

    @property
    def is_fp4(self) -> bool:
        """Whether its weight is stored as NVFP4."""
        return self.precision in {NVFP4, WEIGHT_ONLY}

    @property
    def is_fp8(self) -> bool:
        """Whether its weight is stored as FP8."""
        return self.precision in {FP8, FP8_WEIGHT_ONLY}

    @property
    def weight_only(self) -> bool:
        """Whether its weight is stored so, and its activation is not quantized."""
        return self.precision in {WEIGHT_ONLY, FP8_WEIGHT_ONLY}
