"""How block scales are rounded: the peers' habits as data, so that each can be followed bit for bit."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from nvfp4_trt.recipe import RuleName

_E4M3_SMALLEST_NORMAL = 2.0**-6
_E4M3_SMALLEST = 2.0**-9


class Arithmetic(Enum):
    """The order of the fp32 operations; `s_t` is the per-tensor scale and `g` its reciprocal.

    The three agree in exact arithmetic and differ in the last bit, which moves a value across a tie.
    """

    RECIPROCAL = "reciprocal"
    """Block scale `(amax / 6) / s_t`; element `x * ((1 / s_t) / s_b)`."""
    PRODUCT = "product"
    """Block scale `amax / (6 * s_t)`; element `x / (s_b * s_t)`."""
    GLOBAL = "global"
    """`g = (1 / amax) * 2688` comes first; block scale `g * (amax / 6)`; element `x / (s_b / g)`."""


@dataclass(frozen=True)
class ScaleRule:
    """One way to choose block scales.

    Attributes:
        name: the value of a `nvfp4_trt.recipe.RuleName`.
        arithmetic: the order of operations.
        floor: a block scale is raised to this before it is rounded to e4m3; 0 where there is no floor.
        zero_amax_scale: block scale of a block that is all zeros, taken before the floor; None for none.
        zero_block_scale: what a block scale that rounds to 0 becomes; None where it stays 0, and then
            every code of the block is 0.
        signed_zero: whether -0.0 keeps its sign bit (code 8). A negative number that rounds to zero
            always does.
        stores_reciprocal: whether the peer's files store the reciprocal `g` and not `s_t`. This package's
            scales are always `s_t`, which multiplies; `s_t = 1 / g` there.
    """

    name: str
    arithmetic: Arithmetic = Arithmetic.RECIPROCAL
    floor: float = 0.0
    zero_amax_scale: float | None = None
    zero_block_scale: float | None = None
    signed_zero: bool = True
    stores_reciprocal: bool = False


SPEC = ScaleRule(RuleName.SPEC.value)
"""The format's own rule: no floor, e4m3 subnormals down to 2^-9 are used."""

TORCHAO = ScaleRule(RuleName.TORCHAO.value, floor=_E4M3_SMALLEST_NORMAL)
"""torchao's `NVFP4Tensor`, with and without a per-tensor scale.

Bit-equal to torchao 0.18.0 on the CPU, over the tensors of `tests/format/test_format_peers.py`. Where the
scale falls below `SMALLEST_SCALE` torchao does not guard: an all-zero tensor becomes NaN there and zeros
here.
"""

MODELOPT = ScaleRule(
    RuleName.MODELOPT.value,
    arithmetic=Arithmetic.PRODUCT,
    floor=_E4M3_SMALLEST,
    zero_amax_scale=1.0,
    signed_zero=False,
)
"""ModelOpt's `NVFP4QTensor` (weights, dynamic block scales).

Bit-equal to nvidia-modelopt 0.47.0 on the CPU, over the tensors of `tests/format/test_format_peers.py`, for
fp32 weights and 16-bit weights widened first. An all-zero tensor becomes NaN there and zeros here.
"""

COMPRESSED_TENSORS = ScaleRule(
    RuleName.COMPRESSED_TENSORS.value,
    arithmetic=Arithmetic.GLOBAL,
    zero_block_scale=0.125,
    signed_zero=False,
    stores_reciprocal=True,
)
"""compressed-tensors' `nvfp4-pack-quantized`.

Bit-equal to compressed-tensors 0.20.0 on the CPU, over the tensors of `tests/format/test_format_peers.py`,
all-zero ones too, for fp32 weights and 16-bit weights widened first (the peer divides amax by 6 in the
weight's own dtype). The peer computes `g` first and stores it: `pack_weight` quantizes with that `g`, and so
does `quantize` when it is given as `inverse_scale`; else it takes `1 / per_tensor_scale`, which can differ
from `g` in the last bit.
"""

_RULES = {rule.name: rule for rule in (SPEC, TORCHAO, MODELOPT, COMPRESSED_TENSORS)}


def scale_rule(name: str) -> ScaleRule:
    """Return the preset of that name.

    Args:
        name: `spec`, `torchao`, `modelopt` or `compressed-tensors` (a `RuleName` is such a string).

    Raises:
        ValueError: there is no such preset.
    """
    try:
        return _RULES[str(name)]
    except KeyError:
        raise ValueError(f"{name!r} is not a scale rule; choose one of {', '.join(_RULES)}") from None
