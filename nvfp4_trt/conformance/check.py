"""Checking an implementation, given as a Python callable, against conformance vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from nvfp4_trt.conformance.vectors import Case, Vectors

    Quantizer = Callable[..., tuple[Any, Any, Any]]
    Dequantizer = Callable[..., Any]


@dataclass(frozen=True)
class Mismatch:
    """A case that an implementation computes otherwise."""

    case: str
    part: str
    """`packed`, `block_scale`, `scale` or `output`; `call` where the implementation raised."""
    what: str
    """How it differs."""

    def __str__(self) -> str:
        """Return one line for people."""
        return f"{self.case}: {self.part}: {self.what}"


def check_quantizer(quantize: Quantizer, vectors: Vectors, *, skip: tuple[str, ...] = ()) -> list[Mismatch]:
    """Quantize every input and compare codes, block scales and scales bit for bit.

    Args:
        quantize: called as `quantize(x, rule=..., scaling=..., scale=...)` with an array fp32, fp16 or bf16
            (`ml_dtypes`) `[N, K]`, and for `static` an fp32 scale `[]`, else None. It returns codes uint8
            `[N, K/2]`, block scales `[N, K/16]` as e4m3fn or their bytes, and the fp32 scale it used, `[]` or
            `[N, 1]`; None for one that it was given, or does without.
        vectors: of one rule.
        skip: cases that are left out.
    """
    return [
        mismatch
        for case in vectors.cases
        if case.name not in skip
        for mismatch in _quantized(quantize, case, vectors)
    ]


def check_dequantizer(
    dequantize: Dequantizer, vectors: Vectors, *, ulps: int = 0, skip: tuple[str, ...] = ()
) -> list[Mismatch]:
    """Dequantize all codes and compare the values.

    Args:
        dequantize: called as `dequantize(packed, block_scale, scale)` with uint8 `[N, K/2]`, the bytes of e4m3fn
            `[N, K/16]` and fp32 `[]` or `[N, 1]`; returns fp32 `[N, K]`.
        vectors: of one rule.
        ulps: how many units in the last place a value may be off.
        skip: cases that are left out.
    """
    found = []
    for case in vectors.cases:
        if case.name in skip:
            continue
        try:
            values = np.asarray(dequantize(case.packed, case.block_scale, case.scale), np.float32)
        except Exception as error:  # noqa: BLE001 (somebody else's code runs)
            found.append(Mismatch(case.name, "call", f"{type(error).__name__}: {error}"))
            continue
        found += _compared(case.name, "output", values, case.output, ulps)
    return found


def _quantized(quantize: Quantizer, case: Case, vectors: Vectors) -> Iterator[Mismatch]:
    given = case.scale if case.scaling == "static" else None
    try:
        packed, block_scale, scale = quantize(case.x, rule=vectors.rule, scaling=case.scaling, scale=given)
    except Exception as error:  # noqa: BLE001 (somebody else's code runs)
        yield Mismatch(case.name, "call", f"{type(error).__name__}: {error}")
        return
    yield from _compared(case.name, "packed", np.asarray(packed), case.packed)
    yield from _compared(case.name, "block_scale", np.asarray(block_scale).view(np.uint8), case.block_scale)
    if scale is not None:
        yield from _compared(case.name, "scale", np.asarray(scale, np.float32), case.scale)


def _compared(case: str, part: str, got: NDArray[Any], wanted: NDArray[Any], ulps: int = 0) -> Iterator[Mismatch]:
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        yield Mismatch(
            case, part, f"is {got.dtype} {list(got.shape)}, should be {wanted.dtype} {list(wanted.shape)}"
        )
        return
    wrong = got != wanted
    if wanted.dtype == np.float32:
        near = np.abs(got.astype(np.float64) - wanted) <= ulps * np.spacing(np.abs(wanted)).astype(np.float64)
        wrong = ~((got == wanted) & (np.signbit(got) == np.signbit(wanted)) | (np.isnan(got) & np.isnan(wanted)))
        wrong &= ~(near & (ulps > 0))
    if wrong.any():
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        shown = f" at {list(first)}" if first else ""
        yield Mismatch(
            case,
            part,
            f"{int(wrong.sum())} of {wrong.size} differ, the first{shown}: {got[first]} for {wanted[first]}",
        )
