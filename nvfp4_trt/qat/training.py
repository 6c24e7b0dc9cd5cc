"""The two functions around a training loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvfp4_trt.calibration import Calibration, calibrator_for, given_calibration, recipe_for
from nvfp4_trt.qat.prepare import convert_module, known_amaxes, prepare_module

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from nvfp4_trt.loading import Batch
    from nvfp4_trt.quantization import QuantizedModel
    from nvfp4_trt.recipe import Recipe


def prepare_qat(
    model: nn.Module,
    recipe: str | Path | Recipe | None = None,
    *,
    inputs: Iterable[Batch] | None = None,
    calibration: str | Path | Calibration | None = None,
    amaxes: Mapping[str, float] | None = None,
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> nn.Module:
    """Prepare a module for quantization-aware training, in place: it computes as its quantized form will.

    Weights and activations are rounded to NVFP4 in each forward pass, and gradients pass straight through the
    rounding. Parameters stay the same objects and the state dict keeps its names, so optimizers and checkpoints of
    the float model go on. Prepare before wrapping (`DistributedDataParallel`, `torch.compile`).

    Args:
        model: any module.
        recipe: as for `quantize`.
        inputs: as for `quantize`; a static recipe needs them, `calibration` or `amaxes`. Its scales are those of
            `model` as it is now, and stay.
        calibration: what `calibrate` returned, or its file. The model may have been trained since.
        amaxes: amax(|input|) by layer: `qat_state(model).amaxes` of a run that is resumed.
        only: as for `quantize`.
        exclude: as for `quantize`.

    Returns:
        `model` itself.

    Raises:
        PreparedAlreadyError: it is prepared.
        RecipeInvalidError, PatternMatchesNothingError, NothingToQuantizeError: see `quantize_module`.
        InputsMissingError, NonfiniteCalibrationError: a static recipe and its inputs, or its `amaxes`.
        CalibrationInvalidError, CalibrationMismatchError: a calibration that is broken, or not of these layers.
    """
    known = given_calibration(calibration)
    chosen = recipe_for(recipe, known).with_patterns(only, exclude)
    if known is not None:
        known.check_recipe(chosen)
    calibrator = calibrator_for(chosen, known, () if inputs is None else inputs)
    if amaxes is not None:
        calibrator = lambda _root, names: known_amaxes(names, amaxes)  # noqa: E731 (one of two, as the other is made)
    prepare_module(model, chosen, calibrate=calibrator)
    return model


def convert_qat(model: nn.Module) -> QuantizedModel:
    """Return the quantized form of a module that `prepare_qat` prepared, with the weights that it has by now.

    Args:
        model: what `prepare_qat` was given; it is left as it is, and can be trained further.

    Returns:
        The quantized module in evaluation mode: on the same device it gives the very numbers that `model` gives in
        evaluation mode. `export` takes it, and `save` writes it.

    Raises:
        NotPreparedError: the module is not prepared.
        NonfiniteWeightError: a weight holds NaN or infinity.
    """
    return convert_module(model)
