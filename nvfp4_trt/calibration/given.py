"""A calibration that is given to a quantization: read, held against the recipe, and turned into scales."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nvfp4_trt.calibration.calibrate import input_amaxes
from nvfp4_trt.calibration.result import Calibration
from nvfp4_trt.loading.hashing import hash_batches
from nvfp4_trt.recipe import DEFAULT_RECIPE, ActivationScaling, Recipe, load_recipe, refuse_transforms

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nvfp4_trt.loading import Batch
    from nvfp4_trt.quantization import QuantizedModel
    from nvfp4_trt.quantization.convert import Calibrator

_SCALE = "input_quantizer.scale"


def given_calibration(given: str | Path | Calibration | None) -> Calibration | None:
    """Return a calibration, read where it is a path.

    Raises:
        FileMissingError, CalibrationInvalidError: see `Calibration.load`.
    """
    return Calibration.load(given) if isinstance(given, (str, Path)) else given


def recipe_for(given: str | Path | Recipe | None, calibration: Calibration | None) -> Recipe:
    """Return the recipe that was asked for, or a calibration's own."""
    if given is None and calibration is not None:
        return calibration.recipe
    return load_recipe(DEFAULT_RECIPE if given is None else given)


def looked_at(quantized: QuantizedModel, batches: Sequence[Batch]) -> dict[str, str]:
    """Return hashes of what a quantization found on inputs, and of the inputs where that is all that tells.

    Two quantizations of one model by one recipe with equal hashes have equal bytes.

    Args:
        quantized: the model.
        batches: its inputs.

    Returns:
        `scales`: of the static scales of activations, whether inputs or a calibration gave them; `inputs`: of the
        batches, for weight methods and transforms that look at them. Each only where the recipe asks for such.
    """
    recipe, found = quantized.recipe, {}
    if recipe.activations.scaling is ActivationScaling.STATIC:
        state = quantized.module.state_dict()
        found["scales"] = hash_batches([{name: state[name] for name in state if name.endswith(_SCALE)}])
    if recipe.weights.needs_inputs or recipe.transforms:
        found["inputs"] = hash_batches(batches)
    return found


def calibrator_for(recipe: Recipe, calibration: Calibration | None, batches: Iterable[Batch]) -> Calibrator:
    """Return what gives a quantization its static scales: the calibration, or else the batches.

    Raises:
        RecipeInvalidError: a calibration, and a recipe that transforms the model first.
    """
    if calibration is not None:
        refuse_transforms(recipe, "the calibration is of the model without it")
        return lambda _root, names: calibration.amaxes(names)
    return lambda root, names: input_amaxes(root, names, batches, recipe)
