"""What is done to a float model before it is quantized: it computes the same afterwards, and quantizes better.

Each transform rewrites linear layers in place: their weights become others, and what makes good for that is done
by hooks, with the buffers of `BUFFERS`. Whatever replaces a layer takes over both (`carry_over`), so calibration,
weight methods and the exporter see the rewritten model and need not know of transforms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvfp4_trt.errors import InputsMissingError
from nvfp4_trt.quantization.transforms import low_rank, smoothing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import nn

    from nvfp4_trt.loading import Batch
    from nvfp4_trt.recipe import Recipe

__all__ = ["BUFFERS", "transform"]

BUFFERS = (*smoothing.BUFFERS, *low_rank.BUFFERS)


def transform(
    root: nn.Module, names: Sequence[str], recipe: Recipe, batches: Iterable[Batch] | None
) -> Mapping[str, str]:
    """Apply the transforms of a recipe to layers of a module, in place.

    Args:
        root: the float module, its attention opened.
        names: the layers that will be quantized.
        recipe: with `smooth`, `weights.low_rank`, both or none.
        batches: calibration inputs by the names of the forward's parameters; they are run once for each transform.

    Returns:
        By name, why a layer was left as it is.

    Raises:
        InputsMissingError: there are no batches, or none reaches a layer.
        InputsMismatchError, ModelRunError: the module raised on a batch.
        NonfiniteCalibrationError: NaN or infinity entered a layer.
    """
    if not recipe.transforms:
        return {}
    held = [] if batches is None else list(batches)
    if not held:
        raise InputsMissingError(
            f"{recipe.transforms[0]} looks at what enters the layers, and no batch was given", "give --inputs"
        )
    left: dict[str, str] = {}
    if recipe.smooth is not None:
        left |= smoothing.smooth(root, names, recipe.smooth, held)
    if recipe.weights.low_rank:
        left |= low_rank.split_off(root, names, recipe.weights.low_rank, recipe.activations.scaling, held)
    return left
