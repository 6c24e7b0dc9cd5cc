"""Matrices that stress the quantizing kernels, and what `nvfp4_trt.format` makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from emulator import DTYPES

from nvfp4_trt import format as nvfp4
from nvfp4_trt.kernels.arguments import TILED

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator import Result

    from nvfp4_trt.kernels.launch import Scaling

ARITHMETIC = pytest.mark.parametrize("native", [False, True], ids=["hopper", "blackwell"])
EVERY_DTYPE = pytest.mark.parametrize("dtype", DTYPES)

STATIC_SCALES = (0.01, 2.0**-117, 2.0**127, 1.7e-33, 3e20, 1.0)
"""Of the whole range that a static scale may have; 2^-117 is the smallest."""


def make(kind: str, shape: tuple[int, int], dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    """Return a matrix `[M, K]` of a kind."""
    return KINDS[kind](torch.randn(shape, generator=generator), torch.finfo(dtype), generator).to(dtype)


def _decades(x: torch.Tensor, _info: torch.finfo, generator: torch.Generator) -> torch.Tensor:
    return x * 10 ** (torch.rand(len(x), 1, generator=generator) * 8 - 4)


def _heavy_tails(x: torch.Tensor, _info: torch.finfo, generator: torch.Generator) -> torch.Tensor:
    return x * torch.exp(3 * torch.randn(x.shape, generator=generator))


def _not_finite(x: torch.Tensor, _info: torch.finfo, generator: torch.Generator) -> torch.Tensor:
    flat = x.view(-1)
    for value in (float("inf"), -float("inf"), float("nan"), -float("nan")):
        flat[int(torch.randint(x.numel(), (), generator=generator))] = value
    return x


def _all_nan(x: torch.Tensor, _info: torch.finfo, _generator: torch.Generator) -> torch.Tensor:
    return torch.full_like(x, float("nan"))


def _zeros(x: torch.Tensor, _info: torch.finfo, _generator: torch.Generator) -> torch.Tensor:
    return x * 0.0  # of both signs


def _zero_rows(x: torch.Tensor, _info: torch.finfo, _generator: torch.Generator) -> torch.Tensor:
    x[::2] = 0.0
    x.view(-1)[::5] = -0.0
    return x


def _ties(x: torch.Tensor, _info: torch.finfo, generator: torch.Generator) -> torch.Tensor:
    """Multiples of 1/4 up to the largest element 6: on every tie, where the scales are powers of two."""
    steps = torch.randint(-24, 25, x.shape, generator=generator) / 4
    steps.view(-1, 16)[:, 0] = 6.0
    steps[-1, 0] = 2688.0  # a scale of 1 over the tensor, and over this row
    return steps


def _outlier(x: torch.Tensor, _info: torch.finfo, generator: torch.Generator) -> torch.Tensor:
    x *= 1e-3
    x.view(-1)[int(torch.randint(x.numel(), (), generator=generator))] = -3e4
    return x


def _subnormal(x: torch.Tensor, info: torch.finfo, _generator: torch.Generator) -> torch.Tensor:
    x *= info.tiny / 8
    x[1::2] *= 64
    return x


def _smallest_scale(x: torch.Tensor, _info: torch.finfo, _generator: torch.Generator) -> torch.Tensor:
    """Rows whose scales lie just below, on and above 2^-117, below which a scale becomes 1."""
    x /= x.abs().amax(-1, keepdim=True)
    return x * 2.0**-117 * 2688 * (1 + (torch.arange(len(x)) % 5 - 2)[:, None] * 2.0**-8)


def _largest(x: torch.Tensor, info: torch.finfo, _generator: torch.Generator) -> torch.Tensor:
    return (x * (info.max / 2)).clamp(-info.max, info.max)


KINDS: dict[str, Callable[[torch.Tensor, torch.finfo, torch.Generator], torch.Tensor]] = {
    "decades": _decades,
    "heavy tails": _heavy_tails,
    "not finite": _not_finite,
    "all NaN": _all_nan,
    "zeros": _zeros,
    "zero rows": _zero_rows,
    "ties": _ties,
    "outlier": _outlier,
    "subnormal": _subnormal,
    "smallest scale": _smallest_scale,
    "largest": _largest,
}


def outer_scale(x: torch.Tensor, scaling: Scaling, static: float | None) -> torch.Tensor | None:
    """Return the scale over blocks that the format gives `x` in a mode."""
    if scaling == "token":
        return nvfp4.per_token_scale(x)
    if scaling == "tensor":
        return nvfp4.per_tensor_scale(x)
    return None if static is None else torch.tensor(static)


def differences(
    result: Result,
    x: torch.Tensor,
    scaling: Scaling,
    *,
    static: float | None = None,
    layout: int = TILED,
    rule: nvfp4.ScaleRule = nvfp4.SPEC,
) -> list[str]:
    """Return the names of the outputs that are not the format's own, bit for bit."""
    scale = outer_scale(x, scaling, static)
    codes, blocks = nvfp4.quantize(x, scale, rule)
    byte = blocks.view(torch.uint8)
    expected = {
        "codes": codes,
        "scales": (nvfp4.swizzle_scales(byte) if layout == TILED else byte).flatten(),
        "scale": torch.ones(1) if scale is None else scale.flatten(),
        "fake": nvfp4.dequantize(codes, blocks, scale, x.dtype),
    }
    return [name for name, tensor in expected.items() if not same_bits(tensor, getattr(result, name))]


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors are equal, zeros' signs included; NaN is NaN, whichever its bits."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not a.is_floating_point():
        return torch.equal(a, b)
    a, b = (torch.where(t.isnan(), float("nan"), t.float()).view(torch.int32) for t in (a, b))
    return torch.equal(a, b)
