"""The first place where two backends that compute the same are apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvfp4_trt.comparison.layer_result import Disagreement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nvfp4_trt.comparison.layer_result import LayerMetrics
    from nvfp4_trt.comparison.result import OutputMetrics

ONNX = "onnxruntime"
"""The file's name among the backends."""


def first_disagreement(
    rows: Sequence[LayerMetrics], outputs: Sequence[OutputMetrics], bound_db: float
) -> Disagreement | None:
    """Return the first place where torch and the file, or else another backend, are apart by more than a bound.

    Each place was given what torch has in front of it, so that one fault is seen at one place, and a code that
    takes its neighbour is not carried into the layers behind.

    Args:
        rows: the layers, in the order of execution.
        outputs: of the model's outputs, from torch's outputs of all layers.
        bound_db: SQNR; below it, or NaN, is apart.
    """
    names = dict.fromkeys(name for row in rows for name in row.backends)
    for backend in names:
        for row in rows:
            near = row.backends[backend].agreement if backend in row.backends else None
            if near is None:
                continue
            for where, metrics in (("between", near.between), ("layer", near.layer)):
                stored = near.stored if where == "layer" else ()
                if stored or (metrics is not None and not metrics.sqnr_db >= bound_db):
                    found = near.layer if metrics is None else metrics
                    return Disagreement(backend, row.name, where, _number(found.sqnr_db), stored)
        for metrics in outputs if backend == ONNX else ():
            if not metrics.sqnr_db >= bound_db:
                return Disagreement(backend, metrics.name, "outputs", _number(metrics.sqnr_db))
    return None


def _number(value: float) -> float | None:
    return value if value == value else None  # noqa: PLR0124 (NaN)
