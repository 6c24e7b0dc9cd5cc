"""What samples of a time come to. Pure arithmetic: no GPU, no clock."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import Sequence


class Summary(BaseModel):
    """Samples of one time, in milliseconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int
    """How many samples there are."""
    median_ms: float
    mean_ms: float
    min_ms: float
    max_ms: float
    p5_ms: float
    p25_ms: float
    p75_ms: float
    p95_ms: float
    p99_ms: float
    spread: float
    """(p75 - p25) / median: the share by which the middle half of the samples differ."""


def summarize(samples: Sequence[float]) -> Summary:
    """Return what samples come to; percentiles are interpolated linearly between the two nearest samples.

    Args:
        samples: milliseconds, at least one.

    Raises:
        ValueError: there is none, or one is negative or not finite.
    """
    if not samples:
        raise ValueError("no sample was taken")
    broken = [each for each in samples if not (math.isfinite(each) and each >= 0)]
    if broken:
        raise ValueError(f"{broken[0]} is no time")
    values = np.asarray(samples, np.float64)
    p5, p25, median, p75, p95, p99 = (float(each) for each in np.percentile(values, (5, 25, 50, 75, 95, 99)))
    return Summary(
        count=len(samples),
        median_ms=median,
        mean_ms=float(values.mean()),
        min_ms=float(values.min()),
        max_ms=float(values.max()),
        p5_ms=p5,
        p25_ms=p25,
        p75_ms=p75,
        p95_ms=p95,
        p99_ms=p99,
        spread=(p75 - p25) / median if median else 0.0,
    )


def rate(items: int, milliseconds: float) -> float:
    """Return items a second, where `items` take that long together; 0 where the time is 0."""
    return 1e3 * items / milliseconds if milliseconds else 0.0
