"""`NAME:DTYPE:SHAPE[:LOW..HIGH]`: random inputs, said in an option."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from nvfp4_trt.errors import InputSpecError

SYNTAX = "NAME:DTYPE:SHAPE[:LOW..HIGH], such as input_ids:int64:2x128:0..30000 or x:float32:4x3x8"

_DTYPES = {
    name: getattr(torch, name)
    for name in (
        "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool",
    )
}  # fmt: skip
_SHAPE = re.compile(r"[1-9]\d*(?:x[1-9]\d*)*|scalar")


@dataclass(frozen=True)
class InputSpec:
    """A random input.

    Attributes:
        name: the forward's parameter.
        dtype: of the tensor.
        shape: of the tensor; `scalar` in the text is the empty shape.
        low: the least value, inclusive; None for the dtype's usual ones (see `draw`).
        high: the greatest value, inclusive.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    low: float | None = None
    high: float | None = None

    def draw(self, generator: torch.Generator) -> torch.Tensor:
        """Return a tensor of `shape` and `dtype` on the CPU.

        Without a range, floats are standard normal, and integers and booleans are 0 or 1. With one,
        integers are uniform over `low..high`, both included, and floats are uniform between the two.
        """
        if not self.dtype.is_floating_point:
            low, high = (0, 1) if self.low is None or self.high is None else (int(self.low), int(self.high))
            # drawn as int64, so that one seed gives one sequence of numbers whatever the dtype
            return torch.randint(low, high + 1, self.shape, generator=generator).to(self.dtype)
        if self.low is None or self.high is None:
            return torch.randn(self.shape, generator=generator).to(self.dtype)
        unit = torch.rand(self.shape, generator=generator)
        return (unit * (self.high - self.low) + self.low).to(self.dtype)


def parse_input_spec(text: str, *, option: str = "--input") -> InputSpec:
    """Return the random input that an option's value describes.

    Raises:
        InputSpecError: `text` does not follow the syntax, or its range does not fit its dtype.
    """
    name, *rest = text.split(":")
    if not 2 <= len(rest) <= 3 or not name.isidentifier():  # noqa: PLR2004 (dtype, shape and perhaps a range)
        raise InputSpecError(f"{option} {text!r} does not follow its syntax", f"write {SYNTAX}")
    dtype = _DTYPES.get(rest[0])
    if dtype is None:
        raise InputSpecError(f"{option} {text!r}: {rest[0]!r} is not a dtype", f"one of {', '.join(_DTYPES)}")
    if not _SHAPE.fullmatch(rest[1]):
        raise InputSpecError(
            f"{option} {text!r}: {rest[1]!r} is not a shape", "sizes with an x between them: 2x128"
        )
    shape = () if rest[1] == "scalar" else tuple(int(size) for size in rest[1].split("x"))
    if len(rest) == 2:  # noqa: PLR2004
        return InputSpec(name, dtype, shape)
    low, high = _parse_range(text, rest[2], dtype, option)
    return InputSpec(name, dtype, shape, low, high)


def _parse_range(text: str, written: str, dtype: torch.dtype, option: str) -> tuple[float, float]:
    number = float if dtype.is_floating_point else int
    low_text, dots, high_text = written.partition("..")
    try:
        low, high = number(low_text), number(high_text)
    except ValueError:
        dots = ""
    if not dots:
        kind = "numbers" if dtype.is_floating_point else "whole numbers"
        raise InputSpecError(f"{option} {text!r}: {written!r} is not a range", f"two {kind}, both included: 0..9")
    limits = torch.finfo(dtype) if dtype.is_floating_point else None
    least, most = (0, 1) if dtype is torch.bool else _limits(dtype) if limits is None else (limits.min, limits.max)
    if not least <= low <= high <= most:
        raise InputSpecError(
            f"{option} {text!r}: the range {written} is empty, or wider than {rest_name(dtype)}",
            f"LOW..HIGH with {least} <= LOW <= HIGH <= {most}",
        )
    return low, high


def _limits(dtype: torch.dtype) -> tuple[int, int]:
    limits = torch.iinfo(dtype)
    # randint's upper bound is exclusive: int64's greatest number cannot be drawn
    return limits.min, min(limits.max, 2**63 - 2)


def rest_name(dtype: torch.dtype) -> str:
    """Return a dtype's name as options write it."""
    return str(dtype).removeprefix("torch.")
