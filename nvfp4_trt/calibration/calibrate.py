"""Calibrating a module: which layers, what they see, and the scales that follow."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING

import numpy as np

from nvfp4_trt.calibration.alone import Alone
from nvfp4_trt.calibration.collect import collect
from nvfp4_trt.calibration.observers import amax_of, observer_of
from nvfp4_trt.calibration.result import Calibration, LayerCalibration
from nvfp4_trt.calibration.state import StateFile
from nvfp4_trt.calibration.statistics import lower_edges, percentile_bin
from nvfp4_trt.errors import RecipeInvalidError
from nvfp4_trt.loading.stored import releasing
from nvfp4_trt.quantization.convert import open_attention
from nvfp4_trt.quantization.select import select
from nvfp4_trt.recipe import MOST_RATIO, ActivationScaling, refuse_transforms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from torch import nn

    from nvfp4_trt.calibration.statistics import Statistics
    from nvfp4_trt.layers import Layer
    from nvfp4_trt.loading import Batch, LoadedModel
    from nvfp4_trt.recipe import Recipe


def input_amaxes(
    module: nn.Module, names: Sequence[str], batches: Iterable[Batch], recipe: Recipe
) -> dict[str, float]:
    """Run every batch and return, of each named layer, the largest magnitude that its static scale is for.

    Args:
        module: the unquantized module, in evaluation mode.
        names: qualified names of layers that take their activation as first argument.
        batches: inputs by the names of the forward's parameters; any number above zero. Their order, and how
            rows are shared out between them, make no difference to what is counted.
        recipe: static; names the observer, which is `max` for the layers that it makes FP8.

    Raises:
        InputsMissingError, InputsMismatchError, ModelRunError, NonfiniteCalibrationError: see `collect`.
    """
    wanted = observer_of(recipe.activations).wants
    totals = collect(module, names, batches, wanted, ranks=Alone())
    fp8 = {layer.name for layer in select(module, recipe) if layer.is_fp8}
    return {name: amax_of(seen, recipe.activations, fp8=name in fp8) for name, seen in totals.items()}


def calibrate_model(
    loaded: LoadedModel,
    module: nn.Module,
    recipe: Recipe,
    batches: Iterable[Batch],
    *,
    ranks: Alone,
    sharded: bool = False,
    state: Path | None = None,
    progress: Callable[[int], None] | None = None,
    inplace: bool = False,
) -> Calibration:
    """Find the static activation scales of a model; with several ranks, each returns the same.

    Args:
        loaded: what the model was loaded from.
        module: its module, in evaluation mode, cast and moved as it is to run.
        recipe: with static scaling.
        batches: inputs by the names of the forward's parameters; of all ranks, or of this one if `sharded`.
        ranks: this process's place among several.
        sharded: whether `batches` are this rank's own.
        state: the file of an unfinished calibration; it is written every half minute and at the end.
        progress: called with the number of batches that this rank has run.
        inplace: open attention in `module` itself; otherwise in a deep copy.

    Raises:
        RecipeInvalidError: the recipe has no static scaling, or transforms.
        PatternMatchesNothingError, NothingToQuantizeError: see `select`.
        RanksDisagreeError: another rank was started on something else.
        Nvfp4Error: what `collect` raises.
    """
    if recipe.activations.scaling is not ActivationScaling.STATIC:
        raise RecipeInvalidError(
            f"the recipe {recipe.name} scales activations {recipe.activations.scaling}: nothing is calibrated",
            "choose w4a4-static, or a recipe with `activations: {scaling: static}`",
        )
    refuse_transforms(recipe, "a calibration file is of the model without it")
    root = open_attention(module if inplace else copy.deepcopy(module))
    layers = [layer for layer in select(root, recipe) if layer.quantized]
    names = [layer.name for layer in layers]
    identity = {
        "model": loaded.sha256,
        "layers": json.dumps(names),
        "recipe": recipe.model_dump_json(),
        "dtype": str(next(root.parameters()).dtype),
        "sharding": str(sharded),
    }
    ranks.agree(identity)
    kept = None if state is None else StateFile(state, identity, ranks.rank, ranks.count)
    with releasing(root):
        totals = collect(
            root,
            names,
            batches,
            observer_of(recipe.activations).wants,
            ranks=ranks,
            sharded=sharded,
            state=kept,
            progress=progress,
        )
    return Calibration(
        source_kind=loaded.kind,
        source_sha256=loaded.sha256,
        recipe=recipe,
        layers=tuple(_found(layer, totals[layer.name], recipe) for layer in layers),
    )


def _found(layer: Layer, seen: Statistics, recipe: Recipe) -> LayerCalibration:
    amax = amax_of(seen, recipe.activations, fp8=layer.is_fp8)
    blocks, lower = seen.blocks.copy(), lower_edges()
    blocks[0] = 0
    above = lower >= (np.float32(amax) if amax < seen.largest else np.inf)
    return LayerCalibration(
        name=layer.name,
        amax=amax,
        largest=seen.largest,
        median=float(lower[percentile_bin(blocks, 50)]) if blocks.any() else 0.0,
        blocks=int(blocks.sum()),
        saturated=int(blocks[above].sum()),
        subnormal=int(blocks[lower < amax / MOST_RATIO].sum()),
    )
