"""Numbers as the page shows them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nvfp4_trt.units import readable_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nvfp4_trt.reporting.data import Layer

NONE = "-"
_IDENTICAL = 300.0
"""SQNR in dB of what is equal, see `comparison.SQNR_LIMIT`."""
_THOUSAND = 1000.0


def size(count: float | None) -> str:
    """Return bytes, in KiB or MiB."""
    return NONE if count is None else readable_size(round(count))


def count(number: float | None) -> str:
    """Return a whole number with thousands apart."""
    return NONE if number is None else f"{round(number):,}"


def amount(number: float | None) -> str:
    """Return a number with a metric prefix, as `22.7 M`."""
    if number is None:
        return NONE
    for unit in ("", "k", "M", "G"):
        if abs(number) < _THOUSAND:
            return f"{number:.3g} {unit}".strip()
        number /= _THOUSAND
    return f"{number:,.3g} T"


def decibels(value: float | None) -> str:
    """Return an SQNR without its unit."""
    if value is None:
        return NONE
    return "identical" if value >= _IDENTICAL else f"{value:.1f}"


def microseconds(value: float | None) -> str:
    """Return a time without its unit."""
    return NONE if value is None else f"{value:,.2f}"


def milliseconds(value: float | None) -> str:
    """Return a time without its unit, with the digits that a GPU's clock gives."""
    return NONE if value is None else f"{value:,.4f}"


def short(value: float | None) -> str:
    """Return a number with four digits that count."""
    return NONE if value is None or not math.isfinite(value) else f"{value:.4g}"


def cosine(value: float | None) -> str:
    """Return a cosine similarity."""
    return NONE if value is None else f"{value:.5f}"


def percent(part: float, whole: float) -> str:
    """Return a share in percent."""
    return f"{100 * part / whole:.1f} %" if whole else NONE


def shape(extents: Sequence[int]) -> str:
    """Return extents, as `384x1536`."""
    return "x".join(map(str, extents))


def per_tensor(layer: Layer, of: str) -> str:
    """Return the per-tensor scale of a layer's `weight` or `activation`."""
    if of == "weight":
        return short(layer.weight_scale)
    run = layer.activation_scales
    return layer.activation_scale if run is None else f"{short(run.median)} (median)"


def change(before: float | None, after: float | None, *, relative: bool = True) -> str:
    """Return how much a number changed: in percent, or by how much."""
    if before is None or after is None:
        return NONE
    if not relative:
        return f"{after - before:+.4g}"
    return f"{100 * (after / before - 1):+.1f} %" if before else NONE
