"""FP8 (e4m3fn) with one fp32 scale a tensor, a row or a channel: what layers kept out of NVFP4 can be in."""

from __future__ import annotations

import torch

from nvfp4_trt.format.codec import finite_magnitude
from nvfp4_trt.format.constants import E4M3_MAX, SMALLEST_SCALE
from nvfp4_trt.format.scales import divide, round_e4m3


def fp8_scale(x: torch.Tensor, *, per_row: bool) -> torch.Tensor:
    """Return amax(|x|) / 448, and 1.0 where that is below `SMALLEST_SCALE`.

    NaN counts as zero, and infinity as the largest fp32 number, as for NVFP4.

    Args:
        x: fp16, bf16 or fp32, `[..., K]`.
        per_row: whether each row has its own.

    Returns:
        fp32 `[..., 1]`, or `[]`.
    """
    magnitude = finite_magnitude(x)
    return fp8_scale_from_amax(magnitude.amax(dim=-1, keepdim=True) if per_row else magnitude.amax())


def fp8_scale_from_amax(amax: torch.Tensor) -> torch.Tensor:
    """Return the scale of tensors with these largest magnitudes, fp32 of the same shape."""
    scale = divide(amax, E4M3_MAX)
    return torch.where(scale < SMALLEST_SCALE, 1.0, scale)


def fp8_quantize(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return the codes of `x / scale`, e4m3fn, to nearest, ties to even, saturating at 448; NaN stays NaN."""
    return round_e4m3(x.float() / scale)


def fp8_dequantize(codes: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return `codes · scale`, computed in fp32 and rounded once to `dtype`."""
    return (codes.float() * scale).to(dtype)
