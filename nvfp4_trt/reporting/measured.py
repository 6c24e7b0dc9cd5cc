"""What running a model told, as the report has it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nvfp4_trt.reporting.data import Error, Output

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from nvfp4_trt.comparison import Comparison, LayerComparison
    from nvfp4_trt.reporting.data import Codes, Run, Scales

_FILE, _TORCH = "onnxruntime", "torch"


@dataclass(frozen=True)
class Measured:
    """Errors against the float model, and what entered the layers; all empty where nothing was run."""

    reference: str = ""
    batches: int = 0
    inputs_from: str = ""
    input_options: tuple[str, ...] = ()
    """Those of the command line that give the inputs; none where they were in memory."""
    inputs_random: bool = False
    outputs: tuple[Output, ...] = ()
    errors: Mapping[str, Error] = field(default_factory=dict)
    """By layer."""
    activations: Mapping[str, tuple[Codes, Scales, Run | None]] = field(default_factory=dict)
    """By layer."""


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
            own_sqnr_db=_finite(backend.own.sqnr_db),
        )
        if name not in found or _worse(error, found[name]):
            found[name] = error
    return found


def _worse(one: Error, other: Error) -> bool:
    return one.sqnr_db is None or (other.sqnr_db is not None and one.sqnr_db < other.sqnr_db)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
