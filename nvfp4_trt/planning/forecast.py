"""The engines of one model that do not depend on a GPU: each precision and variant, predicted once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvfp4_trt.building.profiles import complete_ranges, make_profile
from nvfp4_trt.building.variants import Variant, variants
from nvfp4_trt.passes import fix_dims, missing_rows, quantized_rows
from nvfp4_trt.planning.extended import WORTH, extend, portions
from nvfp4_trt.planning.predict import Predicted, predict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Literal

    import onnx_ir as ir

    from nvfp4_trt.building.profiles import InputProfile, Range
    from nvfp4_trt.building.variants import Optimize
    from nvfp4_trt.planning.result import Precision

    Shape = tuple[int, ...]


class Forecast:
    """What engines of a model would be.

    Args:
        model: a portable model; it stays as it is, and no weight of it is read.
        ranges: of its dynamic dimensions, as far as they are given.
        examples: shapes that it was exported with, for those that are not.
        optimize: which variants of NVFP4 the builder would try.
        repeated: how many blocks that are alike a model has at least where only some of them are planned.

    Raises:
        InputSpecError, ProfileError: a range does not fit.
    """

    def __init__(
        self,
        model: ir.Model,
        ranges: Mapping[str, Range],
        examples: Mapping[str, Sequence[int]],
        optimize: Optimize,
        *,
        repeated: int = WORTH,
    ) -> None:
        self._model, self._examples, self._optimize = model, examples, optimize
        self._ranges = complete_ranges(model.graph.inputs, ranges, examples)
        self._portions = portions(model, at_least=repeated)
        self._predicted: dict[tuple[Precision, Variant], Predicted] = {}
        self._memory: dict[tuple[Precision, Variant], tuple[int, int]] = {}

    def candidates(self, precision: Precision) -> list[Predicted]:
        """Return the engines of a precision that the builder would choose from, the plain one first."""
        optimize = self._optimize if precision == "nvfp4" else "off"
        tried = variants(optimize, self._ranges, odd_rows=self._odd_rows())
        return [self.predicted(precision, variant) for variant in tried]

    def predicted(self, precision: Precision, variant: Variant) -> Predicted:
        """Return an engine.

        Raises:
            OnnxInvalidError: see `predict`.
        """
        key = (precision, variant)
        if key not in self._predicted:
            self._predicted[key] = self._by_blocks(precision, variant) or self._of(self._model, precision, variant)
        return self._predicted[key]

    def memory(self, predicted: Predicted) -> tuple[int, int]:
        """Return the bytes of an engine's activations, and of its inputs and outputs, at the largest shape."""
        key = (predicted.precision, predicted.variant)
        if key not in self._memory:
            self._memory[key] = predicted.memory(self._profile(predicted.variant))
        return self._memory[key]

    def shapes(self, at: Literal["opt", "max"]) -> dict[str, Shape]:
        """Return the shapes of the inputs at the optimum or at the largest."""
        profile, found = self._profile(Variant()), {}
        for value in self._model.graph.inputs:
            if value.name is None or value.name in self._model.graph.initializers:
                continue
            fixed = tuple(dim for dim in value.shape or () if isinstance(dim, int))
            found[value.name] = getattr(profile[value.name], at) if value.name in profile else fixed
        return found

    def _by_blocks(self, precision: Precision, variant: Variant) -> Predicted | None:
        """Put an engine together from fewer blocks; None where the model has none that are alike."""
        if self._portions is None:
            return None
        fewer = self._of(self._portions.fewer, precision, variant)
        return extend(fewer, self._of(self._portions.more, precision, variant), self._portions)

    def _of(self, model: ir.Model, precision: Precision, variant: Variant) -> Predicted:
        return predict(model.clone(), precision, variant, self._ranges, self._profile(variant))

    def _profile(self, variant: Variant) -> dict[str, InputProfile]:
        return make_profile(self._model.graph.inputs, variant.ranges(self._ranges), self._examples)

    def _odd_rows(self) -> bool:
        """Tell whether a known number of rows is no multiple of 128, as the builder does."""
        extents = Variant().extents(self._ranges)
        if len(extents) < len(self._ranges):
            return False
        model = (self._model if self._portions is None else self._portions.fewer).clone()
        fix_dims(model, extents)
        return missing_rows(max(quantized_rows(model.graph), default=0)) > 0
