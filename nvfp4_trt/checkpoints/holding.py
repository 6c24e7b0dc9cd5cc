"""What the peers' formats have a place for, and the error that names what they have not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvfp4_trt.checkpoints.weights import WEIGHT_ONLY, Format, Scale
from nvfp4_trt.errors import FormatCannotHoldError
from nvfp4_trt.recipe import ActivationScaling

if TYPE_CHECKING:
    from nvfp4_trt.checkpoints.weights import Activation, StoredWeight

_SCALINGS = {
    Format.PACKED: set(ActivationScaling),
    Format.TORCHAO: set(ActivationScaling) - {ActivationScaling.DYNAMIC_TOKEN},
    Format.COMPRESSED_TENSORS: {ActivationScaling.STATIC, ActivationScaling.NONE},
    Format.MODELOPT: {ActivationScaling.STATIC, ActivationScaling.NONE},
}


def held_activation(weight: StoredWeight, to: Format) -> Activation:
    """Return how a weight's layer quantizes its input; weight-only where the checkpoint does not say.

    Raises:
        FormatCannotHoldError: the format has no such scaling, or no weights of `Conv1D` layers.
    """
    if weight.transposed:
        raise FormatCannotHoldError(
            f"{to} holds the weights of nn.Linear layers, and {weight.name} is that of a Conv1D",
            f"{Format.PACKED} holds it",
        )
    activation = weight.activation or WEIGHT_ONLY
    if activation.scaling not in _SCALINGS[to]:
        holding = [str(each) for each, known in _SCALINGS.items() if activation.scaling in known]
        raise FormatCannotHoldError(
            f"{to} has no {activation.scaling} scaling of activations, which the layer of {weight.name} has",
            f"{' and '.join(holding)} have it",
        )
    return activation


def layer_of(weight: StoredWeight, to: Format) -> str:
    """Return the name of a weight's layer.

    Raises:
        FormatCannotHoldError: the weight is not named `LAYER.weight`, as the format names its own.
    """
    layer = weight.name.removesuffix(".weight")
    if layer == weight.name:
        raise FormatCannotHoldError(
            f"{to} holds weights named LAYER.weight, and one is named {weight.name}",
            f"leave it out when packing (--exclude {weight.name!r}), or convert to {Format.PACKED}",
        )
    return layer


def scale_of(weight: StoredWeight) -> Scale:
    """Return a weight's per-tensor scale, 1 where it has a single level of scales: the same values."""
    return Scale(1.0) if weight.scale is None else weight.scale
