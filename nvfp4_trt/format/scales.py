"""From largest magnitudes to scales: the arithmetic that every path of the codec shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nvfp4_trt.format.constants import E2M1_MAX, E4M3_MAX, SMALLEST_SCALE, TWO_LEVEL_MAX
from nvfp4_trt.format.rules import SPEC, Arithmetic

if TYPE_CHECKING:
    from collections.abc import Callable

    from nvfp4_trt.format.rules import ScaleRule

    ChooseScales = Callable[
        [torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, ScaleRule], torch.Tensor
    ]
    """What chooses block scales. Takes finite blocks `[B, 16]`, their largest magnitudes fp32 `[B]`, the block
    scales e4m3fn `[B]` that the rule makes of those, the per-tensor scale and its reciprocal (fp32, broadcastable
    to `[B]`), and the rule; returns block scales e4m3fn `[B]`.
    """


def round_e4m3(x: torch.Tensor) -> torch.Tensor:
    """Round fp32 to e4m3fn: to nearest, ties to even, saturating at 448; NaN stays NaN.

    Saturation is done here: what the bare conversion makes of values above 448 differs between versions.
    """
    return x.clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn)


def divide(x: torch.Tensor, number: float) -> torch.Tensor:
    """Return `x / number` in fp32, correctly rounded on every device.

    CUDA multiplies by the rounded reciprocal where the divisor is a number of the host's, and is then one ulp
    off for some values; a divisor in the device's memory is divided by.
    """
    return x / torch.full((), number, dtype=torch.float32, device=x.device)


def scale_from_amax(amax: torch.Tensor, rule: ScaleRule = SPEC) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the scale that goes with a largest magnitude, and its reciprocal as the rule computes it.

    Args:
        amax: fp32, any shape, finite, not negative.
        rule: decides which of the two is computed from `amax`, and which from the other.

    Returns:
        `(s_t, g)`, fp32 of the same shape: `s_t = amax / 2688` and `g = 1 / s_t`, or `g = (1 / amax)
        * 2688` and `s_t = 1 / g`. Both are 1.0 where `amax / 2688` is below `SMALLEST_SCALE`.
    """
    scale = divide(amax, TWO_LEVEL_MAX)
    tiny = scale < SMALLEST_SCALE
    if rule.arithmetic is Arithmetic.GLOBAL:
        inverse = torch.where(tiny, 1.0, amax.reciprocal() * TWO_LEVEL_MAX)
        return 1.0 / inverse, inverse
    scale = torch.where(tiny, 1.0, scale)
    return scale, 1.0 / scale


def block_scale_from_amax(
    amax: torch.Tensor, scale: torch.Tensor, inverse: torch.Tensor, rule: ScaleRule
) -> torch.Tensor:
    """Return the block scales of blocks with these largest magnitudes.

    Args:
        amax: fp32 `[..., K/16]`, finite, not negative.
        scale: the per-tensor scale, fp32, broadcastable to `amax`.
        inverse: its reciprocal, as `scale_from_amax` returns it.
        rule: order of operations, floor, and what becomes of zero.

    Returns:
        e4m3fn `[..., K/16]`.
    """
    if rule.arithmetic is Arithmetic.RECIPROCAL:
        raw = divide(amax, E2M1_MAX) / scale
    elif rule.arithmetic is Arithmetic.PRODUCT:
        raw = amax / (E2M1_MAX * scale)
    else:
        raw = inverse * divide(amax, E2M1_MAX)
    if rule.zero_amax_scale is not None:
        raw = torch.where(raw == 0, rule.zero_amax_scale, raw)
    rounded = round_e4m3(raw.clamp(min=rule.floor))
    if rule.zero_block_scale is None:
        return rounded
    return round_e4m3(torch.where(rounded.float() == 0, rule.zero_block_scale, rounded.float()))


def scale_elements(
    blocks: torch.Tensor,
    block_scale: torch.Tensor,
    scale: torch.Tensor,
    inverse: torch.Tensor,
    rule: ScaleRule,
    *,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the elements of blocks in units of e2m1, before rounding.

    Args:
        blocks: `[..., K/16, 16]`, fp32 (fp16 and bf16 are widened exactly).
        block_scale: fp32 `[..., K/16]`, positive.
        scale: the per-tensor scale, broadcastable to `block_scale`.
        inverse: its reciprocal, likewise.
        rule: order of operations.
        out: where to write, fp32, shaped as `blocks`.
    """
    if rule.arithmetic is Arithmetic.RECIPROCAL:
        return torch.mul(blocks, (inverse / block_scale).unsqueeze(-1), out=out)
    divisor = block_scale * scale if rule.arithmetic is Arithmetic.PRODUCT else block_scale / inverse
    return torch.div(blocks, divisor.unsqueeze(-1), out=out)
