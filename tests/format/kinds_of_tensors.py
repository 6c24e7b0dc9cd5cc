"""The tensors that the codec is compared on: each kind stresses another part of the arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SHAPES = ((32, 64), (1, 16), (7, 48), (5, 272), (3, 1008))
_SUBNORMAL = 2.0**-140


def make(kind: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Return an fp32 tensor of a kind; `one-outlier` and those below change `normal`."""
    x = torch.randn(shape, generator=generator)
    if kind == "heavy-tailed":
        return x**5
    if kind == "constant":
        return torch.full(shape, float(x.flatten()[0]))
    if kind == "all-zero":
        return torch.zeros(shape)
    if kind == "one-outlier":
        x.view(-1)[int(torch.randint(x.numel(), (), generator=generator))] = 3e4
    elif kind == "subnormal":  # whole blocks, and single elements of others
        x.view(-1, 16)[1::2] *= _SUBNORMAL
        x.view(-1)[::5] *= _SUBNORMAL
    elif kind == "small":
        x *= 1e-3
    elif kind == "large":
        x *= 1e4
    elif kind == "zeros-in-it":  # whole blocks, of both signs, and single elements
        x.view(-1, 16)[1::3] *= -0.0
        x.view(-1)[::7] = -0.0
    elif kind == "on-the-grid":  # values that lie on ties for the scales 2^k
        steps = torch.randint(-24, 25, shape, generator=generator).float() / 4
        steps.view(-1, 16)[:, 0] = 6.0
        return steps
    return x


KINDS = (
    "normal",
    "heavy-tailed",
    "constant",
    "all-zero",
    "one-outlier",
    "subnormal",
    "small",
    "large",
    "zeros-in-it",
    "on-the-grid",
)


def tensors(count: int, *, without: tuple[str, ...] = (), seed: int = 0) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield `count` tensors with a name each: all kinds, shapes and dtypes in turn, then anew."""
    generator = torch.Generator().manual_seed(seed)
    kinds = [kind for kind in KINDS if kind not in without]
    for i in range(count):
        kind, rest = kinds[i % len(kinds)], i // len(kinds)
        shape, dtype = SHAPES[rest % len(SHAPES)], DTYPES[rest // len(SHAPES) % len(DTYPES)]
        yield f"{i}: {kind} {shape} {dtype}", make(kind, shape, generator).to(dtype)


def as_bytes(x: torch.Tensor) -> torch.Tensor:
    """Return the bits, so that NaN equals NaN and -0.0 differs from 0.0."""
    return x.flatten().view(torch.uint8)
