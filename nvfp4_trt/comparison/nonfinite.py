"""Where NaN or infinity arose first in a run whose layers were tapped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nvfp4_trt.comparison.layer_result import Nonfinite
from nvfp4_trt.tapping import input_tap, output_tap

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from nvfp4_trt.runners.arrays import Feed
    from nvfp4_trt.tapping import Call


def first_nonfinite(
    feed: Feed, run: Mapping[str, NDArray[np.generic]], calls: Sequence[Call], *, backend: str, batch: int
) -> Nonfinite | None:
    """Return where NaN or infinity arose first in one run; None where everything that was tapped is finite.

    Args:
        feed: the model's inputs.
        run: the taps and the outputs.
        calls: the calls whose taps are in it, in the order in which they were made.
        backend: see `Nonfinite`.
        batch: see there.
    """
    for where, name, array in _places(feed, run, calls):
        if not np.issubdtype(array.dtype, np.floating) or np.isfinite(array).all():
            continue
        nan = bool(np.isnan(array).any())
        if nan or where != "inputs":  # a mask may well be of infinities
            return Nonfinite(backend, batch, "nan" if nan else "infinity", where, name)
    return None


def _places(
    feed: Feed, run: Mapping[str, NDArray[np.generic]], calls: Sequence[Call]
) -> Iterator[tuple[str, str, NDArray[np.generic]]]:
    yield from (("inputs", name, array) for name, array in feed.items())
    taps = set()
    for call in calls:
        for where, tap in (("between", input_tap(call)), ("layer", output_tap(call))):
            taps.add(tap)
            yield where, call.key, run[tap]
    yield from (("outputs", name, array) for name, array in run.items() if name not in taps)
