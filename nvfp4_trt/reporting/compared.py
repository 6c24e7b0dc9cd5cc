"""Comparisons, as the report has them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nvfp4_trt.reporting.data import Error, Output

if TYPE_CHECKING:
    from collections.abc import Collection

    from nvfp4_trt.comparison import Comparison, LayerComparison

_FILE, _TORCH = "onnxruntime", "torch"


def outputs_of(result: Comparison) -> tuple[Output, ...]:
    """Return the errors of the outputs."""
    return tuple(
        Output(
            name=each.name,
            sqnr_db=_finite(each.sqnr_db),
            cosine=_finite(each.cosine),
            max_abs_error=_finite(each.max_abs_error),
        )
        for each in result.outputs
    )


def errors_of(result: LayerComparison, names: Collection[str]) -> dict[str, Error]:
    """Return each layer's error in the file; of a layer that is called several times, that of its worst call.

    Args:
        result: of the comparison layer by layer.
        names: of the layers.
    """
    found: dict[str, Error] = {}
    for each in result.layers:
        name = each.name if each.name in names else each.name.rpartition("@")[0]
        backend = each.backends.get(_FILE) or each.backends[_TORCH]
        error = Error(
            sqnr_db=_finite(backend.output.sqnr_db),
            cosine=_finite(backend.output.cosine),
            max_abs_error=_finite(backend.output.max_abs_error),
            own_sqnr_db=None if backend.own is None else _finite(backend.own.sqnr_db),
        )
        if name not in found or _worse(error, found[name]):
            found[name] = error
    return found


def _worse(one: Error, other: Error) -> bool:
    return one.sqnr_db is None or (other.sqnr_db is not None and one.sqnr_db < other.sqnr_db)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
