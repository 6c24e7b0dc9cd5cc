"""The PyTorch models that `polygraphy run` is given, loaded and quantized as `nvfp4-trt export` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvfp4_trt.api.sources import cast, example_inputs
from nvfp4_trt.calibration import calibrator_for, given_calibration
from nvfp4_trt.checkpoints import is_checkpoint, load_checkpoint
from nvfp4_trt.errors import InputsMissingError, NotAModelError, NotOurOnnxError
from nvfp4_trt.loading import load_model
from nvfp4_trt.portable import load as load_portable
from nvfp4_trt.quantization import quantize_module
from nvfp4_trt.recipe import DEFAULT_RECIPE, ActivationScaling, Recipe, load_recipe

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn


def quantized_model(
    path: Path,
    onnx: Path,
    *,
    recipe: str | None = None,
    factory: str | None = None,
    inputs: str | None = None,
    calibration: str | None = None,
    dtype: str | None = None,
    trust_pickle: bool = False,
) -> nn.Module:
    """Load a model and quantize it, or a checkpoint that is quantized already.

    Args:
        path: see `extension.runners.quantized_runner`.
        onnx: whose recipe is taken, where it has one and `recipe` is None.
        recipe: a built-in name or a YAML file.
        factory: `package.module:function` that makes the module of a state dict.
        inputs: a file, or `package.module:function`, for recipes that look at inputs.
        calibration: a file of static scales.
        dtype: to cast the model to first.
        trust_pickle: let the file run code.

    Raises:
        Nvfp4Error: those of loading, calibrating and quantizing.
        InputsMissingError: the recipe looks at inputs, and there are none.
    """
    if is_checkpoint(path):
        given = None if recipe is None else load_recipe(recipe)
        held = load_checkpoint(path, factory=factory, recipe=given).quantized.module
        return cast(held, (), dtype, copy=False)[0].eval()
    known = given_calibration(calibration)
    chosen = _recipe(recipe, onnx) if known is None or recipe is not None else known.recipe
    uncalibrated = chosen.activations.scaling is ActivationScaling.STATIC and known is None
    if inputs is None and (chosen.weights.needs_inputs or chosen.transforms or uncalibrated):
        raise InputsMissingError(
            f"the recipe {chosen.name} looks at inputs, and --nvfp4-torch was given none",
            "give --nvfp4-inputs, or --nvfp4-calibration for static scales; or a checkpoint of the quantized one",
        )
    loaded = load_model(path, factory=factory, trust_pickle=trust_pickle)
    batches = () if inputs is None else example_inputs(loaded, inputs, (), 0).batches
    module, batches = cast(loaded.module, batches, dtype, copy=False)
    calibrate = calibrator_for(chosen, known, batches)
    return quantize_module(module, chosen, calibrate=calibrate, inputs=batches, inplace=True).module.eval()


def float_model(
    path: Path,
    *,
    factory: str | None = None,
    dtype: str | None = None,
    trust_pickle: bool = False,
    **_quantizing: str | None,
) -> nn.Module:
    """Load a model as it is.

    Args: and raises: see `quantized_model`; what concerns quantizing is ignored.
    """
    loaded = load_model(path, factory=factory, trust_pickle=bool(trust_pickle))
    return cast(loaded.module, (), dtype, copy=False)[0].eval()


def _recipe(given: str | None, onnx: Path) -> Recipe:
    if given is not None:
        return load_recipe(given)
    try:
        return Recipe.model_validate(load_portable(onnx)[1].recipe)
    except (NotOurOnnxError, NotAModelError):
        return load_recipe(DEFAULT_RECIPE)
