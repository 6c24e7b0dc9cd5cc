"""Quantizing a module in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvfp4_trt.calibration import Calibration, calibrator_for, given_calibration, recipe_for
from nvfp4_trt.errors import RecipeInvalidError
from nvfp4_trt.loading import SourceKind
from nvfp4_trt.loading.hashing import hash_module
from nvfp4_trt.qat import refuse_prepared
from nvfp4_trt.quantization import QuantizedModel, quantize_module
from nvfp4_trt.recipe import Recipe, WeightMethod

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from torch import nn

    from nvfp4_trt.loading import Batch


def quantize(
    model: nn.Module,
    recipe: str | Path | Recipe | None = None,
    *,
    inputs: Iterable[Batch] | None = None,
    calibration: str | Path | Calibration | None = None,
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
    fp8: Sequence[str] = (),
    weights: str | None = None,
    inplace: bool = False,
) -> QuantizedModel:
    """Quantize a module's linear layers to NVFP4 or FP8.

    Args:
        model: any module. It is copied, unless `inplace`.
        recipe: a built-in name, a YAML file, or a `Recipe`; by default the calibration's, or w4a4-dynamic-token.
        inputs: calibration batches, by the names of the forward's parameters; a static recipe needs them, or
        calibration: what `calibrate` returned, or its file.
        only: patterns of the layers to quantize, instead of the recipe's.
        exclude: patterns of layers to leave as they are, beside the recipe's.
        fp8: patterns of layers to make FP8 instead, beside the recipe's.
        recipe: a built-in name, a YAML file, or a `Recipe`.
        inputs: calibration batches, by the names of the forward's parameters; a static recipe and the weight
            methods with `gptq` need them.
        only: patterns of the layers to quantize, instead of the recipe's.
        exclude: patterns of layers to leave as they are, beside the recipe's.
        weights: the weight method of all layers, instead of the recipe's.
        inplace: change `model` itself, which saves the memory of a copy.

    Returns:
        The quantized module, which runs on CPU and CUDA, and the table of its layers.

    Raises:
        RecipeInvalidError, PatternMatchesNothingError, NothingToQuantizeError, NonfiniteWeightError:
            see `quantize_module`.
        InputsMissingError, NonfiniteCalibrationError: a static recipe and its inputs.
        CalibrationInvalidError, CalibrationMismatchError: a calibration that is broken, or not of this model.
        PreparedAlreadyError: the model is prepared for training.
    """
    refuse_prepared(model, "its weights are still trained")
    given = given_calibration(calibration)
    chosen = recipe_for(recipe, given).with_patterns(only, exclude, fp8)
    if given is not None:
        given.check_recipe(chosen)
    chosen = chosen if weights is None else chosen.with_method(weight_method(weights))
    if given is not None and given.source_kind is SourceKind.MODULE:
        given.check_belongs(SourceKind.MODULE, hash_module(model))
    batches = () if inputs is None else inputs
    if chosen.transforms or chosen.weights.needs_inputs:  # which run the batches too
        batches = list(batches)
    calibrator = calibrator_for(chosen, given, batches)
    return quantize_module(model, chosen, calibrate=calibrator, inputs=batches, inplace=inplace)


def weight_method(name: str) -> WeightMethod:
    """Return the weight method of that name.

    Raises:
        RecipeInvalidError: there is none.
    """
    try:
        return WeightMethod(name)
    except ValueError:
        raise RecipeInvalidError(
            f"{name!r} is not a weight method", f"choose one of {', '.join(WeightMethod)}"
        ) from None
