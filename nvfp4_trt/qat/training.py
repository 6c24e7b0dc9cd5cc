"""The two functions around a training loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvfp4_trt.calibration import input_amaxes
from nvfp4_trt.qat.prepare import convert_module, known_amaxes, prepare_module
from nvfp4_trt.recipe import DEFAULT_RECIPE, Recipe, load_recipe

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from nvfp4_trt.loading import Batch
    from nvfp4_trt.quantization import QuantizedModel


def prepare_qat(
    model: nn.Module,
    recipe: str | Path | Recipe = DEFAULT_RECIPE,
    *,
    inputs: Iterable[Batch] | None = None,
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
        inputs: as for `quantize`; a static recipe needs them or `amaxes`. Its scales are those of `model` as it is
            now, and stay.
        amaxes: amax(|input|) by layer, instead of `inputs`: `qat_state(model).amaxes` of a run that is resumed.
        only: as for `quantize`.
        exclude: as for `quantize`.

    Returns:
        `model` itself.

    Raises:
        PreparedAlreadyError: it is prepared.
        RecipeInvalidError, PatternMatchesNothingError, NothingToQuantizeError: see `quantize_module`.
        InputsMissingError, NonfiniteCalibrationError: a static recipe and its inputs, or its `amaxes`.
    """
    batches = () if inputs is None else inputs
    chosen = load_recipe(recipe).with_patterns(only, exclude)

    def calibrate(root: nn.Module, names: tuple[str, ...]) -> Mapping[str, float]:
        return input_amaxes(root, names, batches, chosen) if amaxes is None else known_amaxes(names, amaxes)

    prepare_module(model, chosen, calibrate=calibrate)
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
