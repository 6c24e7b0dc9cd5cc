"""What a comparison found, and the thresholds it is held to."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from nvfp4_trt.errors import BelowThresholdError

if TYPE_CHECKING:
    from nvfp4_trt.comparison.layer_result import LayerComparison

SQNR_LIMIT = 300.0
"""SQNR is reported within ±300 dB, so that it is always a number: 300 where the two are equal, -300 where
the reference is all zeros and the model is not. fp32 values that differ at all stay below 200."""


def sqnr_db(signal: float, noise: float) -> float:
    """Return 10 · log10(signal / noise) of two sums of squares, dB, within ±`SQNR_LIMIT`; NaN of NaN."""
    if math.isnan(signal) or math.isnan(noise):
        return math.nan
    if noise == 0:
        return SQNR_LIMIT
    if signal == 0:
        return -SQNR_LIMIT
    return max(-SQNR_LIMIT, min(SQNR_LIMIT, 10 * (math.log10(signal) - math.log10(noise))))


@dataclass(frozen=True)
class OutputMetrics:
    """One output, over all elements of all batches; all three are NaN where the outputs hold NaN.

    Attributes:
        name: of the output, as `loading.flatten_outputs` gives it.
        sqnr_db: 10 · log10(Σ reference² / Σ (model - reference)²), dB, within ±`SQNR_LIMIT`.
        cosine: Σ reference · model / (‖reference‖ · ‖model‖); 1 where both are all zeros, 0 where one is.
        max_abs_error: max |model - reference|.
    """

    name: str
    sqnr_db: float
    cosine: float
    max_abs_error: float


@dataclass(frozen=True)
class Comparison:
    """A model's outputs against a reference's.

    Attributes:
        outputs: in the reference's order.
        batches: how many were run.
        reference: what was compared with, such as `bert.pt`.
        model: the file.
        dtypes: of outputs that are floating in both and not of one dtype, that in the reference and in the file.
        layers: the same layer by layer, where that was asked for.
    """

    outputs: tuple[OutputMetrics, ...]
    batches: int
    reference: str
    model: str
    dtypes: dict[str, tuple[str, str]] = field(default_factory=dict)
    layers: LayerComparison | None = None

    def check(
        self,
        min_sqnr: float | None = None,
        min_cosine: float | None = None,
        max_abs_error: float | None = None,
    ) -> None:
        """Hold every output to the thresholds that are given; NaN fails with and without them.

        Args:
            min_sqnr: dB.
            min_cosine: from -1 to 1.
            max_abs_error: in the outputs' unit.

        Raises:
            BelowThresholdError: an output is past a threshold (the first such), or holds NaN.
        """
        for output in self.outputs:
            if math.isnan(output.sqnr_db):
                raise self._broken(output)
            if min_sqnr is not None and output.sqnr_db < min_sqnr:
                raise self._past(output, "SQNR", f"{output.sqnr_db:.2f} dB", f"at least {min_sqnr:g} dB")
            if min_cosine is not None and output.cosine < min_cosine:
                raise self._past(output, "cosine", f"{output.cosine:.6f}", f"at least {min_cosine:g}")
            if max_abs_error is not None and output.max_abs_error > max_abs_error:
                found = f"{output.max_abs_error:.6g}"
                raise self._past(output, "largest error", found, f"at most {max_abs_error:g}")

    def _broken(self, output: OutputMetrics) -> BelowThresholdError:
        arose = "; ".join(str(each) for each in (self.layers.nonfinite if self.layers else ()))
        return BelowThresholdError(
            f"{self.model}: the output {output.name} holds NaN, or an infinity that one run has only"
            + (f"; {arose}" if arose else ""),
            f"look for overflow: run {self.reference} by itself on these inputs, and try others"
            + ("" if self.layers else "; --per-layer says where it arose"),
        )

    def _past(self, output: OutputMetrics, metric: str, found: str, wanted: str) -> BelowThresholdError:
        return BelowThresholdError(
            f"{self.model}: the {metric} of the output {output.name} is {found}, and was to be {wanted}",
            "keep sensitive layers as they are with --exclude, try another recipe, or change the threshold",
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison as strict JSON takes it: a metric that is NaN becomes None."""
        rows = [
            {key: None if value != value else value for key, value in asdict(output).items()}  # noqa: PLR0124 (NaN)
            for output in self.outputs
        ]
        told: dict[str, Any] = {
            "reference": self.reference,
            "model": self.model,
            "batches": self.batches,
            "outputs": rows,
            "dtypes": {name: list(pair) for name, pair in self.dtypes.items()},
        }
        return told if self.layers is None else {**told, "per_layer": self.layers.as_dict()}
