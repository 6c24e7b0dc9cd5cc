"""The NVFP4 codec in torch: on any device, for fp16, bf16 and fp32, bit-equal to `reference`.

Nothing that can be traced looks at a value to decide what to do next: every function runs on fake tensors,
under `torch.compile` and `torch.export`. On a CPU and untraced, `cpu` does the same work faster.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from nvfp4_trt.format import cpu
from nvfp4_trt.format.constants import BLOCK, E2M1_MAX, E2M1_VALUES, FLT_MAX
from nvfp4_trt.format.rules import SPEC, ScaleRule
from nvfp4_trt.format.scales import block_scale_from_amax, scale_elements, scale_from_amax

if TYPE_CHECKING:
    from nvfp4_trt.format.scales import ChooseScales

_NAN_BYTE = 0x7F


def round_e2m1(v: torch.Tensor) -> torch.Tensor:
    """Return the 4-bit codes (uint8) of fp32 values: to nearest, ties to even, saturating at 6.

    e2m1 is spaced 0.5 up to 2, then 1 up to 4, then 2 up to 6. The code of a magnitude is the smallest of
    the three codes that these spacings give, and each comes from one rounding to an integer. The sign bit
    is kept, also of -0.0. NaN has no code: give none.
    """
    y = v.abs().clamp(max=E2M1_MAX)
    fine, middle, coarse = (y * 2).round(), y.round() + 2, (y * 0.5).round() + 4
    code = torch.minimum(torch.minimum(fine, middle), coarse).to(torch.uint8)
    return code | (torch.signbit(v).to(torch.uint8) << 3)


def pack_codes(codes: torch.Tensor) -> torch.Tensor:
    """Pack 4-bit codes, uint8 `[..., K]`, two a byte, low nibble first: uint8 `[..., K/2]`."""
    return codes[..., 0::2] | (codes[..., 1::2] << 4)


def unpack_codes(packed: torch.Tensor) -> torch.Tensor:
    """Undo `pack_codes`: uint8 `[..., K/2]` to uint8 `[..., K]`."""
    return torch.stack((packed & 0x0F, packed >> 4), dim=-1).flatten(-2)


def per_tensor_scale(x: torch.Tensor, rule: ScaleRule = SPEC) -> torch.Tensor:
    """Return the per-tensor scale of `x`, fp32 `[]`: its largest magnitude over 2688.

    NaN counts as 0, so that it spoils its own block only; infinity counts as the largest fp32. A scale
    below 2^-117 (also of an all-zero tensor) becomes 1.0: see `SMALLEST_SCALE` for why.
    """
    return scale_from_amax(finite_magnitude(x).amax(), rule)[0]


def per_token_scale(x: torch.Tensor, rule: ScaleRule = SPEC) -> torch.Tensor:
    """Return one scale for each row of `x[..., K]`, fp32 `[..., 1]`: as `per_tensor_scale`, row by row."""
    return scale_from_amax(finite_magnitude(x).amax(dim=-1, keepdim=True), rule)[0]


def quantize(
    x: torch.Tensor,
    per_tensor_scale: torch.Tensor | None,
    rule: ScaleRule = SPEC,
    *,
    inverse_scale: torch.Tensor | None = None,
    choose: ChooseScales | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantize along the last axis, in blocks of 16.

    A block that holds NaN gets the block scale NaN (0x7F) and codes 0. Infinity saturates.

    Args:
        x: fp16, bf16 or fp32, `[..., K]`, K a multiple of 16.
        per_tensor_scale: fp32 `[]`, or `[..., 1]` for one scale a row, at least `SMALLEST_SCALE`; None for
            a single level of scales.
        rule: how block scales are rounded.
        inverse_scale: the reciprocal of `per_tensor_scale` where it is known better than as
            `1 / per_tensor_scale`, as from `scale_from_amax`; same shape.
        choose: what chooses other block scales than the rule; for a finite `x` with a scale `[]`.

    Returns:
        `(packed, block_scale)`: uint8 `[..., K/2]`, low nibble first, and e4m3fn `[..., K/16]`.

    Raises:
        ValueError: K is not a multiple of 16.
    """
    _check_blocks(x)
    scale = x.new_ones((), dtype=torch.float32) if per_tensor_scale is None else per_tensor_scale
    inverse = 1.0 / scale if inverse_scale is None else inverse_scale
    if cpu.eager_on_cpu(x.detach(), scale.detach(), inverse.detach()):
        amax = cpu.block_amax(x)
        if amax.numel() and float(amax.amax()) < math.inf:  # False for NaN
            return cpu.quantize_finite(x, amax, scale, inverse, rule, choose)
    return _quantize(x, scale, inverse, rule, choose)


def pack_weight(weight: torch.Tensor, rule: ScaleRule = SPEC) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Quantize a weight with its own per-tensor scale: one pass less than the two calls it stands for.

    Under a rule that computes the reciprocal of the scale first, the weight is quantized with that very
    number, as the peer does, and the scale that is returned is its reciprocal.

    Args:
        weight: fp16, bf16 or fp32 `[N, K]`, K a multiple of 16.
        rule: how block scales are rounded.

    Returns:
        `(packed, block_scale, per_tensor_scale)`: uint8 `[N, K/2]`, e4m3fn `[N, K/16]`, fp32 `[]`.

    Raises:
        ValueError: K is not a multiple of 16.
    """
    _check_blocks(weight)
    weight = weight.detach()
    if cpu.eager_on_cpu(weight):
        amax = cpu.block_amax(weight)
        if amax.numel() and float(amax.amax()) < math.inf:  # False for NaN
            scale, inverse = scale_from_amax(amax.amax(), rule)
            return *cpu.quantize_finite(weight, amax, scale, inverse, rule), scale
    scale, inverse = scale_from_amax(finite_magnitude(weight).amax(), rule)
    return *_quantize(weight, scale, inverse, rule), scale


def dequantize(
    packed: torch.Tensor,
    block_scale: torch.Tensor,
    per_tensor_scale: torch.Tensor | None,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Return `e2m1 * block_scale * per_tensor_scale`, in fp32 and this order, rounded once to `dtype`.

    Args:
        packed: uint8 `[..., K/2]`, low nibble first.
        block_scale: e4m3fn `[..., K/16]`.
        per_tensor_scale: fp32 `[]` or `[..., 1]`; None for a single level of scales.
        dtype: fp16, bf16 or fp32.

    Returns:
        `[..., K]` of `dtype`.
    """
    if cpu.eager_on_cpu(packed, block_scale, per_tensor_scale):
        return cpu.dequantize(packed, block_scale, per_tensor_scale, dtype)
    return _dequantize(packed, block_scale, per_tensor_scale, dtype)


def _check_blocks(x: torch.Tensor) -> None:
    if x.shape[-1] % BLOCK:
        raise ValueError(f"the last axis has {x.shape[-1]} elements, which is no multiple of {BLOCK}")


def _quantize(
    x: torch.Tensor,
    scale: torch.Tensor,
    inverse: torch.Tensor,
    rule: ScaleRule,
    choose: ChooseScales | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    wide = x.float().clamp(-FLT_MAX, FLT_MAX)
    blocks = wide.reshape(*x.shape[:-1], x.shape[-1] // BLOCK, BLOCK)
    # Whether a maximum propagates NaN, and with which sign, differs between devices: say it outright.
    poisoned = blocks.isnan().any(dim=-1)
    amax = torch.where(poisoned, 0.0, blocks.abs().amax(dim=-1))
    block_scale = block_scale_from_amax(amax, scale, inverse, rule)
    if choose is not None:
        flat = choose(blocks.view(-1, BLOCK), amax.view(-1), block_scale.view(-1), scale, inverse, rule)
        block_scale = flat.view(block_scale.shape)
    decoded = block_scale.float()
    dead = poisoned | (decoded == 0)
    scaled = scale_elements(blocks, torch.where(dead, 1.0, decoded), scale, inverse, rule)
    if not rule.signed_zero:
        scaled = torch.where(scaled == 0, 0.0, scaled)
    codes = torch.where(dead.unsqueeze(-1), 0, round_e2m1(scaled))
    bits = torch.where(poisoned, _NAN_BYTE, block_scale.view(torch.uint8))
    return pack_codes(codes.flatten(-2)), bits.view(torch.float8_e4m3fn)


def _dequantize(
    packed: torch.Tensor,
    block_scale: torch.Tensor,
    per_tensor_scale: torch.Tensor | None,
    dtype: torch.dtype,
) -> torch.Tensor:
    values = torch.tensor(E2M1_VALUES, dtype=torch.float32, device=packed.device)
    blocks = values[unpack_codes(packed).int()].reshape(*block_scale.shape, BLOCK)
    blocks = blocks * block_scale.float().unsqueeze(-1)
    if per_tensor_scale is not None:
        blocks = blocks * per_tensor_scale.unsqueeze(-1)
    return blocks.flatten(-2).to(dtype)


def finite_magnitude(x: torch.Tensor) -> torch.Tensor:
    """Return what a scale over several blocks is taken over: fp32 magnitudes, finite."""
    if cpu.eager_on_cpu(x) and x.numel() % BLOCK == 0 and x.shape[-1] % BLOCK == 0:
        amax = cpu.block_amax(x)
        if amax.numel() and not math.isnan(float(amax.amax())):
            return amax.clamp(max=FLT_MAX)
    return torch.nan_to_num(x.float().abs(), nan=0.0, posinf=FLT_MAX)
