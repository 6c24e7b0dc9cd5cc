"""Damage measured: each layer quantized alone, and the whole model run on every batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from nvfp4_trt.mixing.reference import Reference
    from nvfp4_trt.mixing.switchable import Switchable


def measured(model: Switchable, reference: Reference, progress: Callable[[int, int], None]) -> dict[str, float]:
    """Return for each layer the output's SQNR in dB with that layer quantized, and no other.

    Takes as many runs over the batches as there are layers.
    """
    found = {}
    for done, name in enumerate(model.names):
        progress(done, len(model.names))
        found[name] = reference.sqnr_db(model.arrange({name: "nvfp4"}))
    model.arrange({})
    return found
