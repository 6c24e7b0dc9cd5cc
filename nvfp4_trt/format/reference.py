"""The format in NumPy and ml_dtypes, written to be read: what every other implementation is held to.

One block at a time in spirit: no trick that makes it fast, no rounding of its own. e2m1 and e4m3 are
rounded by `ml_dtypes`. All arithmetic is fp32; `numpy.float32` operations round to nearest even.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

from nvfp4_trt.format.constants import BLOCK, E2M1_MAX, E4M3_MAX, FLT_MAX, SMALLEST_SCALE, TWO_LEVEL_MAX
from nvfp4_trt.format.rules import SPEC, Arithmetic

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nvfp4_trt.format.rules import ScaleRule

    F32 = NDArray[np.float32]
    U8 = NDArray[np.uint8]

_NAN_BYTE = np.uint8(0x7F)
_SIX = np.float32(E2M1_MAX)


def round_e4m3(x: F32) -> U8:
    """Return the e4m3fn bytes nearest to fp32 values, ties to even, saturating at 448."""
    saturated = np.clip(x, np.float32(-E4M3_MAX), np.float32(E4M3_MAX))
    with np.errstate(invalid="ignore"):  # NaN is no mistake: it stays NaN
        return saturated.astype(ml_dtypes.float8_e4m3fn).view(np.uint8)


def round_e2m1(x: F32) -> U8:
    """Return the e2m1 codes (0 to 15) nearest to fp32 values, ties to even, saturating at 6."""
    saturated = np.clip(x, -_SIX, _SIX)
    return saturated.astype(ml_dtypes.float4_e2m1fn).view(np.uint8) & np.uint8(0x0F)


def per_tensor_scale(x: NDArray[np.generic], rule: ScaleRule = SPEC) -> F32:
    """Return the per-tensor scale of `x`, fp32 `[]`; NaN counts as 0, infinity as the largest fp32."""
    return _scale_and_inverse(np.asarray(_magnitudes(x).max(), np.float32), rule)[0]


def per_token_scale(x: NDArray[np.generic], rule: ScaleRule = SPEC) -> F32:
    """Return the scale of each row of `x[..., K]`, fp32 `[..., 1]`."""
    return _scale_and_inverse(_magnitudes(x).max(axis=-1, keepdims=True), rule)[0]


def quantize(x: NDArray[np.generic], per_tensor_scale: F32 | None, rule: ScaleRule = SPEC) -> tuple[U8, U8]:
    """Quantize `x[..., K]` in blocks of 16 along the last axis.

    Args:
        x: fp16, bf16 (`ml_dtypes`) or fp32, K a multiple of 16.
        per_tensor_scale: fp32 `[]` or `[..., 1]`; None for a single level of scales.
        rule: how block scales are rounded.

    Returns:
        `(packed, block_scale)`: uint8 `[..., K/2]`, low nibble first, and the bytes of e4m3fn `[..., K/16]`.
    """
    wide = x.astype(np.float32)
    blocks = np.clip(wide, -np.float32(FLT_MAX), np.float32(FLT_MAX)).reshape(*x.shape[:-1], -1, BLOCK)
    s_t = np.float32(1) if per_tensor_scale is None else per_tensor_scale
    has_nan = np.isnan(blocks).any(axis=-1)
    amax = np.abs(np.where(np.isnan(blocks), np.float32(0), blocks)).max(axis=-1)
    block_scale = _block_scale(amax, s_t, rule)
    s_b = block_scale.view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    empty = has_nan | (s_b == 0)
    codes = round_e2m1(_scaled(blocks, np.where(empty, np.float32(1), s_b), s_t, rule))
    codes = np.where(empty[..., None], np.uint8(0), codes).reshape(x.shape)
    packed = (codes[..., 0::2] | (codes[..., 1::2] << 4)).astype(np.uint8)
    return packed, np.where(has_nan, _NAN_BYTE, block_scale)


def dequantize(packed: U8, block_scale: U8, per_tensor_scale: F32 | None) -> F32:
    """Return `e2m1 * block_scale * per_tensor_scale` in this order: fp32 `[..., K]`."""
    codes = np.stack((packed & 0x0F, packed >> 4), axis=-1).astype(np.uint8)
    values = codes.view(ml_dtypes.float4_e2m1fn).astype(np.float32)
    blocks = values.reshape(*packed.shape[:-1], -1, BLOCK)
    s_t = np.float32(1) if per_tensor_scale is None else per_tensor_scale[..., None]
    s_b = block_scale.view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    out: F32 = (blocks * s_b[..., None] * s_t).reshape(*packed.shape[:-1], -1)
    return out


def _magnitudes(x: NDArray[np.generic]) -> F32:
    wide = np.abs(x.astype(np.float32))
    return np.minimum(np.where(np.isnan(wide), np.float32(0), wide), np.float32(FLT_MAX))


def _scale_and_inverse(amax: F32, rule: ScaleRule) -> tuple[F32, F32]:
    one, most = np.float32(1), np.float32(TWO_LEVEL_MAX)
    scale = amax / most
    tiny = scale < np.float32(SMALLEST_SCALE)
    if rule.arithmetic is Arithmetic.GLOBAL:
        inverse = np.where(tiny, one, one / np.where(tiny, one, amax) * most).astype(np.float32)
        return one / inverse, inverse
    scale = np.where(tiny, one, scale).astype(np.float32)
    return scale, one / scale


def _block_scale(amax: F32, s_t: F32 | np.float32, rule: ScaleRule) -> U8:
    if rule.arithmetic is Arithmetic.RECIPROCAL:
        raw = amax / _SIX / s_t
    elif rule.arithmetic is Arithmetic.PRODUCT:
        raw = amax / (_SIX * s_t)
    else:
        raw = (np.float32(1) / s_t) * (amax / _SIX)
    if rule.zero_amax_scale is not None:
        raw = np.where(raw == 0, np.float32(rule.zero_amax_scale), raw)
    rounded = round_e4m3(np.maximum(raw, np.float32(rule.floor)))
    if rule.zero_block_scale is not None:
        instead = round_e4m3(np.asarray(rule.zero_block_scale, np.float32))
        rounded = np.where(rounded == 0, instead, rounded)
    return rounded


def _scaled(blocks: F32, s_b: F32, s_t: F32 | np.float32, rule: ScaleRule) -> F32:
    inverse = np.float32(1) / s_t
    with np.errstate(over="ignore"):  # a block far above a static scale saturates
        if rule.arithmetic is Arithmetic.RECIPROCAL:
            scaled = blocks * (inverse / s_b)[..., None]
        elif rule.arithmetic is Arithmetic.PRODUCT:
            scaled = blocks / (s_b * s_t)[..., None]
        else:
            scaled = blocks / (s_b / inverse)[..., None]
    return scaled if rule.signed_zero else np.where(scaled == 0, np.float32(0), scaled)
