"""The codec on a CPU: the same bytes as the plain functions of `codec`, many times faster.

A chain of elementwise operations over a whole weight is bound by memory. Here the chain runs over pieces
that stay in the cache, in place, each thread on its own. What this needs and
tracing cannot have is a look at the data: everything is finite, or `None` is returned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from nvfp4_trt.format.constants import BLOCK, E2M1_MAX, E2M1_VALUES
from nvfp4_trt.format.scales import block_scale_from_amax, scale_elements

if TYPE_CHECKING:
    from collections.abc import Callable

    from nvfp4_trt.format.rules import ScaleRule
    from nvfp4_trt.format.scales import ChooseScales

_PIECE = 16384
"""Blocks in a piece: 256 Ki elements. Smaller ones would lie nearer to the core, but cost more in calls
(and, with threads, in waiting for each other) than they save; measured from 1,920 to 32,768.
"""

# Adding 2^k to a small fp32 leaves it rounded (to nearest even) to the ulp of 2^k, as an integer in the low
# bits: 0.5 for 2^22, 1 for 2^23, 2 for 2^24. The even additions of 2 and 4 ulps turn the integer into an
# e2m1 code. The low byte of 2^k itself is zero, so the code is the low byte of the sum.
_FINE, _MIDDLE, _COARSE = 2.0**22, 2.0**23 + 2, 2.0**24 + 8
_SIGN_TO_BIT_3 = torch.tensor(28, dtype=torch.int32)
_BIT_3 = torch.tensor(8, dtype=torch.uint8)
_NIBBLE = torch.tensor(4, dtype=torch.int16)

_PAIRS = torch.tensor(
    [(E2M1_VALUES[byte & 0x0F], E2M1_VALUES[byte >> 4]) for byte in range(256)], dtype=torch.float32
).view(torch.int64)
"""The two fp32 values of each packed byte, as one 8-byte element: one lookup serves both."""

_E4M3_VALUES = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()


def eager_on_cpu(*tensors: torch.Tensor | None) -> bool:
    """Whether these are real tensors on the CPU that nothing traces or differentiates."""
    if torch.compiler.is_compiling() or is_in_torch_dispatch_mode():
        return False
    return all(
        t is None
        or (
            type(t) in {torch.Tensor, torch.nn.Parameter}
            and t.device.type == "cpu"
            and not (t.requires_grad and torch.is_grad_enabled())
        )
        for t in tensors
    )


def block_amax(x: torch.Tensor) -> torch.Tensor:
    """Return the largest magnitude of each block of `x[..., K]`: fp32 `[..., K/16]`; NaN wins over all.

    Magnitudes are compared by their bits, which sort as the values do, and integers are faster here.
    """
    flat = x.detach().contiguous().view(-1, BLOCK)
    wide = x.dtype == torch.float32
    bits = flat.view(torch.int32 if wide else torch.int16)
    mask = torch.tensor(0x7FFFFFFF if wide else 0x7FFF, dtype=bits.dtype)
    largest = torch.empty(len(bits), dtype=bits.dtype)

    buffer = torch.empty((min(len(bits), _PIECE), BLOCK), dtype=bits.dtype)
    for piece in _pieces(len(bits)):
        magnitudes = torch.bitwise_and(bits[piece], mask, out=buffer[: _length(piece)])
        torch.amax(magnitudes, dim=-1, out=largest[piece])
    return largest.view(x.dtype).float().view(*x.shape[:-1], x.shape[-1] // BLOCK)


def quantize_finite(
    x: torch.Tensor,
    amax: torch.Tensor,
    scale: torch.Tensor,
    inverse: torch.Tensor,
    rule: ScaleRule,
    choose: ChooseScales | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantize a tensor without NaN and infinity, given the largest magnitudes of its blocks.

    Args:
        x: fp16, bf16 or fp32 `[..., K]`.
        amax: fp32 `[..., K/16]`, as from `block_amax`.
        scale: fp32 `[]` or `[..., 1]`.
        inverse: the reciprocal of `scale`, same shape.
        rule: how block scales are rounded.
        choose: what chooses other block scales than those that the rule makes of `amax`.

    Returns:
        As `codec.quantize`.
    """
    flat, largest = x.detach().contiguous().view(-1, BLOCK), amax.view(-1)
    scale_of, inverse_of = _by_block(scale.detach(), amax.shape), _by_block(inverse.detach(), amax.shape)
    packed = torch.empty((len(flat), BLOCK // 2), dtype=torch.uint8)
    block_scale = torch.empty(len(flat), dtype=torch.float8_e4m3fn)

    encoder = _Encoder(min(len(flat), _PIECE))
    for piece in _pieces(len(flat)):
        s_t, inv = scale_of(piece), inverse_of(piece)
        rounded = block_scale_from_amax(largest[piece], s_t, inv, rule)
        if choose is not None:
            rounded = choose(flat[piece], largest[piece], rounded, s_t, inv, rule)
        block_scale[piece] = rounded
        s_b = _decode_e4m3(rounded)
        dead = s_b == 0 if float(s_b.amin()) == 0 else None
        if dead is not None:
            s_b.masked_fill_(dead, 1.0)
        scaled = scale_elements(flat[piece], s_b, s_t, inv, rule, out=encoder.scaled[: len(s_b)])
        if not rule.signed_zero:
            scaled.add_(0.0)  # -0.0 + 0.0 is 0.0
        encoder.encode(scaled, packed[piece])
        if dead is not None:
            packed[piece].masked_fill_(dead.unsqueeze(-1), 0)
    return packed.view(*x.shape[:-1], x.shape[-1] // 2), block_scale.view(amax.shape)


def dequantize(
    packed: torch.Tensor,
    block_scale: torch.Tensor,
    per_tensor_scale: torch.Tensor | None,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Do what `codec.dequantize` does."""
    flat = packed.detach().contiguous().view(-1, BLOCK // 2)
    scales = block_scale.detach().contiguous().view(-1, 1)
    scale = torch.ones(()) if per_tensor_scale is None else per_tensor_scale.detach()
    scale_of = _by_block(scale, block_scale.shape)
    out = torch.empty((len(flat), BLOCK), dtype=dtype)

    for piece in _pieces(len(flat)):
        pairs = torch.index_select(_PAIRS, 0, flat[piece].view(-1).int())
        values = pairs.view(torch.float32).view(-1, BLOCK).mul_(_decode_e4m3(scales[piece]))
        torch.mul(values, scale_of(piece).unsqueeze(-1), out=values)
        out[piece] = values
    return out.view(*packed.shape[:-1], packed.shape[-1] * 2)


class _Encoder:
    """Rounds scaled elements to e2m1, as `codec.round_e2m1` does, in buffers of its own."""

    def __init__(self, blocks: int) -> None:
        self.scaled, self.sum = torch.empty((2, blocks, BLOCK), dtype=torch.float32)
        self.code, self.other, self.sign = torch.empty((3, blocks, BLOCK), dtype=torch.uint8)

    def encode(self, scaled: torch.Tensor, packed: torch.Tensor) -> None:
        """Write the packed codes of `scaled`, fp32 `[blocks, 16]`, which is overwritten."""
        rows = len(scaled)
        total, code, other, sign = self.sum[:rows], self.code[:rows], self.other[:rows], self.sign[:rows]
        bits = total.view(torch.int32)
        torch.bitwise_right_shift(scaled.view(torch.int32), _SIGN_TO_BIT_3, out=bits)
        sign.copy_(bits).bitwise_and_(_BIT_3)
        magnitude = scaled.abs_().clamp_(max=E2M1_MAX)
        torch.add(magnitude, _FINE, out=total)
        code.copy_(bits)
        for base in (_MIDDLE, _COARSE):
            torch.add(magnitude, base, out=total)
            torch.minimum(code, other.copy_(bits), out=code)
        pairs = code.bitwise_or_(sign).view(torch.int16)  # the second of two codes is in the high byte
        torch.bitwise_right_shift(pairs, _NIBBLE, out=other.view(torch.int16))
        packed.copy_(pairs.bitwise_or_(other.view(torch.int16)))


def _decode_e4m3(scales: torch.Tensor) -> torch.Tensor:
    """Return the fp32 values of e4m3 scales, by lookup: several times faster than the conversion."""
    values = torch.index_select(_E4M3_VALUES, 0, scales.view(torch.uint8).view(-1).int())
    return values.view(scales.shape)


def _by_block(scale: torch.Tensor, blocks: torch.Size) -> Callable[[slice], torch.Tensor]:
    """Return what gives the per-tensor scales of a piece: one for all, or one for each block."""
    if scale.numel() == 1:
        single = scale.reshape(1)
        return lambda _piece: single
    each = scale.expand(blocks).reshape(-1)
    return lambda piece: each[piece]


def _length(piece: slice) -> int:
    return int(piece.stop - piece.start)


def _pieces(blocks: int) -> list[slice]:
    return [slice(start, min(start + _PIECE, blocks)) for start in range(0, blocks, _PIECE)]
